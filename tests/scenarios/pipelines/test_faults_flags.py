"""BNG101, 102, 103, 105, 106 and 601: flags against what really trains, in real runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.harness import (
    BACKEND,
    IS_KERAS3,
    SAME_FLAGS,
    STACK,
    clean,
    fit,
    found,
    listening,
)
from tests.builders.norm_subclasses import Stubborn, with_norm
from tests.builders.pipelines import (
    AroundBackbone,
    L,
    backbone,
    compiled,
    nested,
    pretend_trained,
    recompiled,
    rows,
    sequential_around,
    stacked,
)
from tests.builders.values import as_array, at, statistics
from tests.stack import keras

NAMES = ["dense1", "bn1", "relu1", "dense2", "bn2"]
BACKBONE = ["backbone", "backbone/backbone_in", *(f"backbone/{name}" for name in NAMES)]


def changed(run: Any) -> list:
    return [p for p in run.layers("BNG101") if not p.endswith("_in")]


ALL_BELOW = sorted(p for p in BACKBONE if not p.endswith(("_in", "relu1")))
"""Those with weights."""
RAISES = {
    # what the second `fit` does where flags changed after the first
    ("freeze", "k3-jax"): ValueError,
    ("unfreeze", "k3-jax"): ValueError,
    ("unfreeze", "k3-torch"): ValueError,
}


# ------------------------------------------------------------------------ BNG101
@pytest.mark.parametrize("way", ["freeze", "unfreeze"])
@pytest.mark.parametrize("when", ["before the first fit", "after a fit"])
def test_flags_changed_after_compile(way: str, when: str) -> None:
    base = backbone()
    base.trainable = way == "freeze"
    model = compiled(nested(base))
    if when == "after a fit":
        clean(fit(model, *rows()))
    base.trainable = way == "unfreeze"
    error = RAISES.get((way, STACK)) if when == "after a fit" else None
    run = fit(model, *rows(), fails=error is not None)
    assert isinstance(run.error, error or type(None)), run.error
    ignored = SAME_FLAGS or (STACK == "k3-tf" and when == "after a fit")
    found_too = ("BNG404",) if way == "freeze" and ignored else ()
    assert run.codes == ("BNG101", *found_too), run.messages
    assert changed(run) == ALL_BELOW


def test_the_changed_layer_is_named() -> None:
    model = compiled(stacked(backbone()))
    model.get_layer("bn1").trainable = False
    run = fit(model, *rows())
    found(run, {code: ["bn1"] for code in ("BNG101", "BNG404")[: 2 if SAME_FLAGS else 1]})


def test_flags_of_a_subclassed_model() -> None:
    model = AroundBackbone(backbone())
    model(np.zeros((1, 8), "float32"))
    compiled(model)
    model.base.trainable = False
    run = fit(model, *rows())
    assert run.codes == (("BNG101", "BNG404") if SAME_FLAGS else ("BNG101",)), run.messages
    assert "backbone/bn2" in run.layers("BNG101")
    assert "head_bn" not in run.layers("BNG101")


class ChangeFlags(keras.callbacks.Callback):
    """Freezes the backbone in one hook of one epoch, without compiling again."""

    def __init__(self, hook: str, flag: bool = False) -> None:
        super().__init__()
        self.flag = flag
        setattr(self, hook, self.trainable_change)

    def trainable_change(self, index: int = 0, logs: Any = None) -> None:
        base = self.model.get_layer("backbone")
        if base.trainable is not self.flag and (index == 1 or self.flag is False):
            base.trainable = self.flag


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    "hook", ["on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_epoch_end"]
)
def test_a_callback_that_freezes(hook: str, place: str) -> None:
    model = compiled(nested(backbone()))
    run = fit(model, *rows(32), epochs=2, fails=True, **{place: [ChangeFlags(hook)]})
    assert "BNG101" in run.codes, (run.codes, run.error)
    assert changed(run) == ALL_BELOW
    assert set(run.codes) <= {"BNG101", "BNG404"}, run.messages


def test_repair_puts_changed_flags_into_effect() -> None:
    base = backbone()
    model = compiled(nested(base, head_bn=True))
    base.trainable = False
    before = statistics(model, "backbone/bn1"), statistics(model, "backbone/bn2")
    run = fit(model, *rows(), guard=bng.BNGuard(fix=True), epochs=2)
    assert run.codes == ("BNG101",), run.messages
    assert run.finding("BNG101").repaired
    after = statistics(model, "backbone/bn1"), statistics(model, "backbone/bn2")
    assert before == after
    assert as_array(at(model, "head_bn").moving_mean).any()


def test_repair_of_flags_changed_after_a_fit() -> None:
    base = backbone()
    base.trainable = False
    model = compiled(nested(base), optimizer="Adam")
    clean(fit(model, *rows()))
    kernel = as_array(at(model, "backbone/dense1").kernel).copy()
    base.trainable = True
    before = statistics(model, "backbone/bn1")
    run = fit(model, *rows(), guard=bng.BNGuard(fix=True))
    # As the flags count now, it is also an unfreezing, at the learning rate of the head.
    assert run.codes == ("BNG101", "BNG104", "BNG606"), run.messages
    assert before != statistics(model, "backbone/bn1")
    assert np.any(kernel != as_array(at(model, "backbone/dense1").kernel))
    clean(fit(model, *rows()))


# ------------------------------------------------------------------------ BNG102
def frozen_with_a_live_child(name: str = "backbone") -> Any:
    base = backbone(name)
    base.trainable = False
    base.get_layer("bn1").trainable = True
    return base


@pytest.mark.parametrize("style", ["nested", "sequential", "subclassed"])
def test_live_norm_under_a_frozen_parent(style: str) -> None:
    build = {"nested": nested, "sequential": sequential_around, "subclassed": AroundBackbone}
    run = fit(compiled(build[style](frozen_with_a_live_child())), *rows())
    found(run, {"BNG102": ["backbone/bn1"], "BNG404": ["backbone/bn1"]})


def test_repair_holds_a_live_norm_under_a_frozen_parent() -> None:
    model = compiled(nested(frozen_with_a_live_child()))
    before = statistics(model, "backbone/bn1")
    guard = bng.BNGuard(fix=True)
    found(fit(model, *rows(), guard=guard, epochs=2), {"BNG102": ["backbone/bn1"]})
    assert before == statistics(model, "backbone/bn1")


# ------------------------------------------------------------------------ BNG103
@pytest.mark.parametrize("style", ["nested", "flat"])
def test_all_frozen_but_the_norms(style: str) -> None:
    base = backbone()
    model = nested(base, head_bn=True) if style == "nested" else stacked(base)
    for layer in base.layers:
        layer.trainable = isinstance(layer, L.BatchNormalization)
    prefix = "backbone/" if style == "nested" else ""
    run = fit(compiled(model), *rows())
    found(run, {"BNG103": [f"{prefix}bn1", f"{prefix}bn2"]})


# ------------------------------------------------------------------------ BNG105
def test_a_subclass_that_uses_the_batch_when_frozen() -> None:
    norm = Stubborn(name="bn")
    model = pretend_trained(with_norm(norm))
    norm.trainable = False
    run = fit(compiled(model), *rows())
    assert run.codes[0] == "BNG105", run.messages
    assert run.layers("BNG105") == ["bn"]
    assert set(run.codes) <= {"BNG105", "BNG404"}


def test_repair_holds_a_subclass_that_uses_the_batch_when_frozen() -> None:
    norm = Stubborn(name="bn")
    model = pretend_trained(with_norm(norm))
    norm.trainable = False
    before = statistics(model, "bn")
    found(fit(compiled(model), *rows(), guard=bng.BNGuard(fix=True)), {"BNG105": ["bn"]})
    assert before == statistics(model, "bn")


@pytest.mark.skipif(not SAME_FLAGS, reason="the layer of TF 1 needs Keras 2")
def test_the_frozen_norm_of_tensorflow_1() -> None:
    if STACK == "k2":
        import tensorflow as tf

        old = tf.compat.v1.keras.layers.BatchNormalization(name="bn")
    else:
        from tf_keras.src.layers.normalization.batch_normalization_v1 import BatchNormalization

        old = BatchNormalization(name="bn")
    model = pretend_trained(with_norm(old))
    old.moving_mean.assign(np.full(8, 0.3, "float32"))
    old.trainable = False
    found(fit(compiled(model), *rows()), {"BNG105": ["bn"]})
    old.trainable = True
    found(fit(compiled(model), *rows()), {"BNG104": ["bn"]})


if BACKEND == "torch":
    import torch

    def torch_model() -> Any:
        module = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.BatchNorm1d(6))
        module[1].running_mean.fill_(0.2)
        inputs = keras.Input((8,))
        x = keras.layers.TorchModuleWrapper(module, name="wrapped", output_shape=(None, 6))(inputs)
        return keras.Model(inputs, L.Dense(1, activation="sigmoid")(x))

    def test_a_torch_module_frozen_and_live() -> None:
        model = torch_model()
        found(fit(compiled(model), *rows()), {"BNG702": ["wrapped/1"]})
        model.get_layer("wrapped").trainable = False
        run = fit(compiled(model), *rows())
        found(run, {c: ["wrapped/1"] for c in ("BNG105", "BNG404", "BNG702")})

    def test_repair_holds_a_frozen_torch_module() -> None:
        model = torch_model()
        model.get_layer("wrapped").trainable = False
        norm = model.get_layer("wrapped").module[1]
        before = norm.running_mean.clone()
        run = fit(compiled(model), *rows(), guard=bng.BNGuard(fix=True))
        found(run, {"BNG105": ["wrapped/1"], "BNG702": ["wrapped/1"]})
        assert torch.equal(before, norm.running_mean)


# --------------------------------------------------------------- BNG106 and GANs
def gan() -> Any:
    noise = keras.Input((4,))
    h = L.BatchNormalization(name="g_bn")(L.Dense(8, name="g_dense")(noise))
    generator = keras.Model(noise, L.Dense(8, name="g_out")(h), name="generator")
    real = keras.Input((8,))
    h = L.BatchNormalization(name="d_bn")(L.Dense(8, name="d_dense")(real))
    critic = keras.Model(real, L.Dense(1, activation="sigmoid", name="d_out")(h), name="critic")
    compiled(critic)
    critic.trainable = False
    both = keras.Model(noise, critic(generator(noise)), name="gan")
    return generator, critic, compiled(both)


def test_two_compiled_models_are_reported_on_request() -> None:
    _, critic, both = gan()
    if not SAME_FLAGS:
        critic.trainable = True
    x, y = rows()
    run = fit(critic, x, y, guard=bng.BNGuard(select="BNG106"))
    assert run.codes == ("BNG106",)
    assert run.layers("BNG106") == ["d_bn"]
    assert not run.messages
    assert both is not None


@pytest.mark.parametrize("trainable_changes", [False, True])
def test_the_classic_gan_of_two_compiled_models(trainable_changes: bool) -> None:
    """Right on Keras 2, with or without changes of flags. Keras 3 reads the flags late."""
    _, critic, both = gan()
    x, y = rows(32)
    noise = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    for_critic, for_both = bng.BNGuard(), bng.BNGuard()
    listen = listening(for_critic), listening(for_both)
    with listen[0] as d_run, listen[1] as g_run, for_critic.watch(critic), for_both.watch(both):
        for _ in range(2):
            if trainable_changes:
                critic.trainable = True
            critic.train_on_batch(x, y)
            if trainable_changes:
                critic.trainable = False
            both.train_on_batch(noise, y)
    d_codes, g_codes = for_critic.report.codes, for_both.report.codes
    if SAME_FLAGS or trainable_changes:
        assert d_codes + g_codes == (), (d_run.messages, g_run.messages)
    else:
        # The critic was frozen behind its back: its own step no longer trains it.
        assert d_codes == ("BNG110",), d_run.messages
        assert g_codes == (), g_run.messages


# ------------------------------------------------------------------------ BNG601
def test_the_same_optimizer_for_unfrozen_variables() -> None:
    base = backbone()
    base.trainable = False
    model = nested(base)
    optimizer = keras.optimizers.Adam(1e-3)
    model.compile(optimizer, "binary_crossentropy")
    clean(fit(model, *rows()))
    base.trainable = True
    model.compile(optimizer, "binary_crossentropy")
    run = fit(model, *rows(), fails=True)
    assert run.error is not None
    assert run.codes == ("BNG601",), run.messages
    layers = " ".join(run.layers("BNG601"))
    assert "bn1" in layers
    assert "head" not in layers
    if STACK != "k3-jax":  # it leaves the model without values
        # Now the step is taken, at the learning rate of the head and with BN that train.
        run = fit(recompiled(model), *rows())
        assert run.codes == ("BNG104", "BNG606"), run.messages


def test_the_same_optimizer_for_fewer_variables() -> None:
    base = backbone()
    model = nested(base)
    optimizer = keras.optimizers.Adam(1e-3)
    model.compile(optimizer, "binary_crossentropy")
    clean(fit(model, *rows()))
    base.trainable = False
    model.compile(optimizer, "binary_crossentropy")
    run = fit(model, *rows(), fails=True)
    if STACK == "k3-jax":
        assert run.codes == ("BNG601",), run.messages
    else:
        clean(run)


assert IS_KERAS3 is not SAME_FLAGS
