"""Unattended runs: state, backlog, findings, sinks, the runbook."""
