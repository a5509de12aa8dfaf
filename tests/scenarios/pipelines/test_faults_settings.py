"""BNG104, 605, 606 and 608: settings of one phase beside those of the phase before."""

from __future__ import annotations

from typing import Any

import pytest

import keras_bnguard as bng
from keras_bnguard.records import TRAIN_START, Moment, MomentKind
from tests.builders.harness import IS_KERAS3, clean, fit, found
from tests.builders.pipelines import (
    L,
    backbone,
    compiled,
    nested,
    norms,
    recompiled,
    rows,
)
from tests.stack import keras

NORM = ["backbone/bn"]
DENSE = ["backbone/dense"]


def small(name: str = "backbone", trained: bool = True) -> Any:
    """One Dense and one BN: every compiled step of these tests is a small one."""
    return backbone(name, (4,), trained)


def head_phase(learning_rate: Any = 1e-3, **kwargs: Any) -> Any:
    """A model whose head was trained under a guard, on a frozen backbone."""
    base = small()
    base.trainable = False
    model = compiled(nested(base), learning_rate)
    clean(fit(model, *rows(), **kwargs))
    return model


def unfrozen(model: Any, norms_too: bool = False) -> Any:
    base = model.get_layer("backbone")
    base.trainable = True
    for norm in norms(base):
        norm.trainable = norms_too
    return model


# ------------------------------------------------------------------------ BNG104
def test_pretrained_norms_are_unfrozen_with_their_backbone() -> None:
    model = compiled(unfrozen(head_phase(), norms_too=True), 1e-5)
    run = fit(model, *rows())
    found(run, {"BNG104": NORM})
    assert "69 steps" in run.finding("BNG104").message
    clean(fit(recompiled(model), *rows()))


def test_norms_that_stay_in_inference_mode_are_not_unfrozen() -> None:
    model = compiled(unfrozen(head_phase()), 1e-5)
    clean(fit(model, *rows()))
    unfrozen(model, norms_too=True)
    bng.force_inference(compiled(model, 1e-5), layers="backbone/*")
    clean(fit(model, *rows()))


def test_a_model_of_ones_own_frozen_for_a_while_is_no_pretrained_one() -> None:
    base = small(trained=False)
    model = compiled(nested(base))
    clean(fit(model, *rows()))
    clean(fit(recompiled(model), *rows()))


def test_two_models_that_take_turns() -> None:
    """As in a GAN: what is frozen in one of them trains in the other, on purpose."""
    part = small("part")
    part_model = compiled(nested(part), 1e-3)
    part.trainable = False
    inputs = keras.Input((8,))
    both = compiled(keras.Model(inputs, nested(part)(inputs), name="both"), 1e-3)
    for model, flag in ((part_model, True), (both, False), (part_model, True)):
        part.trainable = flag
        run = fit(model, *rows())
        assert not {"BNG104", "BNG606", "BNG608"} & set(run.codes), run.messages


# ------------------------------------------------------------------------ BNG605
def decay() -> Any:
    return keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)


@pytest.mark.parametrize("which", ["scheduler", "plateau"])
def test_a_schedule_and_a_callback_that_assigns_the_learning_rate(which: str) -> None:
    c = keras.callbacks
    if which == "scheduler":
        callback = c.LearningRateScheduler(lambda epoch: 1e-5)
    else:
        callback = c.ReduceLROnPlateau("loss", patience=1, min_delta=10.0)
    learning_rates = []

    class LearningRates(c.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if not IS_KERAS3:
                learning_rates.append(float(self.model.optimizer.learning_rate.numpy()))

    model = compiled(nested(small()), decay())
    run = fit(model, *rows(), after=[callback, LearningRates()], epochs=4, fails=True)
    found(run, {"BNG605": []})
    if IS_KERAS3:
        assert isinstance(run.error, TypeError)
    else:
        assert run.error is None
        assert min(learning_rates) > 5e-3  # The callback assigned 1e-5, or a tenth.


def test_a_schedule_or_a_callback_alone_is_no_conflict() -> None:
    clean(fit(compiled(nested(small()), decay()), *rows()))
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-5)
    clean(fit(compiled(nested(small())), *rows(), after=[scheduler]))


# ------------------------------------------------------------------------ BNG606
def test_unfrozen_at_the_learning_rate_of_the_head() -> None:
    model = compiled(unfrozen(head_phase()), 1e-3)
    run = fit(model, *rows())
    found(run, {"BNG606": DENSE})
    assert run.finding("BNG606").moment == TRAIN_START
    clean(fit(model, *rows()))


def test_unfrozen_at_a_tenth_of_the_learning_rate() -> None:
    clean(fit(compiled(unfrozen(head_phase()), 1e-4), *rows()))


class Sets(keras.callbacks.Callback):
    """Assigns the learning rate as the first epoch begins."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = self.value


def test_a_callback_that_sets_the_learning_rate_is_waited_for() -> None:
    clean(fit(compiled(unfrozen(head_phase()), 1e-3), *rows(), after=[Sets(1e-5)]))
    run = fit(compiled(unfrozen(head_phase()), 1e-5), *rows(), after=[Sets(1e-3)])
    found(run, {"BNG606": DENSE})
    assert run.finding("BNG606").moment == Moment(MomentKind.EPOCH_END, 0)


def test_phases_of_a_scheduler_at_one_learning_rate() -> None:
    base = small()
    model = compiled(nested(base))
    schedule = bng.PhaseScheduler(
        [
            bng.Phase("head", train="head*", learning_rate=1e-3, epochs=1),
            bng.Phase("all", train="*", learning_rate=1e-3, epochs=1),
        ]
    )
    run = fit(model, *rows(), after=[schedule], epochs=2)
    found(run, {"BNG606": DENSE})


# ------------------------------------------------------------------------ BNG608
def test_the_loss_jumps_as_layers_are_unfrozen() -> None:
    x, y = rows()
    base = small()
    base.trainable = False
    inputs = keras.Input((8,))
    model = keras.Model(inputs, L.Dense(1, name="head")(base(inputs)))
    clean(fit(compiled(model, 1e-2, "Adam", loss="mse"), x, y, epochs=2))
    run = fit(compiled(unfrozen(model), 1.0, "SGD", loss="mae"), x, y)
    clean(run)  # Another loss: the two cannot be compared.
    base.trainable = False
    clean(fit(compiled(model, 1e-3, "SGD", loss="mae"), x, y))
    run = fit(compiled(unfrozen(model), 9.0, "SGD", loss="mae"), x, y)
    found(run, {"BNG608": DENSE})
    evidence = run.finding("BNG608").evidence
    assert evidence["after"] > 2 * evidence["before"]


def test_regularisers_of_unfrozen_layers_are_no_jump() -> None:
    """Keras 3 counts them only while their weights train, Keras 2 always."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,))
    base = small()
    h = L.Dense(8, kernel_regularizer=keras.regularizers.L2(3.0), name="heavy", trainable=False)(
        base(inputs)
    )
    base.trainable = False
    model = compiled(keras.Model(inputs, L.Dense(1, activation="sigmoid")(h)))
    before = fit(model, *rows(), epochs=2)
    clean(before)
    unfrozen(model)
    model.get_layer("heavy").trainable = True
    after = fit(compiled(model, 1e-5), *rows())
    clean(after)
    jump = after.history.history["loss"][0] / before.history.history["loss"][-1]
    assert (jump > 5) == IS_KERAS3, jump
