"""Who answers; loaded by name, one at a time."""
