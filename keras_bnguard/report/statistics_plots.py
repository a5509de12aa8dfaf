"""Pictures of statistics as matplotlib figures: drift, recalibration, mode gap."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.arguments import short_traceback
from keras_bnguard.errors import MissingExtraError, SettingError
from keras_bnguard.report.report import Report
from keras_bnguard.statistics.drift import MAX_DISTANCE

MEASURES = {
    "distance": "Bhattacharyya distance",
    "mean_shift": "shift of the moving mean, standard deviations",
    "log_variance_ratio": "change of the moving variance, |log ratio|",
}
BEFORE, AFTER, OVER = "#7f7f7f", "#1f6fb2", "#d62728"
# Layer names beside a figure; of more layers every second, third, ... one is named.
NAMES = 40


@short_traceback
def plot_drift(report: Report, measure: str = "distance", path: Optional[str] = None) -> Any:
    """Heat map of a run: BN layers by checks, coloured by how far their statistics drifted.

    Args:
        report: `guard.report` of a `BNGuard` that monitored a `fit`.
        measure: "distance" (Bhattacharyya, default), "mean_shift" (standard deviations) or
            "log_variance_ratio" (natural logarithm). Formulas in `drift.py`.
        path: where to save it, None for nowhere.

    Returns:
        The `matplotlib.figure.Figure`; it belongs to no window. The colours are logarithmic
        over the upper three decades. Distances over the limit of BNG406 have a cross. Values that
        are not finite are red, layers that were not there at a check are white.

    Raises:
        SettingError: unknown measure, or a report without a check (an audit has none).
        MissingExtraError: matplotlib is not installed.
    """
    if not hasattr(report, "drift"):
        raise SettingError(
            f"report={type(report).__name__}: expected a Report, such as guard.report of a BNGuard."
        )
    if not isinstance(measure, str) or measure not in MEASURES:
        raise SettingError(f"measure={measure!r}: expected one of {', '.join(MEASURES)}.")
    snapshots = [snapshot for snapshot in report.drift if getattr(snapshot, measure)]
    if not snapshots:
        raise SettingError(
            "this report has no drift to plot: it comes from an audit, or no check was made. "
            "Pass guard.report of a BNGuard that monitored a fit."
        )
    paths = list(dict.fromkeys(p for snapshot in snapshots for p in getattr(snapshot, measure)))
    values = np.full((len(paths), len(snapshots)), np.nan)
    broken = np.zeros(values.shape, bool)
    for column, snapshot in enumerate(snapshots):
        for row, name in enumerate(paths):
            value = getattr(snapshot, measure).get(name)
            broken[row, column] = value is not None and not np.isfinite(value)
            if value is not None and not broken[row, column]:
                values[row, column] = value
    figure = _figure((3.5 + 0.45 * min(len(snapshots), 24), 1.6 + 0.22 * min(len(paths), NAMES)))
    axes = figure.subplots()
    shown = axes.imshow(
        values, aspect="auto", cmap="Blues", norm=_scale(values), interpolation="nearest"
    )
    red = np.zeros((*values.shape, 4))
    red[broken] = (0.7, 0.15, 0.12, 1.0)
    axes.imshow(red, aspect="auto", interpolation="nearest")
    _name_rows(axes, paths)
    places = np.unique(np.linspace(0, len(snapshots) - 1, min(len(snapshots), 8)).astype(int))
    axes.set_xticks(places, [str(snapshots[i].steps) for i in places])
    axes.set_xlabel("training steps at the check")
    bar = figure.colorbar(shown, ax=axes, label=MEASURES[measure])
    figure.suptitle(f"Drift of BN statistics in {report.model}")
    if measure == "distance":
        _mark_limit(axes, bar, values)
    if broken.any():
        axes.plot([], [], "s", color=red[broken][0], label="not finite")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=2, frameon=False)
    return _saved(figure, path)


@short_traceback
def plot_recalibration(result: Any, path: Optional[str] = None) -> Any:
    """Moving mean and variance of every recalibrated BN, before and after.

    Each bar reaches from the lower to the upper quartile of a layer's channels, the dot is
    their median.

    Args:
        result: what `recalibrate` returned, or anything with `before` and `after`, mappings of
            path to `NormState`.
        path: where to save it, None for nowhere.

    Returns:
        The `matplotlib.figure.Figure`; it belongs to no window.

    Raises:
        SettingError: no BN was recalibrated. MissingExtraError: matplotlib is not installed.
    """
    if not (hasattr(result, "before") and hasattr(result, "after")):
        raise SettingError(
            f"result={type(result).__name__}: expected what recalibrate returned, such as "
            "result of a Recalibrate callback."
        )
    paths = list(result.after)
    if not paths:
        raise SettingError("no BN was recalibrated, so there is nothing to plot.")
    figure = _figure((8.0, 1.6 + 0.3 * min(len(paths), NAMES)))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("mean", "variance")):
        for states, offset, colour, label in (
            (result.before, -0.16, BEFORE, "before"),
            (result.after, 0.16, AFTER, "after"),
        ):
            quartiles = np.array(
                [np.percentile(getattr(states[p], name), (25, 50, 75)) for p in paths]
            )
            places = np.arange(len(paths)) + offset
            axes.hlines(places, quartiles[:, 0], quartiles[:, 2], color=colour, linewidth=3)
            axes.plot(quartiles[:, 1], places, "o", color=colour, markersize=4, label=label)
        axes.set_xlabel(f"moving {name}")
        axes.grid(axis="x", alpha=0.3)
    if all(np.all(np.asarray(s.variance) > 0) for m in (result.before, result.after)
           for s in m.values()):  # fmt: skip
        panels[1].set_xscale("log")
    _name_rows(panels[0], paths)
    panels[0].invert_yaxis()
    panels[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=2, frameon=False)
    figure.suptitle("Moving statistics before and after recalibration")
    return _saved(figure, path)


@short_traceback
def plot_mode_gap(gap: Any, path: Optional[str] = None) -> Any:
    """Bars of loss and metrics with batch statistics and with moving statistics in BN.

    Args:
        gap: what `mode_gap` returned.
        path: where to save it, None for nowhere.

    Returns:
        The `matplotlib.figure.Figure`, one panel a number; the line on the second bar is the
        standard error of the difference over batches. It belongs to no window.

    Raises:
        SettingError: `gap` is nothing that `mode_gap` returned.
        MissingExtraError: matplotlib is not installed.
    """
    if not (hasattr(gap, "training") and hasattr(gap, "inference")):
        raise SettingError(f"gap={type(gap).__name__}: expected what mode_gap returned.")
    names = list(gap.training)
    figure = _figure((1.2 + 2.2 * len(names), 3.2))
    panels = np.atleast_1d(figure.subplots(1, len(names)))
    for axes, name in zip(panels, names):
        values = (gap.training[name], gap.inference[name])
        error = gap.standard_error[name]
        axes.bar((0, 1), values, color=(BEFORE, AFTER), width=0.7)
        if np.isfinite(error):
            axes.errorbar(1, values[1], yerr=error, color="black", capsize=4)
        axes.set_xticks(
            (0, 1), (f"training mode\n{values[0]:.4g}", f"inference mode\n{values[1]:.4g}")
        )
        axes.set_title(f"{name}: {gap.gap(name):+.3g}")
    figure.suptitle("The same rows with BN in either mode")
    return _saved(figure, path)


def _figure(size: Tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "plots need matplotlib. Install it: pip install 'keras_bnguard[report]'."
        ) from error
    return Figure(figsize=size, layout="constrained")


def _scale(values: np.ndarray) -> Any:
    """Drift of one layer is often a hundred times that of another: equal steps of the logarithm."""
    from matplotlib.colors import LogNorm, Normalize

    top = float(np.nanmax(values)) if np.any(np.isfinite(values)) else 0.0
    return LogNorm(top / 1e3, top, clip=True) if top > 0 else Normalize(0.0, 1.0)


def _mark_limit(axes: Any, bar: Any, values: np.ndarray) -> None:
    """Mark the cells over the limit of BNG406, and the limit on the bar of colours."""
    over = np.argwhere(np.nan_to_num(values) > MAX_DISTANCE)
    if len(over):
        label = f"over the limit of BNG406, {MAX_DISTANCE:g}"
        axes.plot(over[:, 1], over[:, 0], "x", color=OVER, markersize=5, label=label)
        bar.ax.axhline(MAX_DISTANCE, color=OVER, linewidth=2)


def _name_rows(axes: Any, paths: Sequence[str]) -> None:
    every = -(-len(paths) // NAMES)
    places: List[int] = list(range(0, len(paths), every))
    axes.set_yticks(places, [paths[i] for i in places], fontsize=8)


def _saved(figure: Any, path: Optional[str]) -> Any:
    if path is not None:
        figure.savefig(path)
    return figure
