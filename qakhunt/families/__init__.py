"""The command families: what one command line means, from one data file."""
