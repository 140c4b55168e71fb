"""Configuration, plan and execution: from a request to the account of a run."""
