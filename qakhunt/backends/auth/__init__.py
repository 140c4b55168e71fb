"""Signing in to Entra ID."""
