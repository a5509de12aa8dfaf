"""The optimizer given to `compile` trains in every phase, and files contain what it was then."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.registry import backend_for
from tests.builders import schedules as r
from tests.builders.schedules import IS_KERAS3, STACK, keras
from tests.builders.values import (
    as_array,
    learning_rate,
    leaves,
    optimizer_variables,
    same,
    weights,
)

KERAS2 = not IS_KERAS3
RESETS = ["carry", "reset"]


def phases(**settings: Any) -> Any:
    return [
        bng.Phase("head", train="head*", learning_rate=1e-2, epochs=1, batch_norm="follow"),
        bng.Phase("all", train="*", learning_rate=4e-3, epochs=1, batch_norm="follow", **settings),
    ]


def run(optimizer: Any, state: str = "carry", callbacks: Any = (), **settings: Any) -> Any:
    model = r.transfer()
    model.compile(optimizer, "binary_crossentropy", **settings)
    r.fit(model, 2, [r.scheduler(phases(), optimizer_state=state), *callbacks])
    return model


@pytest.mark.parametrize("state", RESETS)
def test_the_object_given_to_compile_trains_in_every_phase(state):
    given = r.optimizer("Adam", 0.5)
    count, taken = given.iterations, given.learning_rate
    seen = r.At(
        begin=lambda model, epoch: (
            model.optimizer is given,
            int(as_array(given.iterations)),
            float(as_array(given.learning_rate)),
        )
    )
    run(given, state, [seen])
    steps = r.STEPS if state == "carry" else 0
    assert [(is_given, n) for is_given, n, _ in seen.seen] == [(True, 0), (True, steps)]
    assert [number for _, _, number in seen.seen] == pytest.approx([1e-2, 4e-3])
    assert int(as_array(given.iterations)) == steps + r.STEPS
    # Also those who refer to the variables in it.
    assert int(as_array(count)) == steps + r.STEPS
    assert float(as_array(taken)) == pytest.approx(4e-3)


@pytest.mark.parametrize("state", RESETS)
def test_a_closure_that_sets_its_learning_rate_counts_in_the_phase(state):
    """As a hand-written script that assigns it after each `compile`."""
    given = r.optimizer("SGD", 0.5)

    def assign(model: Any, epoch: int) -> None:
        given.learning_rate = 0.25

    one = run(given, state, [r.At(begin=assign)])
    many = r.transfer()
    for trains in (r.head_only, r.everything):
        r.freeze(many, trains)
        r.compiled(many, "SGD", 0.25)
        r.fit(many, 1)
    if state == "reset":
        assert same(weights(one), weights(many))
    assert learning_rate(one) == 0.25


def scaled(inner: Any) -> Any:
    family = keras.optimizers if IS_KERAS3 else keras.mixed_precision
    return family.LossScaleOptimizer(inner, initial_scale=8.0)


@pytest.mark.parametrize("state", RESETS)
def test_an_inner_optimizer_stays_the_same_object_too(state):
    inner = keras.optimizers.SGD(0.5, momentum=0.9)
    given = scaled(inner)
    model = run(given, state)
    assert model.optimizer is given
    assert given.inner_optimizer is inner
    assert int(as_array(inner.iterations)) == (2 if state == "carry" else 1) * r.STEPS
    assert float(as_array(inner.learning_rate)) == pytest.approx(4e-3)


class Scaled(keras.optimizers.SGD):
    """Gradients are multiplied by a number that its config lacks."""

    def __init__(self, learning_rate: float = 0.5, **settings: Any) -> None:
        super().__init__(learning_rate, **settings)
        self.scale = 1.0
        self.note = None

    def update_step(self, gradient: Any, variable: Any, *learning_rate: Any) -> Any:
        return super().update_step(gradient * self.scale, variable, *learning_rate)


@pytest.mark.parametrize("state", RESETS)
def test_what_its_config_lacks_survives(state):
    given = Scaled(0.5)
    given.scale, given.note, given.owner = 0.0, "kept", "mine"
    start = [w for name, w in named(r.transfer())]
    model = run(given, state)
    assert same(start, [w for name, w in named(model)])
    assert (model.optimizer.scale, given.note, given.owner) == (0.0, "kept", "mine")


def named(model: Any) -> Any:
    return [
        (layer.name, w)
        for layer in leaves(model)
        for w in layer.get_weights()[: len(layer.trainable_weights)]
    ]


@pytest.mark.skipif(IS_KERAS3, reason="Keras 3 has no legacy optimizers")
@pytest.mark.parametrize("state", RESETS)
def test_gradient_transformers_of_legacy_optimizers_survive(state):
    def zero(pairs: Any) -> Any:
        return [(gradient * 0.0, variable) for gradient, variable in pairs]

    given = keras.optimizers.legacy.SGD(0.5, gradient_transformers=[zero])
    start = [w for name, w in named(r.transfer())]
    model = run(given, state)
    assert model.optimizer is given
    assert same(start, [w for name, w in named(model)])
    assert int(as_array(given.iterations)) == (2 if state == "carry" else 1) * r.STEPS


def test_a_variable_that_a_user_set_on_it_stays_among_its_variables():
    given = r.optimizer("Adam", 0.5)
    mine = keras.Variable(3.0) if IS_KERAS3 else __import__("tensorflow").Variable(3.0)
    given.mine = mine
    known = _listed(given, mine)
    run(given, "reset")
    assert given.mine is mine
    assert float(as_array(mine)) == 3.0
    assert _listed(given, mine) == known


def _listed(optimizer: Any, variable: Any) -> bool:
    found = optimizer.variables
    return any(v is variable for v in (found() if callable(found) else found))


@pytest.mark.skipif(IS_KERAS3, reason="Keras 2 compiles the update of a variable by itself")
def test_updates_compiled_with_xla_use_the_state_of_the_present_phase():
    """TensorFlow turns this on by itself where there is a GPU."""
    ends = []
    for compiled in (True, False):
        given = r.optimizer("SGD", 0.5)
        given.jit_compile = compiled
        ends.append(run(given, "reset"))
    for one, other in zip(*(optimizer_variables(model) for model in ends)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_checkpoint_of_the_optimizer_contains_its_present_state(tmp_path):
    if not KERAS2:
        pytest.skip("checkpoints of TensorFlow hold the optimizers of Keras 2")
    import tensorflow as tf

    given = r.optimizer("Adam", 0.5)
    path = tf.train.Checkpoint(optimizer=given).write(str(tmp_path / "c"))
    model = run(given, "reset")
    path = tf.train.Checkpoint(optimizer=given).write(str(tmp_path / "d"))
    kept = optimizer_variables(model)
    for variable in given.variables():
        variable.assign(variable * 0)
    tf.train.Checkpoint(optimizer=given).read(path)
    assert same(kept, optimizer_variables(model))


# ------------------------------------------------------------------------ files
LOADS = """
import os, sys
sys.modules["keras_bnguard"] = None
if os.environ["BNGUARD_STACK"] == "k2":
    from tensorflow import keras
