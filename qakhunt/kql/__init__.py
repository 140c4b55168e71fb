"""The language: tokens, syntax tree with spans, literals, values, table schemas."""
