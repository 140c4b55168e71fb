"""Evidence for a change: test cases, comparison, mutants, lint; the emulator."""
