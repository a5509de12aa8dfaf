"""Random numbers and data after a stop: which runs end bit for bit like one that was not stopped.

The table of docs/phases.md has the same cases; those that differ are tested to differ, so that
the table stays right.
"""

from __future__ import annotations

import random
from typing import Any, Callable, List

import numpy as np
import pytest

import keras_bnguard as bng
from tests import ROOT
from tests.builders import schedules as r
from tests.stack import BACKEND, IS_KERAS3, keras

L = keras.layers
EPOCHS, STOP = 6, 4
x, y = r.data()
Sequence = keras.utils.PyDataset if IS_KERAS3 else keras.utils.Sequence
Fit = Callable[[Any, List[Any]], Any]


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == STOP:
            raise KeyboardInterrupt


class Draws(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        noise = 1e-3 * (random.random() + np.random.random())
        self.model.set_weights([value + noise for value in self.model.get_weights()])


class Augments(Sequence):
    """Batches in their order, with noise of NumPy's global generator."""

    def __len__(self) -> int:
        return r.STEPS

    def __getitem__(self, index: int) -> Any:
        rows = slice(index * r.BATCH, (index + 1) * r.BATCH)
        noise = np.random.normal(0, 0.1, (r.BATCH, 6)).astype("float32")
        return x[rows] + noise, y[rows]


def batches() -> Any:
    step = 0
    while True:
        rows = slice(step % r.STEPS * r.BATCH, (step % r.STEPS + 1) * r.BATCH)
        step += 1
        yield x[rows], y[rows]


def arrays(shuffle: bool = False, *more: Any) -> Fit:
    return lambda model, listed: model.fit(
        x, y, shuffle=shuffle, batch_size=r.BATCH, epochs=EPOCHS, verbose=0,
        callbacks=[*(each() for each in more), *listed],
    )  # fmt: skip


def data(made: Callable[[], Any], shuffle: bool = False, **settings: Any) -> Fit:
    return lambda model, listed: model.fit(
        made(), shuffle=shuffle, epochs=EPOCHS, verbose=0, callbacks=listed, **settings
    )


def dataset(shuffle: bool) -> Any:
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices((x, y))
    return (rows.shuffle(24, seed=3) if shuffle else rows).batch(r.BATCH)


def loader() -> Any:
    from torch.utils.data import DataLoader, TensorDataset

    tensors = TensorDataset(r.tensor(x), r.tensor(y))
    return DataLoader(tensors, r.BATCH, shuffle=True)


def noisy(seed: Any = None) -> Callable[[], Any]:
    def made() -> Any:
        inputs = keras.Input((6,))
        noise = L.Dropout(0.3, seed=seed)(L.GaussianNoise(0.1, seed=seed)(inputs))
        return keras.Model(inputs, r.transfer()(noise))

    return made


# Case, model, how it is trained, whether the bits are equal: on Keras 3, on Keras 2.
CASES = [
    ("Dropout and noise without a seed", noisy(), arrays(), True, False),
    ("Dropout and noise with a seed", noisy(3), arrays(), True, False),
    ("callbacks that draw from `random` and `np.random`", r.transfer, arrays(False, Draws), True,
     True),
    ("arrays, `shuffle=True`", r.transfer, arrays(True), True, False),
    ("`PyDataset` or `Sequence` that draws from `np.random`", r.transfer,
     data(Augments, shuffle=False), True, True),
    ("`PyDataset` or `Sequence`, `shuffle=True`", r.transfer,
     data(Augments, shuffle=True), True, True),
    ("generator that repeats the same batches each epoch", r.transfer,
     data(batches, steps_per_epoch=r.STEPS), True, True),
    ("generator whose epochs differ", r.transfer, data(batches, steps_per_epoch=2), False, False),
    ("`tf.data` in a fixed order", r.transfer, data(lambda: dataset(False)), True, True),
    ("`tf.data` with `shuffle`", r.transfer, data(lambda: dataset(True)), False, False),
    ("torch `DataLoader(shuffle=True)`", r.transfer, data(loader), True, None),
]  # fmt: skip


def runs_here(case: Any) -> bool:
    wanted = {"`tf.data`": "tensorflow", "torch": "torch"}.get(case[0].split(" ")[0], BACKEND)
    return wanted == BACKEND


def run(made: Callable[[], Any], fit: Fit, folder: Any, *more: Any) -> Any:
    keras.utils.set_random_seed(1)
    phases = [
        bng.Phase("top", train=bng.LastLayers(3), learning_rate=1e-2, epochs=2),
        bng.Phase("all", train="*", learning_rate=1e-3),
    ]
    model = r.compiled(made())
    backup = keras.callbacks.BackupAndRestore(str(folder))
    try:
        fit(model, [r.scheduler(phases), backup, *more])
    except KeyboardInterrupt:
        assert more
    return model


@pytest.mark.parametrize("case", [*filter(runs_here, CASES)], ids=lambda case: case[0])
def test_a_stopped_run_ends_with_the_same_bits_where_the_page_promises_it(tmp_path, case):
    _, made, fit, on_keras3, on_keras2 = case
    whole = run(made, fit, tmp_path / "a")
    run(made, fit, tmp_path / "b", Stop())
    again = run(made, fit, tmp_path / "b")
    equal = r.same(r.weights(whole), r.weights(again))
    assert equal is (on_keras3 if IS_KERAS3 else on_keras2)


def test_a_generator_begins_with_its_first_batch_again(tmp_path):
    seen: List[int] = []

    def counted() -> Any:
        for step, batch in enumerate(batches()):
            seen.append(step)
            yield batch

    fit = data(counted, steps_per_epoch=2)
    run(r.transfer, fit, tmp_path, Stop())
    seen.clear()
    run(r.transfer, fit, tmp_path)
    assert seen[0] == 0
    assert seen[-1] < 2 * EPOCHS - 1


WORDS = {True: "equal", False: "not equal", None: ""}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_page_has_every_case(case):
    name, _, _, on_keras3, on_keras2 = case
    page = (ROOT / "docs" / "phases.md").read_text(encoding="utf-8")
    assert f"| {name} | {WORDS[on_keras3]} | {WORDS[on_keras2]} |" in page.splitlines()
