"""One `fit` with phases is, bit for bit, the freeze / compile / fit of a hand-written script."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.registry import backend_for
from tests.builders import schedules as r
from tests.builders.schedules import IS_KERAS3, STACK, keras


def by_hand(model: Any, steps: Any, name: str, forced: Any = None, **settings: Any) -> Any:
    """freeze, compile, fit; once for each (which layers train, learning rate, epochs)."""
    for trains, learning_rate, epochs in steps:
        r.freeze(model, trains)
        if forced:
            bng.force_inference(model, layers=forced)
        r.compiled(model, name, learning_rate, **settings)
        r.fit(model, epochs)
    return model


def both(phases: Any, steps: Any, name: str, forced: Any = None, **settings: Any) -> Any:
    many = by_hand(r.transfer(), steps, name, forced, **settings)
    one = r.compiled(r.transfer(), name, 0.5, **settings)
    r.fit(
        one,
        sum(epochs for _, _, epochs in steps),
        [r.scheduler(phases, optimizer_state="reset")],
    )
    return one, many


SHORT = [(r.head_only, 1e-2, 1), (r.everything, 1e-5, 1)]
GUIDE = [(r.head_only, 1e-2, 2), (r.everything, 1e-5, 2)]


@pytest.mark.parametrize("name", ["SGD", "Adam", "Nadam"])
def test_head_then_all_equals_two_fits(name):
    one, many = both(r.head_then_all(batch_norm="follow"), GUIDE, name)
    assert r.same(r.weights(one), r.weights(many))
    assert r.same(r.optimizer_variables(one), r.optimizer_variables(many))


def test_a_pretrained_backbone_in_inference_mode_equals_two_guarded_fits():
    one, many = both(r.head_then_all(), GUIDE, "Adam", forced="backbone/*")
    assert r.same(r.weights(one), r.weights(many))
    assert r.same(r.optimizer_variables(one), r.optimizer_variables(many))
    assert r.statistics(one, "backbone/bn1") == r.statistics(r.transfer(), "backbone/bn1")


@pytest.mark.parametrize("settings", [{"jit_compile": True}, {"steps_per_execution": 2}])
def test_compiled_otherwise_it_still_equals_two_fits(settings):
    if STACK == "k3-torch":
        settings = {"jit_compile": False, "run_eagerly": True}
    one, many = both(r.head_then_all(batch_norm="follow"), GUIDE, "Adam", **settings)
    assert r.same(r.weights(one), r.weights(many))
    assert r.same(r.optimizer_variables(one), r.optimizer_variables(many))


def test_three_phases_there_and_back_equal_three_fits():
    top = ["head*", "backbone/dense2", "backbone/bn2"]
    phases = [
        bng.Phase("top", train=top, learning_rate=1e-2, epochs=1, batch_norm="follow"),
        bng.Phase("all", train="*", learning_rate=1e-3, epochs=1, batch_norm="follow"),
        bng.Phase("head", train="head*", learning_rate=1e-4, epochs=1, batch_norm="follow"),
    ]

    def is_top(layer: Any) -> bool:
        return r.head_only(layer) or layer.name in ("dense2", "bn2")

    steps = [(is_top, 1e-2, 1), (r.everything, 1e-3, 1), (r.head_only, 1e-4, 1)]
    one, many = both(phases, steps, "SGD")
    assert r.same(r.weights(one), r.weights(many))


@pytest.mark.skipif(IS_KERAS3, reason="of Keras 3 Nadam has variables alone")
@pytest.mark.parametrize("settings", [{"run_eagerly": True}, {"jit_compile": True}])
def test_nadam_of_keras_2_starts_again_as_after_compile_however_it_is_traced(settings):
    """It counts in Python: traces in a graph, steps without."""
    one, many = both(r.head_then_all(1, 1, batch_norm="follow"), SHORT, "Nadam", **settings)
    assert one.optimizer._u_product_counter == many.optimizer._u_product_counter
    assert r.same(r.weights(one), r.weights(many))
    assert r.same(r.optimizer_variables(one), r.optimizer_variables(many))


def test_averaged_weights_equal_those_of_two_fits():
    one, many = both(
        r.head_then_all(batch_norm="follow"), GUIDE, "SGD", use_ema=True, ema_momentum=0.5
    )
    assert r.same(r.weights(one), r.weights(many))
    assert r.same(r.optimizer_variables(one), r.optimizer_variables(many))


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 2 has no gradient accumulation")
def test_accumulated_gradients_equal_those_of_two_fits():
    one, many = both(
        r.head_then_all(batch_norm="follow"), GUIDE, "SGD", gradient_accumulation_steps=2
    )
    assert r.same(r.weights(one), r.weights(many))
    assert r.same(r.optimizer_variables(one), r.optimizer_variables(many))


@pytest.mark.skipif(IS_KERAS3, reason="Keras 3 has no legacy optimizers")
@pytest.mark.parametrize("name", ["Adam"])
def test_legacy_optimizers_equal_two_fits(name):
    def make(learning_rate: float) -> Any:
        more = {"momentum": 0.9} if name == "SGD" else {}
        return getattr(keras.optimizers.legacy, name)(learning_rate, **more)

    many = r.transfer()
    for trains, learning_rate, epochs in GUIDE:
        r.freeze(many, trains)
        many.compile(make(learning_rate), "binary_crossentropy")
        r.fit(many, epochs)
    one = r.transfer()
    one.compile(make(0.5), "binary_crossentropy")
    phases = r.head_then_all(batch_norm="follow")
    r.fit(one, 4, [r.scheduler(phases, optimizer_state="reset")])
    assert r.same(r.weights(one), r.weights(many))


@pytest.mark.parametrize("legacy", [False, True])
def test_loss_scaling_equals_two_fits(legacy):
    if legacy and IS_KERAS3:
        pytest.skip("Keras 3 has no legacy optimizers")
    family = keras.optimizers.legacy if legacy else keras.optimizers

    def make(learning_rate: float) -> Any:
        inner = family.SGD(learning_rate, momentum=0.9)
        if IS_KERAS3:
            return keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
        return keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=8.0)

    many = r.transfer()
    for trains, learning_rate, epochs in GUIDE:
        r.freeze(many, trains)
        many.compile(make(learning_rate), "binary_crossentropy")
        r.fit(many, epochs)
    one = r.transfer()
    one.compile(make(0.5), "binary_crossentropy")
    phases = r.head_then_all(batch_norm="follow")
    r.fit(one, 4, [r.scheduler(phases, optimizer_state="reset")])
    assert r.same(r.weights(one), r.weights(many))


# ------------------------------------------------------------------------ carry
# More in test_optimizers.py.
OPTIMIZERS = ["SGD", "Adam", "Adagrad", "Adadelta", "Adamax", "Nadam"]
OPTIMIZERS += ["Lamb"] if IS_KERAS3 else []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_carry_keeps_everything_an_optimizer_knows(name):
    """With the same weights before and after, the new optimizer goes on like the old one."""
    models = [r.compiled(r.transfer(), name, 1e-2) for _ in range(2)]
    rng = np.random.default_rng(1)
    gradients = [
        [rng.normal(size=v.shape).astype("float32") for v in models[0].trainable_variables]
        for _ in range(4)
    ]
    for step, values in enumerate(gradients):
        for model in models:
            if step == 3 and model is models[0]:
                backend_for(model).optimizer.renew(model, carry=True)
                assert r.same(r.optimizer_variables(models[0]), r.optimizer_variables(models[1]))
            tensors = [r.tensor(value) for value in values]
            model.optimizer.apply_gradients(zip(tensors, model.trainable_variables))
    assert r.same(r.optimizer_variables(models[0]), r.optimizer_variables(models[1]))
    assert r.same(r.weights(models[0]), r.weights(models[1]))


def test_carry_gives_the_first_step_of_weights_that_go_on_as_if_nothing_had_changed():
    """Gradients of the head do not depend on which other weights train, so its weights after
    the first step of the new phase are those of a run that went on with the head alone."""
    one, plain = (r.transfer() for _ in range(2))
    r.freeze(plain, r.head_only)
    for model in (one, plain):
        r.compiled(model, "Adam", 1e-2)
    phases = [
        bng.Phase("head", train="head*", epochs=2),
        bng.Phase("all", train="*", epochs=1),
    ]
    head = ["head_dense", "head_bn", "head_out"]
    seen = []
    for model, callbacks in ((one, [r.scheduler(phases)]), (plain, [])):
        steps = AfterEachStep(head)
        r.fit(model, 3, [*callbacks, steps])
        seen.append(steps.seen)
    for k in range(2 * r.STEPS + 1):
        # The new graph may sum in another order: one rounding, never a wrong state variable.
        exactly = k < 2 * r.STEPS
        for a, b in zip(seen[0][k], seen[1][k]):
            if exactly:
                assert a.tobytes() == b.tobytes(), f"step {k}"
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7, err_msg=f"step {k}")
    assert not r.same(seen[0][-1], seen[1][-1])


class AfterEachStep(keras.callbacks.Callback):
    def __init__(self, names: List[str]) -> None:
        super().__init__()
        self._names = names
        self.seen: List[Any] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        layers = [self.model.get_layer(name) for name in self._names]
        self.seen.append([w for layer in layers for w in layer.get_weights()])


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_carry_is_exact_for_weights_whose_gradient_no_phase_changes(name):
    """Two towers that share nothing but the loss: the one that always trains does not notice."""

    def towers() -> Any:
        inputs = keras.Input((6,), name="inputs")
        outs = []
        for side in ("left", "right"):
            x = r.L.Dense(4, name=f"{side}_dense")(inputs)
            x = r.L.BatchNormalization(name=f"{side}_bn")(x)
            outs.append(r.L.Dense(1, name=f"{side}_out")(x))
        return keras.Model(inputs, outs, name="towers")

    start = towers().get_weights()
    x, y = r.data()
    ends = []
    for phases in (
        [bng.Phase("one", train="left*", epochs=3, batch_norm="follow")],
        [
            bng.Phase("one", train="left*", epochs=1, batch_norm="follow"),
            bng.Phase("two", train="*", epochs=1, batch_norm="follow"),
            bng.Phase("three", train="left*", epochs=1, batch_norm="follow"),
        ],
    ):
        model = towers()
        model.set_weights(start)
        model.compile(r.optimizer(name, 1e-2), ["mse", "mse"])
        model.fit(x, [y, y], epochs=3, batch_size=8, shuffle=False, verbose=0,
                  callbacks=[r.scheduler(phases)])  # fmt: skip
        sides = ("left_dense", "left_bn", "left_out")
        ends.append([w for layer in sides for w in model.get_layer(layer).get_weights()])
    if compiled_for_an_accelerator():
        for one, two in zip(*ends):
            np.testing.assert_allclose(one, two, rtol=2e-6, atol=1e-7)
    else:
        assert r.same(*ends)


def compiled_for_an_accelerator() -> bool:
    """Whether XLA compiles each phase's step for a GPU. That the state variables themselves are
    carried bit for bit is tested above. A difference in the last bit was seen on a GPU; the cause
    is not known. One that would explain it: the step of another phase is another program, in
    which XLA may fuse the updates differently."""
    if STACK != "k3-jax":
        return False
    import jax

    return bool(jax.default_backend() != "cpu")


def test_an_average_of_a_weight_that_begins_to_train_begins_at_the_weight():
    """Keras 3 begins averages at zero and sets them right in step 0 only, which has passed."""
    model = r.compiled(r.transfer(), "SGD", 1e-3, use_ema=True, ema_momentum=0.99)
    before = model.get_layer("backbone").get_weights()
    phases = [
        bng.Phase("head", train="head*", epochs=1),
        bng.Phase("all", train="*", epochs=1),
    ]
    r.fit(model, 2, [r.scheduler(phases)])
    for a, b in zip(before, model.get_layer("backbone").get_weights()):
        np.testing.assert_allclose(a, b, atol=0.05)


def test_weights_excluded_from_weight_decay_stay_excluded():
    model = r.transfer()
    model.compile(made := r.optimizer("AdamW", 1e-3, weight_decay=0.5), "binary_crossentropy")
    made.exclude_from_weight_decay(var_names=["gamma"])
    names = []

    def excluded(model: Any, epoch: int) -> None:
        for variable in model.trainable_variables:
            if not model.optimizer._use_weight_decay(variable):
                names.append((epoch, getattr(variable, "path", variable.name)))

    r.fit(model, 2, [r.scheduler(r.head_then_all(1, 1)), r.At(begin=excluded)])
    assert len([n for e, n in names if e == 0]) == 1
    assert len([n for e, n in names if e == 1]) == 3
    assert all("gamma" in n for _, n in names)
