"""A plot of a scheduled run: phases, losses, learning rate and trainable share by epoch."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

from keras_bnguard.errors import MissingExtraError


def plot_phases(rows: Sequence[Mapping[str, Any]], path: Optional[str] = None) -> Any:
    """Draw the rows of `PhaseScheduler.history` above each other, with one axis of epochs.

    Args:
        rows: one mapping per epoch, as `PhaseScheduler.history` describes.
        path: where to save it. Defaults to None: nowhere.

    Returns:
        The `matplotlib.figure.Figure`; no window is opened.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingExtraError(
            "plot() needs matplotlib. Install it: pip install 'keras_bnguard[report]'."
        ) from error
    figure = Figure(figsize=(8.0, 6.0), layout="constrained")
    losses, learning_rates, shares = figure.subplots(3, 1, sharex=True)
    epochs = [row["epoch"] + 1 for row in rows]
    for name in ("loss", "val_loss"):
        if any(name in row["logs"] for row in rows):
            values = [row["logs"].get(name, float("nan")) for row in rows]
            losses.plot(epochs, values, marker="o", markersize=3, label=name)
    losses.set_ylabel("loss")
    if losses.lines:
        losses.legend(loc="upper right")
    known = [float("nan") if row["learning_rate"] is None else row["learning_rate"] for row in rows]
    learning_rates.step(epochs, known, where="mid")
    learning_rates.set_ylabel("learning rate")
    if any(value > 0 for value in known):
        learning_rates.set_yscale("log")
    shares.step(epochs, [100.0 * row["trainable_share"] for row in rows], where="mid")
    shares.set_ylabel("trainable, %")
    shares.set_ylim(0, 105)
    shares.set_xlabel("epoch")
    shares.xaxis.set_major_locator(MaxNLocator(integer=True))
    for place, (name, first, final) in enumerate(_spans(rows)):
        for axes in (losses, learning_rates, shares):
            axes.axvspan(first - 0.5, final + 0.5, alpha=0.08 + 0.1 * (place % 2), linewidth=0)
        losses.text((first + final) / 2, 1.01, name, transform=losses.get_xaxis_transform(),
                    ha="center", va="bottom")  # fmt: skip
    if path is not None:
        figure.savefig(path)
    return figure


def _spans(rows: Sequence[Mapping[str, Any]]) -> List[Tuple[str, int, int]]:
    """(phase, first epoch, last epoch) of each run of epochs of one phase."""
    spans: List[Tuple[str, int, int]] = []
    for row in rows:
        if spans and spans[-1][0] == row["phase"]:
            spans[-1] = (spans[-1][0], spans[-1][1], row["epoch"] + 1)
        else:
            spans.append((row["phase"], row["epoch"] + 1, row["epoch"] + 1))
    return spans
