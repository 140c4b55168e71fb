"""The language: tokens, literals, time values, table schemas."""
