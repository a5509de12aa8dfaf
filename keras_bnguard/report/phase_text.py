"""A scheduled run as text: one line per phase."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from keras_bnguard.records.shown import preformatted


def phase_lines(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `PhaseScheduler.history`, one line per phase.

    Args:
        names: of all phases, in order.
        rows: one mapping per epoch, as `PhaseScheduler.history` describes.
    """
    lines = []
    for name in names:
        epochs = [row for row in rows if row["phase"] == name]
        if not epochs:
            lines.append(f"{name}: not started")
            continue
        first, final = epochs[0], epochs[-1]
        loss, decay = final["logs"].get("loss"), final["layer_decay"]
        shown = "schedule" if final["learning_rate"] is None else f"{final['learning_rate']:.4g}"
        lines.append(
            f"{name}: epochs {first['epoch'] + 1}-{final['epoch'] + 1}, learning rate {shown}"
            + ("" if decay == 1.0 else f" x {decay:g} per block")
            + f", {100 * final['trainable_share']:.0f} % trains"
            + ("" if loss is None else f", loss {loss:.4g}")
        )
    return "\n".join(lines)


def scheduler_summary(scheduler: Any) -> str:
    """A `PhaseScheduler` in a few words."""
    done = f", {len(scheduler.history)} epochs done" if scheduler.history else ""
    names = ", ".join(phase.name for phase in scheduler.phases)
    return f"{len(scheduler.phases)} phases ({names}){done}"


def scheduler_html(scheduler: Any) -> str:
    """What happened in its phases, for a notebook."""
    return preformatted(scheduler.summary())
