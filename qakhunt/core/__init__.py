"""Errors, checked documents, streams, safe text and writing files: what every room uses."""
