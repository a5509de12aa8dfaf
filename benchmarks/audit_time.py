"""How long `bng.audit` takes on EfficientNetB7, the largest model of keras.applications with BN.

    BNGUARD_STACK=k3-jax python benchmarks/audit_time.py

The model is built with random weights; nothing is downloaded. The first audit also runs the
self-test of the Keras in use and is reported separately. Target for the walk: below 100 ms.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Tuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.stack import describe, keras  # isort: skip - sets the environment first

import keras_bnguard as bng
from keras_bnguard.model.snapshot import take_snapshot


def milliseconds(work: Callable[[], Any], times: int = 5) -> Tuple[float, float]:
    """(first, median of the next `times`)."""
    taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1e3)
    return taken[0], statistics.median(taken[1:])


def main() -> None:
    model = keras.applications.EfficientNetB7(weights=None)
    print(f"{describe()}, {len(take_snapshot(model).inventory.norms)} BN")
    for name, work in (
        ("walk", lambda: take_snapshot(model)),
        ("audit", lambda: bng.audit(model)),
    ):
        first, median = milliseconds(work)
        print(f"  {name:6} {median:8.1f} ms (median of 5), first {first:.1f} ms")


if __name__ == "__main__":
    main()
