"""Everything an operator uploads to Azure Automation, made on any machine."""
