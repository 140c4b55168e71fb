"""Constructs that the translator does not know, rewritten on the syntax tree before it.

``spelling`` and ``functions`` need the text alone and work until nothing changes;
``plan`` then walks the pipelines with the columns of each step at hand.
"""
