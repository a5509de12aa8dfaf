"""Values of a model: reading, probing, restoring, averaging."""
