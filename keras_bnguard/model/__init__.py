"""What a model is and what is known of it: snapshot, graph context, expected mode, blocks."""
