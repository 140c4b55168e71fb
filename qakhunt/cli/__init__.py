"""The command line and ``import qakhunt``: thin shells around the library."""
