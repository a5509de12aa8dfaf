"""Programs that train a model and go on with it, under automatic warnings."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from keras_bnguard.auto import AutoWarnings
from keras_bnguard.settings import Settings
from tests.builders.pipelines import L, compiled, rows
from tests.stack import keras


def network() -> Any:
    return compiled(
        keras.Sequential(
            [
                keras.Input((8,)),
                L.Dense(8),
                L.BatchNormalization(momentum=0.9, name="bn"),
                L.Dropout(0.2),
                L.Dense(1, activation="sigmoid"),
            ]
        ),
        learning_rate=1e-2,
    )


def other_rows() -> np.ndarray:
    """Rows of another domain."""
    return rows(32, seed=5)[0] * 2.0 + 4.0


def passes(model: Any, count: int = 5, **how: Any) -> None:
    for _ in range(count):
        model(other_rows(), **(how or {"training": True}))


def findings_of(program: Callable[[Any], None], model: Any = None) -> Any:
    """What is found when a program goes on with a model that `fit` has trained."""
    watch = AutoWarnings()
    watch.enable(Settings(), by_warning=False)
    model = network() if model is None else model
    try:
        model.fit(*rows(64), batch_size=16, verbose=0)
        program(model)
        watch.finish()
        report = watch.all_runs().report()
    finally:
        watch.disable()
    assert not watch.faults, watch.faults
    return {finding.code: finding for finding in report.findings}
