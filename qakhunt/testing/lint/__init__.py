"""Lint of hunts: rules with codes, findings at their place, fixes."""
