"""What the runs of the demo show, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.cli.demo.recipe import AS_IS, FIXED, HEAD_ONLY, VARIANTS, Run
from keras_bnguard.records import Stack

HEADER = ("fine-tuning", "after head", "after tuning", "drift", "statistics")


@dataclass(frozen=True)
class OverSeeds:
    """Mean and standard deviation over the seeds.

    Attributes:
        mean: the mean.
        deviation: the standard deviation with n - 1; None for one seed.
    """

    mean: float
    deviation: Optional[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> OverSeeds:
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(float(np.mean(values)), deviation)

    def percent(self) -> str:
        deviation = "" if self.deviation is None else f" +- {100 * self.deviation:.1f}"
        return f"{100 * self.mean:.1f}{deviation} %"


def of_variant(runs: Sequence[Run], variant: str) -> List[Run]:
    """The runs of one variant, in the order of the seeds."""
    return [run for run in runs if run.variant == variant]


def rows(runs: Sequence[Run]) -> List[Tuple[str, ...]]:
    """One row per variant, cells as in `HEADER`."""
    found: List[Tuple[str, ...]] = []
    for variant in VARIANTS:
        mine = of_variant(runs, variant)
        drift = max(max(run.drift.values(), default=0.0) for run in mine)
        changed = sum(not run.unchanged for run in mine)
        found.append(
            (
                variant,
                OverSeeds.of([run.after_head for run in mine]).percent(),
                OverSeeds.of([run.after_tuning for run in mine]).percent(),
                f"{drift:.2f} sd",
                f"changed in {changed} of {len(mine)}" if changed else "bit-identical",
            )
        )
    return found


def meaning(runs: Sequence[Run], stack: Stack) -> str:
    """What the table shows about this stack, whatever the result."""
    as_is, fixed, head = (
        OverSeeds.of([run.after_tuning for run in of_variant(runs, variant)]).mean
        for variant in (AS_IS, FIXED, HEAD_ONLY)
    )
    points = 100 * (fixed - as_is)
    gain = 100 * (fixed - head)
    over_head = f"With forced inference, fine-tuning ends {_points(gain)} the head alone."
    if stack.behaviour.graph_false_honoured:
        return (
            f"{stack} honours base(x, training=False) in fit: the statistics stay as they are, "
            "so nothing is lost here and the guard reports nothing. The same script on "
            f"Keras 3 up to 3.15.1 changes them. {over_head}"
        )
    return (
        f"{stack} overrides base(x, training=False) in fit: the statistics of the backbone "
        f"changed. With BN forced into inference mode, fine-tuning ends {_points(points)} the same "
        f"recipe as it is. {over_head}"
    )


def _points(difference: float) -> str:
    where = "above" if difference >= 0 else "below"
    return f"{abs(difference):.1f} points {where}"


def plain_table(cells: Sequence[Sequence[str]]) -> str:
    """A table in plain text."""
    lines = [HEADER, *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )


def show_table(cells: Sequence[Sequence[str]]) -> None:
    """Print a table, with rich where it is installed; cells are wrapped, never cut."""
    rich = _rich()
    if rich is None:
        print(plain_table(cells))
        return
    # Without lines between the columns: 80 columns hold the widest cells.
    table = rich.table.Table(title="accuracy on held-out digits 5-9", box=rich.box.SIMPLE)
    table.pad_edge, table.show_edge, table.padding = False, False, (0, 1, 0, 0)
    for name in HEADER:
        table.add_column(name, overflow="fold")
    for line in cells:
        table.add_row(*line)
    rich.console.Console().print(table)


def show_framed(title: str, text: str) -> None:
    """Print a text in a frame, with rich where it is installed."""
    rich = _rich()
    if rich is None:
        print(f"--- {title}\n{text}\n---")
        return
    body = rich.text.Text(text)
    rich.console.Console().print(rich.panel.Panel(body, title=title, title_align="left"))


def _rich() -> Optional[Any]:
    try:
        import rich
        import rich.box
        import rich.console
        import rich.panel
        import rich.table
        import rich.text
    except ImportError:
        return None
    return rich
