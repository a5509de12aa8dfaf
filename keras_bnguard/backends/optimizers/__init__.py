"""The optimizer objects of Keras: what they keep, and how to re-create them."""
