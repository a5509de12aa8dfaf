"""Tools that people put around `fit`: progress bars, tuners, model zoos, experiment trackers.

Each runs on the stacks it can run on; docs/ecosystem.md lists which, and why not on the others.
"""

from __future__ import annotations

import json
import numbers

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.values import as_array
from tests.stack import STACK, keras

X, Y = r.data()


def raising():
    """Statistics of twelve steps have not converged yet, as expected: BNG301, BNG407."""
    return bng.BNGuard(on_finding="raise", ignore=["BNG301", "BNG407"])


# ------------------------------------------------------------------------- tqdm
def test_tqdm_shows_the_drift_in_its_bar(capsys):
    from tqdm.keras import TqdmCallback

    guard, bar = raising(), TqdmCallback(verbose=0)
    done = r.fit(r.compiled(r.transfer()), 4, [guard, r.scheduler(r.head_then_all()), bar])
    assert len(done.epoch) == 4
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "bn_drift" in shown


# ------------------------------------------------------------------ keras-tuner
@pytest.mark.skipif(STACK == "tfk", reason="keras-tuner takes the keras package, not tf_keras")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner")
def test_every_trial_of_a_tuner_has_a_guard_and_phases_of_its_own(tmp_path):
    import keras_tuner

    reports = []

    class Reporting(bng.BNGuard):
        def on_train_end(self, logs=None):
            super().on_train_end(logs)
            reports.append(self.report)

    def build(space):
        momentum = space.Choice("momentum", [0.0, 0.5])
        return r.compiled(r.transfer(), "SGD", momentum=momentum)

    tuner = keras_tuner.GridSearch(
        build, objective="val_loss", directory=str(tmp_path), project_name="search"
    )
    given = [
        Reporting(on_finding="raise", ignore=["BNG301", "BNG407"]),
        r.scheduler(r.head_then_all(1, 1)),
    ]
    tuner.search(
        X, Y, validation_data=(X, Y), epochs=2, batch_size=r.BATCH, verbose=0, callbacks=given
    )
    assert [report.steps for report in reports] == [2 * r.STEPS] * 2
    assert given[0].report is None
    assert given[1].history == []
    assert len(tuner.get_best_hyperparameters(2)) == 2


# --------------------------------------------------------------------- KerasHub
@pytest.mark.skipif(
    STACK not in ("k3-jax", "k3-torch"), reason="Keras 3 alone; with TensorFlow it needs TF Text"
)
def test_a_backbone_of_keras_hub_is_audited_and_unfrozen_in_phases():
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(8, 8, 3),
        name="backbone",
    )
    inputs = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    outputs = keras.layers.Dense(1, activation="sigmoid", name="head")(pooled)
    model = r.compiled(keras.Model(inputs, outputs))
    assert len(bng.audit(model).modes) == 3
    images = np.random.default_rng(0).normal(1, 2, (16, 8, 8, 3)).astype("float32")
    labels = (images.mean((1, 2, 3)) > 1).astype("float32")[:, None]
    model.fit(images, labels, epochs=1, batch_size=8, verbose=0, callbacks=[raising()])
    kept = [as_array(v) for v in backbone.weights]
    phases = [
        bng.Phase("head", train="head", learning_rate=1e-2, epochs=1),
        bng.Phase("all", train="*", learning_rate=1e-3, epochs=1),
    ]
    same = r.At(end=lambda model, epoch: r.same(kept, [as_array(v) for v in backbone.weights]))
    listed = [raising(), r.scheduler(phases), same]
    model.fit(images, labels, epochs=2, batch_size=8, verbose=0, callbacks=listed)
    assert same.seen == [True, False]


# ------------------------------------------------------------ experiment trackers
class Tracker(keras.callbacks.Callback):
    """What the callbacks of MLflow and W&B do: every number in `logs`, as JSON, by epoch."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        for name, value in logs.items():
            assert isinstance(value, numbers.Number), (name, type(value))
        self.rows.append(json.loads(json.dumps({k: float(v) for k, v in logs.items()})))


def test_trackers_find_the_drift_among_the_numbers_of_an_epoch():
    tracker = Tracker()
    model = r.compiled(r.transfer())
    r.fit(model, 4, [raising(), r.scheduler(r.head_then_all()), tracker])
    assert [sorted(row) for row in tracker.rows] == [["bn_drift", "loss"]] * 4
    assert all(row["bn_drift"] >= 0 for row in tracker.rows)
