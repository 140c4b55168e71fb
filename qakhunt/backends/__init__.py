"""The services and the embedded engine, each loaded by name; sign-in, transport, recordings."""
