"""What is asked: hunt files, parameters, windows, rendering."""
