"""Where a network can be cut into blocks."""
