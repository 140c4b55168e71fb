"""What a result means: hits, commands, techniques."""
