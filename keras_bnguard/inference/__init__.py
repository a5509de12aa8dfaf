"""Forced inference mode: the `train_step` override and `force_inference`."""
