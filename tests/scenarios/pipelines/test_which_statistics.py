"""On digits: slow momentum, a domain for trainable BN, a small target for frozen BN."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.models import BN, layers
from tests.stack import keras

pytestmark = pytest.mark.filterwarnings("ignore::keras_bnguard.BNGuardWarning")


@pytest.fixture(scope="module")
def digits() -> Any:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return (images[order] / 16).astype("float32"), labels[order].astype("int32")


def net(momentum: float, learning_rate: float = 5e-3) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,))])
    for _ in range(2):
        model.add(layers.Dense(32, use_bias=False))
        model.add(BN(momentum=momentum))
        model.add(layers.ReLU())
    model.add(layers.Dense(10, activation="softmax"))
    return compiled(model, learning_rate)


def compiled(model: Any, learning_rate: float) -> Any:
    model.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy")
    return model


def accuracy(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(model.predict(x, batch_size=1000, verbose=0).argmax(-1) == y))


def test_slow_momentum_is_seen_by_the_mode_gap_and_repaired_by_recalibration(digits: Any) -> None:
    x, y = digits[0] + 0.7, digits[1]
    model = net(momentum=0.999)
    model.fit(x[:800], y[:800], batch_size=50, epochs=5, verbose=0)
    gap = bng.mode_gap(model, (x[:800], y[:800]), batch_size=50)
    assert gap.training["accuracy"] > 0.94
    assert gap.inference["accuracy"] < 0.75
    before = accuracy(model, x[800:], y[800:])
    bng.recalibrate(model, x[:800])
    assert before < 0.75
    assert accuracy(model, x[800:], y[800:]) > 0.92
    gap = bng.mode_gap(model, (x[:800], y[:800]), batch_size=50)
    assert abs(gap.gap("accuracy")) < 0.03


def test_trainable_bn_is_right_on_another_domain_and_wrong_on_a_small_target(
    digits: Any,
) -> None:
    """`advise` finds both without having seen the test rows."""
    x, y = digits
    model = net(momentum=0.9)
    model.fit(x[:800], y[:800], batch_size=50, epochs=8, verbose=0)
    weights = model.get_weights()
    brighter, test = x + 1.0, slice(1100, None)

    def tuned(
        x: np.ndarray, rows: slice, batch: int, epochs: int, learning_rate: float
    ) -> List[float]:
        found = []
        for forced in (True, False):
            compiled(model, learning_rate).set_weights(weights)
            keras.utils.set_random_seed(1)
            forced = bng.force_inference(model, layers="*") if forced else None
            model.fit(x[rows], y[rows], batch_size=batch, epochs=epochs, verbose=0)
            found.append(accuracy(model, x[test], y[test]))
            if forced:
                forced.release()
        compiled(model, learning_rate).set_weights(weights)
        return found

    frozen, trainable = tuned(brighter, slice(800, 950), batch=30, epochs=10, learning_rate=1e-4)
    assert trainable > frozen + 0.03
    advice = bng.advise(
        model,
        (brighter[800:950], y[800:950]),
        epochs=10,
        batch_size=30,
        folds=2,
        n_repeats=1,
        steps=20,
    )
    assert advice.policy is not bng.Policy.FROZEN
    assert advice.difference

    for layer in model.layers:
        if isinstance(layer, BN):
            layer.momentum = 0.5
    frozen, trainable = tuned(x, slice(800, 820), batch=2, epochs=4, learning_rate=3e-4)
    assert frozen > trainable + 0.01
    advice = bng.advise(
        model, (x[800:840], y[800:840]), epochs=2, batch_size=2, folds=2, n_repeats=1, steps=40
    )
    assert advice.policy is not bng.Policy.TRAINABLE
