"""Everything of Keras that this package replaces, and how it is put back."""
