"""Observing one training run: the callback `BNGuard`, and `audit`."""
