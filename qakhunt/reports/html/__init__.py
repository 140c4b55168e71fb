"""The report as one self-contained HTML file: no script, nothing loaded from anywhere."""
