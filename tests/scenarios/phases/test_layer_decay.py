"""`layer_decay`: a layer d blocks from the output trains at learning_rate * layer_decay ** d."""

from __future__ import annotations

import pickle
from typing import Any, Dict, List

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.phases.learning_rates import block_depths, learning_rate_factors
from keras_bnguard.phases.transition import Transition
from tests.builders import schedules as r
from tests.builders.schedules import IS_KERAS3, STACK, keras

DECAY = 0.5
LEARNING_RATE = 1e-2


def depth_of(model: Any) -> Dict[int, int]:
    """id(variable) -> depth of its layer."""
    snapshot = take_snapshot(model)
    depths = block_depths(snapshot)
    return {
        id(v): depths[p]
        for p, layer in snapshot.layers
        for v in snapshot.backend.graph.own_variables(layer)
    }


def test_depth_counts_blocks_from_the_output():
    depths = block_depths(take_snapshot(r.transfer()))
    assert depths["head_out"] == 0
    assert depths["head_dense"] == depths["head_bn"] == 1
    assert depths["backbone/dense2"] == depths["backbone/bn2"] == 2
    assert depths["backbone/dense1"] == depths["backbone/bn1"] == depths[""] == 3


class WithToken(keras.Model):
    """A model that owns a weight itself, has no graph, and calls one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = r.L.Dense(4, name="embed")
        self.block = r.L.Dense(4, name="block")
        self.out = r.L.Dense(1, name="out")

    def build(self, shape: Any) -> None:
        self.token = self.add_weight(shape=(4,), initializer="zeros", name="token")
        super().build(shape)

    def call(self, x: Any) -> Any:
        return self.out(self.block(self.block(self.embed(x) + self.token)))


def test_weights_of_the_model_itself_count_with_the_first_block():
    model = WithToken()
    model(np.zeros((2, 6), "float32"))
    assert block_depths(take_snapshot(model)) == {"embed": 2, "block": 1, "out": 0, "": 2}
    model.compile(r.optimizer("SGD", LEARNING_RATE, momentum=0.0), "mse")
    backend = backend_for(model)
    snapshot = take_snapshot(model)
    transition = Transition(snapshot)
    transition.make_optimizer(carry=True, learning_rate=None, schedule=None)
    transition.set_learning_rate(None, learning_rate_factors(snapshot, DECAY))
    before = r.as_array(model.token)
    variables = list(model.trainable_variables)
    ones = [r.tensor(np.ones(v.shape, "float32")) for v in variables]
    model.optimizer.apply_gradients(zip(ones, variables))
    np.testing.assert_allclose(r.as_array(model.token) - before, -LEARNING_RATE / 4, rtol=1e-6)
    np.testing.assert_allclose(r.as_array(model.out.bias), -LEARNING_RATE, rtol=1e-6)
    assert backend.optimizer.remove_learning_rate_factors(model)


# ------------------------------------------------------------ the optimizers' own steps
def made(name: str, learning_rate: float) -> Any:
    """An optimizer of each kind, with weight decay where that is Keras's own."""
    family, _, more = name.partition("+")
    if family == "legacy":
        kwargs = {"momentum": 0.9, "nesterov": True} if more == "SGD" else {}
        return getattr(keras.optimizers.legacy, more)(learning_rate, **kwargs)
    if family == "tfa":
        import tensorflow_addons as tfa

        if more == "Lookahead":
            return tfa.optimizers.Lookahead(
                keras.optimizers.legacy.SGD(learning_rate), sync_period=2
            )
        kwargs = {"weight_decay": 1e-2} if more == "AdamW" else {}
        return getattr(tfa.optimizers, more)(learning_rate=learning_rate, **kwargs)
    settings = {"weight_decay": 0.1} if more == "wd" else {"use_ema": True} if more == "ema" else {}
    return r.optimizer(family, learning_rate, **settings)


NAMES = ["SGD", "Adam", "AdamW+wd", "SGD+wd", "RMSprop", "Ftrl", "Adagrad", "Lion+wd", "SGD+ema"]
NAMES += ["Nadam", "Adafactor", "Lamb"] if IS_KERAS3 else ["legacy+SGD", "legacy+Adam"]
NAMES += (
    ["tfa+AdamW", "tfa+RectifiedAdam", "tfa+LazyAdam", "tfa+Lookahead"] if STACK == "k2" else []
)


