"""Legacy optimizers of Keras 2, and those of TensorFlow Addons: their files, copies and state."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import warnings
from typing import Any, Dict, List

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.backends.values.trial_training import TrialTraining
from tests.builders import schedules as r
from tests.builders.schedules import IS_KERAS3, STACK, keras
from tests.builders.values import as_array, learning_rate, same, weights

pytestmark = pytest.mark.skipif(IS_KERAS3, reason="Keras 3 has no legacy optimizers")

NAMES = ["RMSprop", "Nadam", "scaled"]
NAMES += ["tfa.Lookahead", "tfa.SWA", "tfa.MovingAverage"] if STACK == "k2" else []


def made(name: str, learning_rate: float = 0.5) -> Any:
    if name.startswith("tfa."):
        return addon(name[4:], learning_rate)
    home = keras.optimizers.legacy
    if name == "RMSprop":
        return home.RMSprop(learning_rate, momentum=0.5, centered=True)
    if name == "scaled":
        return keras.mixed_precision.LossScaleOptimizer(home.Adam(learning_rate))
    return getattr(home, name)(learning_rate)


def addon(which: str, learning_rate: float) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_addons as tfa
    inner = keras.optimizers.legacy.SGD(learning_rate, momentum=0.9)
    if which in ("Lookahead", "MovingAverage"):
        return getattr(tfa.optimizers, which)(inner)
    return tfa.optimizers.SWA(inner, average_period=2)


def network(optimizer: Any) -> Any:
    """Of Keras's own layers, so that files load without this package."""
    base = r.backbone()
    inputs = keras.Input((6,), name="inputs")
    x = r.L.BatchNormalization(name="head_bn")(r.L.Dense(4, name="head_dense")(base(inputs)))
    model = keras.Model(inputs, r.L.Dense(1, activation="sigmoid", name="head_out")(x))
    rng = np.random.default_rng(4)
    for layer in (model.get_layer("head_dense"), model.get_layer("head_out")):
        layer.set_weights([rng.uniform(-0.5, 0.5, w.shape) for w in layer.get_weights()])
    model.compile(optimizer, "binary_crossentropy")
    return model


def phases() -> List[bng.Phase]:
    common = {"epochs": 1, "batch_norm": "follow"}
    return [
        bng.Phase("head", train="head*", learning_rate=1e-2, **common),
        bng.Phase("all", train="*", learning_rate=4e-3, **common),
        bng.Phase("top", train=["head*", "backbone/dense2"], learning_rate=2e-3, **common),
    ]


GOES_ON = """
import os, sys, warnings
warnings.simplefilter("ignore")
sys.modules["keras_bnguard"] = None
if os.environ["BNGUARD_STACK"] == "k2":
    from tensorflow import keras
    import tensorflow_addons
else:
    import tf_keras as keras
import numpy as np
with np.load(sys.argv[1]) as data:
    x, y = data["x"], data["y"]

def kept(m):
    values = {f"w{i}": w for i, w in enumerate(m.get_weights())}
    state = {f"o{i}": w for i, w in enumerate(m.optimizer.get_weights())}
    return {**values, **state, "lr": float(m.optimizer.learning_rate)}

for path in sys.argv[2:]:
    m = keras.models.load_model(path)
    np.savez(path + ".loaded.npz", **kept(m))
    for variable in m.weights + list(m.optimizer.weights):
        variable.assign(variable * 0)
    m.load_weights(path[:-3] + ".checkpoint")
    np.savez(path + ".checkpoint.npz", **kept(m))
    if path.endswith("2.h5"):
        m.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        np.savez(path + ".on.npz", **kept(m))
"""


