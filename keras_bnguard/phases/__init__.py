"""Freezing and unfreezing in phases: `PhaseScheduler` and what it consists of."""
