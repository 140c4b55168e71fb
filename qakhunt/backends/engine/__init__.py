"""The embedded engine: KQL over recorded events, in a sandbox.

duckdb-kql translates to SQL and DuckDB runs it. Both are imported here only, and
only when an engine is opened.
"""
