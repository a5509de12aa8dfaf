"""Several processes that train one model: which one this is, and how they exchange values."""
