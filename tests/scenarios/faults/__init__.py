"""Real runs with one fault each, and the same run without it."""
