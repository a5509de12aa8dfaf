"""Correct runs of every kind: feeds, callbacks, settings of `fit`, several fits and guards."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.records.report import OutcomeStatus
from tests.builders.harness import BACKEND, IS_KERAS3, STACK, clean, fit, found, listening
from tests.builders.pipelines import backbone, compiled, nested, norms, plain, rows
from tests.builders.values import at
from tests.stack import keras


def still(base: Any) -> Any:
    base.trainable = False
    return base


def batches_as(kind: str, x: Any, y: Any) -> Any:
    if kind == "generator":
        return ((x[i : i + 16], y[i : i + 16]) for i in (0, 16, 32))
    if kind == "sequence":
        base = keras.utils.PyDataset if IS_KERAS3 else keras.utils.Sequence

        class Batches(base):
            def __len__(self) -> int:
                return 3

            def __getitem__(self, i: int) -> Any:
                return x[16 * i : 16 * i + 16], y[16 * i : 16 * i + 16]

        return Batches()
    if kind == "tf.data":
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((x, y)).batch(20)
    import torch

    pairs = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    return torch.utils.data.DataLoader(pairs, batch_size=16)


DATA_KINDS = ["generator", "sequence"]
DATA_KINDS += {"tensorflow": ["tf.data"], "torch": ["loader"]}.get(BACKEND, [])


@pytest.mark.parametrize("kind", DATA_KINDS)
def test_feeds(kind: str) -> None:
    clean(fit(compiled(nested(still(backbone()), head_bn=True)), batches_as(kind, *rows())))


FITS = {
    "weights and validation": {
        "class_weight": {0: 1.0, 1: 2.0},
        "validation_data": rows(16, seed=3),
        "epochs": 2,
    },
    "sample weights and split": {"sample_weight": np.ones(48), "validation_split": 1 / 3},
    "one batch": {"batch_size": 48},
}
COMPILES = {
    "eager": {"run_eagerly": True},
    "jit": {"jit_compile": True},
    "two steps at once": {"steps_per_execution": 2},
}


@pytest.mark.parametrize("way", [*FITS, *COMPILES])
def test_ways_to_compile_and_fit(way: str) -> None:
    if STACK == "k3-torch" and way in ("jit", "two steps at once"):
        pytest.skip("not on torch")
    model = compiled(nested(still(backbone()), head_bn=True), **COMPILES.get(way, {}))
    clean(fit(model, *rows(), **FITS.get(way, {})))


@pytest.mark.parametrize("place", ["before", "after"])
def test_other_callbacks(place: str, tmp_path: Any) -> None:
    c = keras.callbacks
    others = [
        c.EarlyStopping("loss", patience=5, restore_best_weights=True),
        c.ReduceLROnPlateau("loss", patience=1),
        c.ModelCheckpoint(str(tmp_path / "m.weights.h5"), save_weights_only=True),
        c.CSVLogger(str(tmp_path / "log.csv")),
        c.LearningRateScheduler(lambda epoch, value: value * 0.9),
        c.TerminateOnNaN(),
    ]
    run = fit(compiled(plain()), *rows(), epochs=2, **{place: others})
    clean(run)
    assert len(run.history.history["bn_drift"]) == 2
    header = (tmp_path / "log.csv").read_text().split("\n")[0]
    assert ("bn_drift" in header) == (place == "after")


def test_early_stopping_sees_the_drift() -> None:
    stop = keras.callbacks.EarlyStopping("bn_drift", mode="min", patience=1)
    run = fit(compiled(plain()), *rows(), epochs=6, after=[stop])
    clean(run)
    assert len(run.history.epoch) < 6


def test_averaged_and_accumulated_weights() -> None:
    settings = [{"use_ema": True}]
    settings += [{"gradient_accumulation_steps": 2}] if IS_KERAS3 else []
    for extra in settings:
        model = plain()
        model.compile(keras.optimizers.Adam(1e-3, **extra), "binary_crossentropy")
        clean(fit(model, *rows()))


def test_training_goes_on_and_is_taken_up_from_a_file(tmp_path: Any) -> None:
    model = compiled(nested(backbone(trained=False), head_bn=True), optimizer="Adam")
    guard = bng.BNGuard()
    for _ in range(2):
        clean(fit(model, *rows(), guard=guard))
    path = str(tmp_path / "m.keras")
    model.save(path)
    loaded = keras.models.load_model(path)
    clean(fit(loaded, *rows(), guard=guard))
    base = loaded.get_layer("backbone")
    for norm in norms(base):
        norm.trainable = False
    compiled(loaded, 1e-5, "Adam")
    clean(fit(loaded, *rows()))


def test_both_phases_of_the_guide() -> None:
    base = still(backbone())
    model = compiled(nested(base, head_bn=True), optimizer="Adam")
    clean(fit(model, *rows()))
    base.trainable = True
    for norm in norms(base):
        norm.trainable = False
    clean(fit(compiled(model, 1e-5, "Adam"), *rows()))


class MeanTeacher(keras.callbacks.Callback):
    """The teacher's weights follow the student's, every batch."""

    def __init__(self, teacher: Any) -> None:
        super().__init__()
        self.teacher = teacher

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        new = self.model.get_layer("student").get_weights()
        old = self.teacher.get_weights()
        self.teacher.set_weights([0.9 * a + 0.1 * b for a, b in zip(old, new)])


def test_a_mean_teacher_inside_the_model() -> None:
    student, teacher = backbone("student"), still(backbone("teacher"))
    inputs = keras.Input((8,))
    outputs = keras.layers.Subtract()([student(inputs), teacher(inputs)])
    model = compiled(keras.Model(inputs, outputs), loss="mse")
    x, _ = rows()
    clean(fit(model, x, np.zeros((48, 8), "float32"), before=[MeanTeacher(teacher)]))


def test_a_fit_inside_a_fit() -> None:
    runs = []

    class Inner(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            other = still(backbone("inner"))
            other.get_layer("bn1").trainable = True
            runs.append(fit(compiled(nested(other)), *rows(16)))

    clean(fit(compiled(plain()), *rows(), after=[Inner()]))
    found(runs[0], {code: ["inner/bn1"] for code in ("BNG102", "BNG404")})


def test_two_guards_in_one_fit() -> None:
    first, second = bng.BNGuard(), bng.BNGuard(every=1)
    base = still(backbone())
    base.get_layer("bn1").trainable = True
    with listening(first), listening(second):
        compiled(nested(base)).fit(*rows(), verbose=0, callbacks=[first, second])
    assert first.report.codes == second.report.codes == ("BNG102", "BNG404")
    assert len(second.report.drift) > len(first.report.drift)


def test_what_is_done_with_a_finding(caplog: Any) -> None:
    base = still(backbone())
    base.get_layer("bn1").trainable = True
    model = compiled(nested(base))
    seen: list = []
    guard = bng.BNGuard(on_finding=seen.append)
    assert not fit(model, *rows(), guard=guard).messages
    assert [f.code for f in seen] == ["BNG102", "BNG404"]
    with caplog.at_level(logging.INFO, "keras_bnguard"):
        assert not fit(model, *rows(), guard=bng.BNGuard(on_finding="log")).messages
    assert "BNG102" in caplog.text
    picked = fit(model, *rows(), guard=bng.BNGuard(select="BNG4"))
    found(picked, {"BNG404": ["backbone/bn1"]})
    ignored = fit(
        model, *rows(), guard=bng.BNGuard(ignore={"BNG102": "backbone/*", "BNG404": ["*/bn1"]})
    )
    assert not ignored.guard.report.findings
    assert {o.code for o in ignored.guard.report.outcomes if o.status is OutcomeStatus.IGNORED} == {
        "BNG102",
        "BNG404",
    }


@pytest.mark.skipif(STACK not in ("tfk", "k3-tf"), reason="needs both Kerases in one process")
def test_two_kerases_in_one_process() -> None:
    import keras as three
    import tf_keras as two

    for k in (two, three):
        inputs = k.Input((8,))
        h = k.layers.BatchNormalization(name="bn")(k.layers.Dense(4)(inputs))
        model = k.Model(inputs, k.layers.Dense(1, activation="sigmoid")(h))
        model.compile("adam", "binary_crossentropy")
        clean(fit(model, *rows()))


@pytest.mark.skipif(STACK != "k2", reason="TensorFlow Addons needs Keras 2")
def test_tensorflow_addons() -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_addons as tfa
    model = nested(still(backbone()), head_bn=True)
    metric = tfa.metrics.F1Score(1, threshold=0.5)
    model.compile(tfa.optimizers.AdamW(1e-4, 1e-3), "binary_crossentropy", metrics=[metric])
    clean(fit(model, *rows()))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_mirrored_on_the_devices_there_are() -> None:
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = compiled(nested(still(backbone()), head_bn=True))
    clean(fit(model, *rows()))
    assert at(model, "head_bn") is not None
