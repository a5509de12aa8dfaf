"""Freezing and unfreezing in phases: `PhaseScheduler` and all it consists of."""
