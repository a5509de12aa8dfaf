"""Outputs of a frozen backbone, computed once: `precompute_features`."""