@pytest.mark.parametrize("name", NAMES)
def test_every_step_is_that_of_an_optimizer_made_with_the_smaller_learning_rate(name):
    """One optimizer with factors, against one plain optimizer for each learning rate."""
    rng = np.random.default_rng(1)
    one = r.transfer()
    gradients = [
        [rng.normal(size=v.shape).astype("float32") for v in one.trainable_variables]
        for _ in range(3)
    ]

    def steps(model: Any, learning_rate: float, factors: Any = ()) -> List[np.ndarray]:
        model.compile(made(name, learning_rate), "mse")
        backend_for(model).optimizer.put_learning_rate_factors(model, factors)
        for values in gradients:
            pairs = zip([r.tensor(v) for v in values], model.trainable_variables)
            model.optimizer.apply_gradients(pairs)
        return [r.as_array(v) for v in model.trainable_variables]

    depth = depth_of(one)
    depths = [depth[id(v)] for v in one.trainable_variables]
    got = steps(
        one, LEARNING_RATE, [(v, DECAY**d) for v, d in zip(one.trainable_variables, depths)]
    )
    for d in range(4):
        expected = steps(r.transfer(), LEARNING_RATE * DECAY**d)
        for i, at in enumerate(depths):
            if at == d:
                np.testing.assert_allclose(got[i], expected[i], rtol=3e-7, atol=1e-8)


# ------------------------------------------------------------------------- in fit
def one_step(name: str, decay: float, **settings: Any) -> Any:
    """What one step of `fit` added to each trainable variable, and its depth."""
    model = r.transfer()
    depth = depth_of(model)
    before = [r.as_array(v) for v in model.trainable_variables]
    r.compiled(model, name, 0.5, **settings)
    phase = bng.Phase("all", train="*", learning_rate=LEARNING_RATE, epochs=1, layer_decay=decay)
    x, y = r.data()
    model.fit(x[:8], y[:8], batch_size=8, verbose=0, callbacks=[r.scheduler([phase])])
    after = [r.as_array(v) for v in model.trainable_variables]
    return before, after, [depth[id(v)] for v in model.trainable_variables]


@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}] if r.ON_TF else [{}])
def test_in_fit_the_first_update_is_the_learning_rate_times_the_decay_times_the_gradient(settings):
    before, plain, depths = one_step("SGD", 1.0, momentum=0.0, **settings)
    _, decayed, _ = one_step("SGD", DECAY, momentum=0.0, **settings)
    assert set(depths) == {0, 1, 2, 3}
    for w, all_of_it, some, d in zip(before, plain, decayed, depths):
        # A bias in front of a BN has no gradient but what rounding leaves of it.
        rounding = np.spacing(np.abs(w).max()) + 1e-10
        np.testing.assert_allclose(some - w, DECAY**d * (all_of_it - w), rtol=1e-6, atol=rounding)


def test_in_fit_the_first_update_of_adam_has_the_size_of_the_decayed_learning_rate():
    before, after, depths = one_step("Adam", DECAY)
    kernels = [i for i, w in enumerate(before) if w.ndim == 2]
    assert len(kernels) == 4
    for i in kernels:
        largest = np.abs(after[i] - before[i]).max()
        assert largest == pytest.approx(LEARNING_RATE * DECAY ** depths[i], rel=0.01)


def test_without_decay_the_optimizer_is_as_keras_made_it():
    seen = r.At(begin=lambda model, epoch: ours(model))
    r.fit(r.compiled(r.transfer()), 2, [r.scheduler(r.head_then_all(1, 1)), seen])
    assert seen.seen == [False, False]
    assert learning_rate_factors(take_snapshot(r.transfer()), 1.0) == {}


def ours(model: Any) -> bool:
    inner = getattr(model.optimizer, "inner_optimizer", None) or model.optimizer
    return bool({"_bng_rates", "update_step", "_parallel_update_step"} & set(vars(inner)))


