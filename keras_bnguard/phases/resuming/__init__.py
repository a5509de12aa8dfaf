"""Going on with a schedule: what is kept of a run, where it goes on, what may have changed."""
