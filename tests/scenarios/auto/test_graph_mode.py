"""TensorFlow's graph mode: training in it stays what it is, and what needs values refuses."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard import auto
from keras_bnguard.errors import BNGuardWarning, InternalErrorWarning, UnsupportedModelError
from tests import ROOT
from tests.builders.values import same
from tests.stack import BACKEND, IS_KERAS3, STACK, keras

KERAS2 = not IS_KERAS3

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="graph mode is of TensorFlow")

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = X[:, :1].copy()


def built():
    x = keras.layers.Input((4,))
    hidden = keras.layers.BatchNormalization(name="bn")(keras.layers.Dense(4)(x))
    model = keras.Model(x, keras.layers.Dense(1)(hidden))
    model.compile("adam", "mse")
    return model


def fitted(model, *callbacks):
    model.fit(X, Y, epochs=2, shuffle=False, verbose=0, callbacks=list(callbacks))


def stepped(model):
    for _ in range(3):
        model.train_on_batch(X, Y)


def under_warnings(train):
    def run(model):
        bng.enable_warnings()
        try:
            train(model)
            assert auto.reports() == []
        finally:
            bng.disable_warnings()

    return run


def guarded(model):
    guard = bng.BNGuard(every=1, fix=True, data=X)
    with pytest.warns(BNGuardWarning, match="graph mode") as seen:
        fitted(model, guard)
    assert len(seen) == 1
    check(guard)


def watch_steps(guard, model):
    with guard.watch(model):
        stepped(model)
        assert guard.check() is None


def watched(model):
    guard = bng.BNGuard()
    with pytest.warns(BNGuardWarning, match="graph mode"):
        watch_steps(guard, model)
    check(guard)


def check(guard):
    assert guard.faults == ()
    assert "graph mode" in guard.report.notes[0]
    assert guard.report.findings == ()
    assert "nothing found" not in str(guard.report)


TRAIN = {
    "fit": (under_warnings(fitted), fitted),
    "steps": (under_warnings(stepped), stepped),
    "BNGuard": (guarded, fitted),
    "watch": (watched, stepped),
}
OF_FIT = {"fit", "BNGuard", "Recalibrate", "PhaseScheduler"}
"""What needs `fit`, which Keras 3 does not have in graph mode; it has steps."""


def possible(names):
    return [name for name in names if KERAS2 or name not in OF_FIT]


def trained(train):
    tensorflow = sys.modules["tensorflow"]
    keras.backend.clear_session()
    with tensorflow.Graph().as_default() as graph, tensorflow.compat.v1.Session() as session:
        keras.utils.set_random_seed(3)
        model = built()
        if IS_KERAS3:
            session.run(tensorflow.compat.v1.global_variables_initializer())
        with warnings.catch_warnings():
            warnings.simplefilter("error", InternalErrorWarning)
            train(model)
        names = [operation.name for operation in graph.get_operations()]
        values = model.get_weights() if KERAS2 else []
    return names, values


@pytest.mark.parametrize("name", possible(TRAIN))
def test_training_in_a_graph_is_as_without_us(name):
    ours, plain = TRAIN[name]
    names, values = trained(ours)
    names_without, values_without = trained(plain)
    assert names == names_without
    assert same(values, values_without)
    assert values or IS_KERAS3


def in_fit(model, *callbacks):
    model.fit(X, Y, verbose=0, callbacks=list(callbacks))


PHASE = bng.Phase("all", train="*", epochs=1)
REFUSE = {
    "audit": bng.audit,
    "advise": lambda model: bng.advise(model, (X, Y)),
    "force_inference": lambda model: bng.force_inference(model, layers="*"),
    "mode_gap": lambda model: bng.mode_gap(model, (X, Y)),
    "precompute_features": lambda model: bng.precompute_features(model, X),
    "recalibrate": lambda model: bng.recalibrate(model, X),
    "Recalibrate": lambda model: in_fit(model, bng.Recalibrate(X)),
    "PhaseScheduler": lambda model: in_fit(model, bng.PhaseScheduler([PHASE])),
}
"""Public name -> how it is used on a model in a graph."""


@pytest.mark.parametrize("name", possible(REFUSE))
def test_what_reads_values_refuses_and_makes_nothing_in_the_graph(name):
    tensorflow = sys.modules["tensorflow"]
    with tensorflow.Graph().as_default() as graph, tensorflow.compat.v1.Session():
        model = built()
        before = len(graph.get_operations())
        with pytest.raises(UnsupportedModelError, match="graph mode"):
            REFUSE[name](model)
        assert len(graph.get_operations()) == before or name in OF_FIT


def test_every_function_of_a_model_is_tried():
    of_models = {
        name
        for name in bng.__all__
        if inspect.isfunction(thing := getattr(bng, name))
        and next(iter(inspect.signature(thing).parameters), "") == "model"
    }
    assert of_models <= set(REFUSE)


SCRIPT = """
import hashlib, sys
import tensorflow as tf
tf.compat.v1.disable_eager_execution()
import numpy as np
from tests.stack import keras
keras.utils.set_random_seed(1)
x = keras.layers.Input((4,))
model = keras.Model(x, keras.layers.Dense(1)(keras.layers.BatchNormalization()(x)))
model.compile(OPTIMIZER, "mse")
x = np.ones((8, 4), "float32")
model.fit(x, x[:, :1], verbose=0, shuffle=False)
model.train_on_batch(x, x[:, :1])
print(hashlib.sha256(b"".join(v.tobytes() for v in model.get_weights())).hexdigest())
print([o.name for o in tf.compat.v1.get_default_graph().get_operations()])
"""
OPTIMIZERS = ["'adam'", "keras.optimizers.legacy.SGD(0.1)", "tf.compat.v1.train.AdamOptimizer(0.1)"]


@pytest.mark.skipif(IS_KERAS3, reason="Keras 3 has no fit in graph mode")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_program_that_disables_eager_execution_is_run_as_by_python(tmp_path, optimizer):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace("OPTIMIZER", optimizer))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BNGUARD_STACK": STACK}

    def run(*words):
        return subprocess.run(
            [sys.executable, *words, str(script)], env=environment, capture_output=True, text=True
        )

    plain, ours = run(), run("-m", "keras_bnguard", "run", "--fail-on", "warning")
    assert plain.returncode == ours.returncode == 0, ours.stderr
    assert ours.stdout == plain.stdout
    assert "Traceback" not in ours.stderr
    assert ours.stderr.count("graph mode") == 1
    assert "nothing found" not in ours.stderr
