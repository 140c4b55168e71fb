"""Proof of a change: test cases, comparison, mutants, lint."""
