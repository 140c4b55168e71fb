"""Unattended runs: what has been looked at, what is new, and who is told."""
