"""Kinds of data that `fit` takes, one class each."""
