"""What is tracked of one model while it trains."""