elif os.environ["BNGUARD_STACK"] == "tfk":
    import tf_keras as keras
else:
    import keras
import numpy as np
for path in sys.argv[1:]:
    m = keras.models.load_model(path, safe_mode=False)
    o = m.optimizer
    v = o.variables
    v = v() if callable(v) else v
    lr = o.learning_rate
    to = keras.ops.convert_to_numpy if hasattr(keras, "ops") else (lambda t: t.numpy())
    flags = [layer.trainable for layer in m.get_layer("backbone").layers]
    values = {f"w{i}": w for i, w in enumerate(m.get_weights())}
    state = {f"o{i}": to(w) for i, w in enumerate(v)}
    np.savez(path + ".npz", lr=to(lr), it=to(o.iterations), flags=flags, **values, **state)
"""


def plain_transfer() -> Any:
    """Of Keras's own layers, so that files load without this package."""
    base = r.backbone()
    inputs = keras.Input((6,), name="inputs")
    x = r.L.BatchNormalization(name="head_bn")(r.L.Dense(4, name="head_dense")(base(inputs)))
    outputs = r.L.Dense(1, activation="sigmoid", name="head_out")(x)
    return keras.Model(inputs, outputs, name="net")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("given", ["object", "name"])
def test_files_of_every_phase_load_with_what_they_had_without_this_package(tmp_path, given, ending):
    model = plain_transfer()
    optimizer = r.optimizer("Adam", 0.5) if given == "object" else "adam"
    model.compile(optimizer, "binary_crossentropy")
    wanted = {}
    made = [
        bng.Phase("head", train="head*", learning_rate=1e-2, epochs=1),
        bng.Phase("all", train="*", learning_rate=4e-3, epochs=1, layer_decay=0.5, warmup=4),
    ]

    def keep(model: Any, epoch: int) -> None:
        wanted[str(tmp_path / f"{epoch + 1}{ending}")] = state_of(model)

    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / ("{epoch}" + ending)))
    r.fit(model, 2, [r.scheduler(made), checkpoint, r.At(end=keep)])
    path = str(tmp_path / f"after{ending}")
    model.save(path)
    wanted[path] = state_of(model)
    script = tmp_path / "loads.py"
    script.write_text(LOADS)
    environment = {**os.environ, "BNGUARD_STACK": STACK}
    subprocess.run([sys.executable, str(script), *wanted], check=True, env=environment)
    assert len(wanted) == 3
    for path, (lr, count, flags, values, state) in wanted.items():
        with np.load(path + ".npz") as found:
            assert found["lr"] == np.float32(lr), path
            assert list(found["flags"]) == flags, path
            assert same(values, [found[f"w{i}"] for i in range(len(values))]), path
            if IS_KERAS3 and ending == ".h5":
                continue  # Keras 3 restores no optimizer state of a functional model from it.
            assert found["it"] == count, path
            assert same(state, [found[f"o{i}"] for i in range(len(state))]), path


def state_of(model: Any) -> Any:
    flags = [layer.trainable for layer in model.get_layer("backbone").layers]
    count = backend_for(model).optimizer.iterations(model)
    return learning_rate(model), count, flags, weights(model), optimizer_variables(model)
