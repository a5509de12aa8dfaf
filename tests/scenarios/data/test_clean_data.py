"""Correct pipelines of many styles, with data given: not one warning of the rules on data."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard import auto
from tests.builders.containers import Base
from tests.builders.data_models import compiled, dense, digits, flat, layers, on_top, trained_base
from tests.builders.harness import fit
from tests.stack import BACKEND, keras


def images(rows=192):
    x, y = digits()
    return x[:rows], y[:rows]


def conv(momentum=0.5, before=()):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *before,
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(momentum=momentum, name="bn1"),
            layers.ReLU(),
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(momentum=momentum, name="bn2"),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def still(base):
    base.trainable = False
    return base


def rare():
    """Nine rows of ten have one label."""
    x, y = flat(192)
    return x, np.where(np.arange(192) % 10 == 0, y % 2, 0)


class Shuffled(Base):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(1)

    def __len__(self):
        return 10

    def __getitem__(self, i):
        x, y = flat(192)
        rows = self.rng.permutation(192)[:32]
        return x[rows] + self.rng.normal(0, 0.05, (32, 64)).astype("float32"), y[rows]


def shifted_a_little():
    """New data that correct fine-tuning meets: 0.2 standard deviations, 0.3 in log variance."""
    x, y = flat(192)
    return 1.1 * x + 0.05, y


def masked():
    x, y = flat(192)
    x = (x.reshape(192, 8, 8) + 1).astype("float32")
    x[:, 5:] = 0.0
    return x, y


def recurrent():
    inputs = keras.Input((8, 8))
    x = layers.Masking()(inputs)
    x = layers.BatchNormalization(momentum=0.5)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def regression():
    x, y = flat(192)
    return x, y.astype("float32").reshape(-1, 1)


def regressor():
    model = dense(classes=1)
    outputs = layers.Dense(1, name="value")(model.get_layer("relu2").output)
    model = keras.Model(model.inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def listed():
    x, y = flat(192)
    return [(x[i : i + 32], y[i : i + 32]) for i in range(0, 192, 32)]


def named():
    """A dict of two inputs, six rows more than whole batches."""
    x, y = flat(198)
    return {"left": x[:, :32], "right": x[:, 32:]}, y


def two_inputs():
    left, right = keras.Input((32,), name="left"), keras.Input((32,), name="right")
    x = left
    for i, other in enumerate((right, None)):
        x = layers.Dense(24)(x)
        x = layers.BatchNormalization(momentum=0.5, name=f"bn{i}")(x)
        x = layers.ReLU()(x)
        x = x if other is None else layers.Concatenate()([x, other])
    outputs = layers.Dense(10, activation="softmax")(x)
    return keras.Model({"left": left, "right": right}, outputs)


def function_of_batches():
    """What `fit` gets is a generator; the guard gets the function."""

    def batches():
        x, y = flat(192)
        rng = np.random.default_rng(0)
        for _ in range(2):
            for rows in np.split(rng.permutation(192), 6):
                yield x[rows], y[rows]

    return batches


def loader():
    import torch

    x, y = flat(196)
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    return torch.utils.data.DataLoader(pairs, batch_size=32, shuffle=True)


PIPELINES = {
    "from scratch": (lambda: compiled(dense()), flat, {}),
    "convolutions": (lambda: compiled(conv()), images, {}),
    "convolutions, batches of 2": (
        lambda: compiled(conv()),
        lambda: images(32),
        {"batch_size": 2, "epochs": 1},
    ),
    "dense, batches of 8": (lambda: compiled(dense(0.8)), lambda: flat(128), {"batch_size": 8}),
    "dropout": (lambda: compiled(dense(dropout=0.6)), flat, {}),
    "rare classes": (lambda: compiled(dense()), rare, {}),
    "rare classes in order of the file": (lambda: compiled(dense()), rare, {"shuffle": False}),
    "a frozen backbone": (lambda: on_top(still(trained_base())), flat, {}),
    "a frozen backbone on new data": (
        lambda: on_top(still(trained_base())),
        shifted_a_little,
        {},
    ),
    "all layers fine-tuned": (lambda: on_top(trained_base()), shifted_a_little, {}),
    "the right scale, rescaled inside": (
        lambda: on_top(still(trained_base(1 / 255, 255.0))),
        lambda: (255 * flat()[0], flat()[1]),
        {},
    ),
    "a PyDataset that augments": (lambda: compiled(dense()), Shuffled, {"shuffle": False}),
    "masked steps": (lambda: compiled(recurrent()), masked, {}),
    "regression": (regressor, regression, {}),
    "a last batch of four rows": (lambda: compiled(dense()), lambda: flat(196), {}),
    "a last batch of two rows, small images": (
        lambda: compiled(conv()),
        lambda: images(194),
        {},
    ),
    "named inputs": (lambda: compiled(two_inputs()), named, {}),
    "a generator": (
        lambda: compiled(dense()),
        function_of_batches,
        {"steps_per_epoch": 6, "epochs": 2},
    ),
    "weights of rows and classes": (
        lambda: compiled(dense()),
        flat,
        {"class_weight": {**dict.fromkeys(range(10), 1.0), 3: 2.0}},
    ),
    "rows split off for validation": (
        lambda: compiled(dense()),
        lambda: flat(245),
        {"validation_split": 0.2},
    ),
    "a long run at the default momentum": (
        lambda: compiled(dense(0.9)),
        lambda: flat(160),
        {"epochs": 8, "batch_size": 32},
    ),
}
if BACKEND == "tensorflow":

    def tf_data():
        import tensorflow as tf

        x, y = flat(192)
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(192, seed=0)
        return dataset.batch(32, drop_remainder=True)

    PIPELINES["tf.data"] = (lambda: compiled(dense()), tf_data, {"shuffle": False})

if BACKEND == "torch":
    PIPELINES["a DataLoader"] = (lambda: compiled(dense()), loader, {})

DATA_RULES = ("BNG301", "BNG407", "BNG5")


FAST = (
    "from scratch",
    "rare classes",
    "a frozen backbone on new data",
    "masked steps",
    "a last batch of four rows",
    "named inputs",
    "a generator",
    "tf.data",
    "a DataLoader",
)


def findings_on_data(report):
    """Findings of the rules on data, except infos."""
    return [str(f) for f in report.warnings_and_errors if f.code.startswith(DATA_RULES)]


@pytest.mark.parametrize(
    "name",
    [p if p in FAST else pytest.param(p, marks=pytest.mark.slow) for p in PIPELINES],
)
def test_a_correct_pipeline_is_silent(name):
    make, make_data, settings = PIPELINES[name]
    model, data = make(), make_data()
    guard = bng.BNGuard(data=data)
    x, y = data if isinstance(data, tuple) else (data() if inspect.isfunction(data) else data, None)
    if y is not None:
        settings = {"epochs": 2, "batch_size": 32, **settings}
    run = fit(model, x, y, guard=guard, **settings)
    assert not findings_on_data(run.guard.report)
    assert not run.messages
    skipped = {o.code: o.reason for o in run.guard.report.skipped}
    assert "BNG501" not in skipped, skipped
    assert not findings_on_data(bng.audit(model, data))


@pytest.mark.slow
def test_a_list_of_batches_is_silent_in_an_audit():
    model = compiled(dense())
    x, y = flat(192)
    fit(model, x, y, batch_size=32, epochs=2)
    assert not bng.audit(model, listed()).findings


@pytest.mark.slow
def test_enable_warnings_is_silent_for_correct_fine_tuning():
    model = on_top(still(trained_base()))
    bng.enable_warnings()
    try:
        x, y = shifted_a_little()
        model.fit(x, y, batch_size=32, verbose=0)
        (report,) = auto.reports()
    finally:
        bng.disable_warnings()
    assert report.steps == len(x) // 32
    assert not report.findings


def test_a_discriminator_frozen_inside_a_gan_is_silent():
    x, y = flat(192)
    judge = compiled(dense(classes=2))
    judge.fit(x, y % 2, batch_size=32, epochs=2, verbose=0)
    noise = keras.Input((5,))
    fakes = layers.Dense(64)(noise)
    judge.trainable = False
    gan = compiled(keras.Model(noise, judge(fakes), name="gan"))
    data = (np.random.default_rng(0).normal(size=(64, 5)).astype("float32"), np.ones(64, int))
    run = fit(gan, *data, guard=bng.BNGuard(data=data))
    assert "BNG504" not in run.codes
