"""New moving statistics for given weights: `recalibrate` and the callback `Recalibrate`."""
