"""The lines of the layers that drift most, with the limit beyond which drift is reported."""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Optional, Sequence

from keras_bnguard.records import DriftSnapshot
from keras_bnguard.report.grouping import one_line
from keras_bnguard.statistics.drift import MAX_DISTANCE

WIDTH, HEIGHT = 480, 200
"""Of the whole drawing, in its own units: on a phone they are a little less than a pixel."""
LEFT, TOP, RIGHT, BOTTOM = 52, 10, 8, 26
_LINES = 4


def drift_chart(drift: Sequence[DriftSnapshot]) -> Optional[Dict[str, Any]]:
    """What a template draws: the Bhattacharyya distance of a few layers by training step.

    Args:
        drift: one snapshot for each check.

    Returns:
        Places and words; None where there are fewer than two checks, or no finite distance.
    """
    rows = [(snapshot.steps, snapshot.distance) for snapshot in drift if snapshot.distance]
    largest: Dict[str, float] = {}
    for _, distance in rows:
        for path, value in distance.items():
            if math.isfinite(value):
                largest[path] = max(value, largest.get(path, 0.0))
    if len(rows) < 2 or not largest:
        return None
    shown = sorted(largest, key=lambda path: -largest[path])[:_LINES]
    top = max(1.25 * MAX_DISTANCE, largest[shown[0]])
    first, last = rows[0][0], rows[-1][0]

    def x(step: int) -> float:
        share = (step - first) / (last - first) if last > first else 0.0
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM), 1)

    def points(path: str) -> str:
        return " ".join(
            f"{x(step)},{y(distance[path])}"
            for step, distance in rows
            if _is_finite(distance, path)
        )

    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "lines": [(f"c{i}", one_line(path), points(path)) for i, path in enumerate(shown)],
        "others": len(largest) - len(shown),
        "limit": (f"{MAX_DISTANCE:g}", y(MAX_DISTANCE)),
        "highest": (f"{top:.2g}", y(top)),
        "steps": (first, last),
    }


def _is_finite(distance: Mapping[str, float], path: str) -> bool:
    return path in distance and math.isfinite(distance[path])