def kept(model: Any) -> List[np.ndarray]:
    return [np.float64(learning_rate(model)), *weights(model), *model.optimizer.get_weights()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Any:
    """For each optimizer: the files of its phases with what the model had then, and where it was
    after one more epoch. The files were read in a process without this package."""
    folder = tmp_path_factory.mktemp("legacy")
    wanted: Dict[str, List[Any]] = {}
    ends: Dict[str, Any] = {}
    for name in NAMES:
        model, files = network(made(name)), wanted.setdefault(name, [])

        def keep(model: Any, epoch: int, name: str = name, files: Any = files) -> None:
            path = str(folder / f"{name}{epoch}.h5")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.save(path)
            model.save_weights(path[:-3] + ".checkpoint")
            files.append((path, kept(model)))

        r.fit(model, 3, [r.scheduler(phases()), r.At(end=keep)])
        r.fit(model, 1)
        ends[name] = kept(model)
    x, y = r.data()
    np.savez(folder / "data.npz", x=x, y=y)
    (folder / "goes_on.py").write_text(GOES_ON)
    paths = [path for files in wanted.values() for path, _ in files]
    environment = {**os.environ, "BNGUARD_STACK": STACK}
    command = [sys.executable, str(folder / "goes_on.py"), str(folder / "data.npz"), *paths]
    subprocess.run(command, check=True, env=environment)
    return wanted, ends


def read(path: str) -> List[np.ndarray]:
    with np.load(path) as found:
        names = sorted((n for n in found if n != "lr"), key=lambda n: (n[0] == "o", int(n[1:])))
        return [np.float64(found["lr"]), *(found[n] for n in names)]


@pytest.mark.parametrize("name", NAMES)
def test_files_of_every_phase_have_each_state_variable_of_its_own(runs, name):
    wanted, ends = runs
    assert len(wanted[name]) == 3
    for path, was in wanted[name]:
        assert same(was, read(path + ".loaded.npz")), path
        assert same(was, read(path + ".checkpoint.npz")), path
    assert same(ends[name], read(path + ".on.npz"))


@pytest.mark.parametrize("state", ["carry", "reset"])
@pytest.mark.parametrize("name", NAMES)
def test_variables_that_were_taken_out_of_it_stay_its_own(name, state):
    given = made(name)
    count = given.iterations
    model = network(given)
    taken = [v for v in (given.learning_rate,) if hasattr(v, "assign")]
    r.fit(model, 2, [r.scheduler(phases()[:2], optimizer_state=state)])
    assert model.optimizer is given
    assert given.iterations is count
    assert int(as_array(count)) == (2 if state == "carry" else 1) * r.STEPS
    assert [float(as_array(v)) for v in taken] == pytest.approx([4e-3] * len(taken))


def test_an_optimizer_that_no_config_can_make_is_carried_and_keeps_all_when_keras_fails():
    class NoConfig(keras.optimizers.legacy.SGD):
        fails = False

        def __init__(self) -> None:
            super().__init__(0.5, momentum=0.9)

        def _create_slots(self, variables: Any) -> None:
            super()._create_slots(variables)
            if self.fails:
                raise RuntimeError("no more")

    given = NoConfig()
    model = network(given)
    r.fit(model, 2, [r.scheduler(phases()[:2])])
    before = given.get_weights()
    given.fails = True
    with pytest.raises(RuntimeError, match="no more"):
        backend_for(model).optimizer.renew(model)
    assert same(before, given.get_weights())


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_training_has_an_optimizer_of_its_own_with_the_same_state(name):
    given = made(name)
    model = network(given)
    r.fit(model, 2, [r.scheduler(phases()[:2])])
    listed = [(id(v), v.name) for v in given.weights]
    before, steps = kept(model), weights(model)
    attributes = {key: id(value) for key, value in vars(given).items()}
    x, y = r.data()
    with TrialTraining(backend_for(model), model) as trial:
        assert model.optimizer is not given
        assert same(before, kept(model))
        with trial.step("a", contextlib.nullcontext()) as step:
            step(x[: r.BATCH], y[: r.BATCH])
        inside = kept(model)
    assert model.optimizer is given
    assert [(id(v), v.name) for v in given.weights] == listed
    assert {key: id(value) for key, value in vars(given).items()} == attributes
    assert same(before, kept(model))
    assert same(steps, weights(model))
    model.train_on_batch(x[: r.BATCH], y[: r.BATCH])
    assert same(inside, kept(model))


def test_a_trial_training_has_what_no_config_has():
    def zero(pairs: Any) -> Any:
        return [(gradient * 0.0, variable) for gradient, variable in pairs]

    model = network(keras.optimizers.legacy.SGD(0.5, gradient_transformers=[zero]))
    dense = model.get_layer("head_dense")
    before = dense.get_weights()
    x, y = r.data()
    with TrialTraining(backend_for(model), model) as trial:
        with trial.step("a", contextlib.nullcontext()) as step:
            step(x, y)
        assert int(model.optimizer.iterations) == 1
        assert same(before, dense.get_weights())


@pytest.mark.parametrize("name", NAMES)
def test_a_later_fit_goes_on_with_the_state_of_the_one_before(name):
    """Whatever the order in which it met its variables."""
    ends = []
    for again in (False, True):
        model = network(made(name))
        r.freeze(model, r.head_only)
        model.compile(model.optimizer, "binary_crossentropy")
        r.fit(model, 1)
        r.freeze(model, r.everything)
        model.compile(model.optimizer, "binary_crossentropy")
        keras.backend.set_value(model.optimizer.learning_rate, 4e-3)
        r.fit(model, 1)
        if again:
            schedule = [bng.Phase("all", train="*", learning_rate=4e-3, batch_norm="follow")]
            r.fit(model, 2, [r.scheduler(schedule)], initial_epoch=1)
        else:
            r.fit(model, 1)
        ends.append([learning_rate(model), *weights(model), *by_variable(model)])
    assert same(ends[0][1:], ends[1][1:])


def by_variable(model: Any) -> List[np.ndarray]:
    """The state in an order that does not depend on when a variable was met."""
    return backend_for(model).optimizer.state(model)
