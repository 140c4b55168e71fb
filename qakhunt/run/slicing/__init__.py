"""One question as many smaller ones whose answers together are exactly its answer."""
