"""A run for readers and programs: screen, reports, export formats."""
