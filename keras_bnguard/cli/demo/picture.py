"""The demo's picture: accuracy per epoch on the left, drift per BN on the right."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np

from keras_bnguard.cli.demo.digits import missing
from keras_bnguard.cli.demo.recipe import AS_IS, FIXED, HEAD_ONLY, VARIANTS, Run
from keras_bnguard.cli.demo.summary import of_variant

# Okabe and Ito's palette, distinct for every kind of colour vision; shape and dash differ too.
COLOURS = {AS_IS: "#D55E00", FIXED: "#0072B2", HEAD_ONLY: "#595959"}
DASHES = {AS_IS: "-", FIXED: "-", HEAD_ONLY: "--"}
MARKS = {AS_IS: "o", FIXED: "s", HEAD_ONLY: "^"}


def need_matplotlib() -> None:
    """Fail before any training where the picture could not be drawn after it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise missing("matplotlib") from error


def draw(runs: Sequence[Run], path: Path, title: str) -> None:
    """Write the picture of all runs to `path`; its ending decides the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _accuracy(left, runs)
    _drift(right, runs)
    figure.savefig(path, dpi=150)


def _accuracy(axes: Any, runs: Sequence[Run]) -> None:
    head = runs[0].head_epochs
    epochs = np.arange(1, len(runs[0].accuracy) + 1)
    shared = 100 * np.array([run.accuracy[:head] for run in of_variant(runs, AS_IS)])
    _band(axes, epochs[:head], shared, "black", ":", None, "head phase, same for all")
    for variant in VARIANTS:
        values = 100 * np.array([run.accuracy for run in of_variant(runs, variant)])
        _band(
            axes,
            epochs[head - 1 :],
            values[:, head - 1 :],
            COLOURS[variant],
            DASHES[variant],
            MARKS[variant],
            variant,
        )
    axes.axvline(head + 0.5, color="0.6", linewidth=1)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.1 * (high - low))
    for x, words, side in ((head + 0.3, "head", "right"), (head + 0.7, "fine-tune", "left")):
        axes.annotate(
            words,
            (x, 0.985),
            xycoords=("data", "axes fraction"),
            ha=side,
            va="top",
            fontsize=9,
        )
    axes.set_xlim(0.5, len(epochs) + 2.0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("held-out accuracy, %")
    axes.set_title("Accuracy: mean and range over seeds", fontsize=10)
    axes.legend(loc="lower right" if head < 4 else "lower center", fontsize=9)
    axes.grid(alpha=0.3)


def _band(
    axes: Any, x: np.ndarray, values: np.ndarray, colour: str, dash: str, mark: Any, label: str
) -> None:
    axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, values.mean(0), dash, color=colour, marker=mark, markersize=5, label=label)


def _drift(axes: Any, runs: Sequence[Run]) -> None:
    variants = (AS_IS, FIXED)
    paths = list(runs[0].drift)
    width = 0.38
    place = np.arange(len(paths))
    for shift, variant in zip((-width / 2, width / 2), variants):
        values = np.array([[run.drift[p] for p in paths] for run in of_variant(runs, variant)])
        mean = values.mean(0)
        bars = axes.bar(
            place + shift,
            mean,
            width,
            color=COLOURS[variant],
            label=variant,
            yerr=(mean - values.min(0), values.max(0) - mean),
            error_kw={"linewidth": 1, "capsize": 3},
        )
        if not values.any():
            axes.bar_label(bars, ["0"] * len(paths), color=COLOURS[variant], fontsize=9)
    if axes.get_ylim()[1] < 0.1:
        axes.set_ylim(0, 1)
    axes.set_xticks(place, [path.rsplit("/", 1)[-1] for path in paths])
    axes.set_xlabel("BN layer of the backbone, first to last")
    axes.set_ylabel("mean shift, standard deviations")
    axes.set_title("Drift of the moving mean in fine-tuning", fontsize=10)
    axes.legend(fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