def test_it_ends_with_its_phase():
    phases = [
        bng.Phase("head", train="head*", learning_rate=LEARNING_RATE, epochs=1, layer_decay=DECAY),
        bng.Phase("all", train="*", epochs=1),
    ]
    seen = r.At(begin=lambda model, epoch: ours(model))
    r.fit(r.compiled(r.transfer()), 2, [r.scheduler(phases), seen])
    assert seen.seen == [True, False]


def test_a_model_saved_in_such_a_phase_loads_without_us_and_after_fit_it_is_gone(tmp_path):
    def save(model: Any, epoch: int) -> None:
        assert ours(model)
        model.save(tmp_path / "m.keras")
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(model))

    phase = bng.Phase("all", train="*", epochs=1, layer_decay=DECAY)
    model = r.compiled(r.backbone(), loss="mse")
    x, _ = r.data()
    callbacks = [r.scheduler([phase]), r.At(end=save)]
    model.fit(x, x[:, :5], batch_size=r.BATCH, verbose=0, callbacks=callbacks)
    again = [
        pickle.loads((tmp_path / "m.pkl").read_bytes()),
        keras.models.load_model(tmp_path / "m.keras"),
    ]
    for path in tmp_path.iterdir():
        assert b"bng" not in path.read_bytes()
    assert not ours(model)
    assert model.train_function is None
    for each in again:
        assert type(each.optimizer) is type(model.optimizer)
        assert not ours(each)


def test_a_repair_inside_such_a_phase_keeps_the_factors():
    model = r.compiled(r.transfer())
    backend = backend_for(model)
    backend.optimizer.put_learning_rate_factors(
        model, [(v, 0.5) for v in model.trainable_variables]
    )
    backend.optimizer.renew(model)
    assert ours(model)
    assert backend.optimizer.remove_learning_rate_factors(model)
    assert not backend.optimizer.remove_learning_rate_factors(model)


def test_the_plan_the_summary_and_yaml_show_it():
    phases = [
        bng.Phase("head", train="head*", learning_rate=1e-2, epochs=1, layer_decay=DECAY),
        bng.Phase("all", train="*", learning_rate=1e-3, epochs=1, layer_decay=DECAY),
    ]
    schedule = r.scheduler(phases)
    table = schedule.plan(r.transfer()).splitlines()
    assert "0.01 to 0.005" in table[1]
    assert "0.001 to 0.000125" in table[2]
    assert "layer_decay: 0.5" in schedule.to_yaml()
    assert bng.PhaseScheduler.from_yaml(schedule.to_yaml()).phases == schedule.phases
    row = {"epoch": 3, "phase": "all", "learning_rate": 1e-3, "layer_decay": 0.5, "logs": {}}
    schedule.history.append({**row, "trainable_share": 1.0})
    assert "learning rate 0.001 x 0.5 per block" in schedule.summary()


@pytest.mark.parametrize("wrong", [0.0, -1, 1.5, "0.5", True])
def test_a_wrong_decay_is_refused(wrong):
    with pytest.raises(bng.ScheduleError, match="layer_decay="):
        bng.Phase("x", train="*", layer_decay=wrong)


@pytest.mark.skipif(STACK == "tfk", reason="tf_keras has no MultiOptimizer")
def test_an_optimizer_with_several_learning_rates_is_refused_before_the_first_step():
    model = r.transfer()
    if STACK == "k2":
        import tensorflow_addons as tfa

        inner = [(keras.optimizers.legacy.SGD(0.1), model.layers[1:3]),
                 (keras.optimizers.legacy.Adam(0.1), model.layers[3:])]  # fmt: skip
        several = tfa.optimizers.MultiOptimizer(inner)
    else:
        if not hasattr(keras.optimizers, "MultiOptimizer"):
            pytest.skip("this Keras has none")
        several = keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1))
        )
    model.compile(several, "binary_crossentropy")
    before = r.weights(model)
    with pytest.raises(bng.ScheduleError, match="cannot set the learning rate of a MultiOptimizer"):
        r.fit(model, 2, [r.scheduler(r.head_then_all(1, 1))])
    assert r.same(before, r.weights(model))
