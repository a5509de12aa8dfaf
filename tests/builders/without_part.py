"""Run an example with one part of this package doing nothing, as if it were not there.

    python tests/builders/without_part.py examples/keras_guide.py guard

`NOTHING` has what replaces each part: what a user has who does not call it.
"""

from __future__ import annotations

import contextlib
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

EMPTY_REPORT = SimpleNamespace(
    findings=(), codes=(), repairs=(), weights=SimpleNamespace(trainable=0, total=0)
)


def _callback(*_: Any, **__: Any) -> Any:
    import keras

    callback = keras.callbacks.Callback()
    callback.report = EMPTY_REPORT
    return callback


def _one_mode(model: Any, data: Any, **_: Any) -> Any:
    """What `evaluate` shows: one mode, and no gap."""
    _, accuracy = model.evaluate(*data, verbose=0)
    scored = {"accuracy": accuracy}
    return SimpleNamespace(training=scored, inference=scored, gap=lambda: 0.0)


def _as_in_the_summary(model: Any) -> Any:
    return SimpleNamespace(weights=SimpleNamespace(trainable=model.count_params()))


NOTHING = {
    "BNGuard": _callback,
    "PhaseScheduler": _callback,
    "advise": lambda *_, **__: "",
    "audit": _as_in_the_summary,
    "force_inference": lambda *_, **__: contextlib.nullcontext(),
    "mode_gap": _one_mode,
    "precompute_features": lambda _, data: SimpleNamespace(
        x=data[0].reshape(len(data[0]), -1), y=data[1]
    ),
    "recalibrate": lambda *_, **__: SimpleNamespace(undo=lambda: None),
}

if __name__ == "__main__":
    import keras_bnguard as bng

    script, part = sys.argv[1:]
    setattr(bng, part, NOTHING[part])
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")
