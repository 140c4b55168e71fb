"""Configuration, plan and execution: from a request to the result of a run."""
