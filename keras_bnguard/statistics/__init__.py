"""Pure NumPy: drift, EMA bias, channel health."""
