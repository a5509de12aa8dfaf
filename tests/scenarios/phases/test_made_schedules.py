"""Schedules made from a model and from YAML run as schedulers."""

from __future__ import annotations

import numpy as np

import keras_bnguard as bng
from tests.stack import keras

X = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
Y = X[:, :1].copy()


def transfer():
    inputs = keras.Input((8,))
    hidden = inputs
    for i in range(3):
        hidden = keras.layers.Dense(6, name=f"dense{i}")(hidden)
        hidden = keras.layers.BatchNormalization(name=f"bn{i}")(hidden)
        hidden = keras.layers.ReLU(name=f"relu{i}")(hidden)
    base = keras.Model(inputs, hidden, name="base")
    outer = keras.Input((8,))
    model = keras.Model(outer, keras.layers.Dense(1, name="head")(base(outer)))
    model.compile("adam", "mse")
    return model


def phases_of(scheduler):
    return [row["phase"] for row in scheduler.history]


def test_the_classic_trains_the_head_then_all():
    model = transfer()
    scheduler = bng.PhaseScheduler.fine_tune(
        model, backbone="base", head_epochs=1, base_lr=1e-3, verbose=0
    )
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[scheduler])
    first, second, third = phases_of(scheduler)
    assert first != second
    assert second == third
    assert scheduler.history[-1]["learning_rate"] <= 1.0001e-4


def test_a_gradual_schedule_unfreezes_in_stages_and_survives_yaml():
    model = transfer()
    scheduler = bng.PhaseScheduler.gradual(model, backbone="base", stages=2, epochs=1, verbose=0)
    again = bng.PhaseScheduler.from_yaml(scheduler.to_yaml(), verbose=0)
    assert again.phases == scheduler.phases
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[again])
    shares = [row["trainable_share"] for row in again.history]
    assert shares == sorted(shares)
    assert len(set(phases_of(again))) == 3
    assert shares[-1] == 1.0


def test_what_the_scheduler_takes_goes_with_every_way_to_make_one(tmp_path):
    model = transfer()
    more = {"backbone": "base", "optimizer_state": "reset", "state": tmp_path, "verbose": 0}
    scheduler = bng.PhaseScheduler.fine_tune(model, head_epochs=1, **more)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[scheduler])
    assert len(list(tmp_path.iterdir())) == 2
    assert int(np.asarray(model.optimizer.iterations)) == 1
    for made in (
        bng.PhaseScheduler.gradual(model, **more),
        bng.PhaseScheduler.from_yaml(scheduler.to_yaml(), optimizer_state="reset", state="there"),
    ):
        assert made.__reduce__()[1][1][1:3] in (("reset", tmp_path), ("reset", "there"))
