"""Receivers of findings and heartbeats: one module per kind, one table of them."""
