"""`PhaseScheduler.fit`: phases with a frozen trunk train on features that are computed once."""
