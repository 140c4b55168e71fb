"""Hunt files, parameters, windows, rendering; the catalogue of hunts and commands."""
