"""BNG609 is silent where statistics belong to the weights, and where no step trains them."""

from __future__ import annotations

from typing import Any

import numpy as np

import keras_bnguard as bng
from tests.builders.harness import IS_KERAS3, fit
from tests.builders.pipelines import L, backbone, compiled, nested, rows, sequential
from tests.builders.values import as_array, same
from tests.scenarios.faults.test_weights_assigned_by_callbacks import Average
from tests.stack import keras

Callback = keras.callbacks.Callback


def train(*callbacks: Any, model: Any = None, epochs: int = 4, **settings: Any) -> Any:
    x, y = rows(64)
    model = compiled(sequential(), 0.1, "Adam") if model is None else model
    return fit(model, x * 2.0 + 3.0, y, epochs=epochs, after=callbacks, **settings)


def no_finding(run: Any) -> None:
    assert "BNG609" not in run.codes, run.finding("BNG609")


class KeepBest(Callback):
    """All weights of an epoch, restored when training ends."""

    def __init__(self, epoch: int = 0) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch:
            self.kept = self.model.get_weights()

    def on_train_end(self, logs: Any = None) -> None:
        self.model.set_weights(self.kept)


class StartAgain(Callback):
    """All weights of the start, after every epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 0:
            self.kept = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.set_weights(self.kept)


class RestoreAfterATrial(Callback):
    """Tries other weights and puts the present ones back."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        kept = self.model.get_weights()
        self.model.set_weights([w * 0.5 for w in kept])
        self.model.set_weights(kept)


class Clip(Callback):
    """Kernels are clipped after every epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for layer in self.model.layers:
            if isinstance(layer, L.Dense):
                layer.kernel.assign(np.clip(as_array(layer.kernel), -0.05, 0.05))


class Prune(Callback):
    """The smaller half of each kernel is set to zero in the end."""

    def on_train_end(self, logs: Any = None) -> None:
        for layer in self.model.layers:
            if isinstance(layer, L.Dense):
                kernel = as_array(layer.kernel)
                layer.kernel.assign(np.where(abs(kernel) < np.median(abs(kernel)), 0.0, kernel))


class NewHead(Callback):
    """The head starts again after the first epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 0:
            head = self.model.get_layer("head")
            head.set_weights([np.zeros_like(w) for w in head.get_weights()])


class ResetStatistics(Callback):
    """New statistics from here on."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        bn = self.model.get_layer("bn")
        bn.moving_mean.assign(np.zeros(8, "float32"))
        bn.moving_variance.assign(np.ones(8, "float32"))


class AverageOfAll(Callback):
    """Statistics are averaged with the weights."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.old = self.model.get_weights()

    def on_train_end(self, logs: Any = None) -> None:
        now = self.model.get_weights()
        self.model.set_weights([(o + n) / 2 for o, n in zip(self.old, now)])


def test_all_weights_of_one_moment() -> None:
    no_finding(train(KeepBest()))
    no_finding(train(KeepBest(3)))
    no_finding(train(StartAgain()))
    no_finding(train(RestoreAfterATrial()))
    no_finding(train(AverageOfAll()))


def test_callbacks_of_keras_beside_one_of_the_user() -> None:
    stop = keras.callbacks.EarlyStopping("loss", patience=0, restore_best_weights=True, mode="max")
    no_finding(train(RestoreAfterATrial(), stop))
    no_finding(train(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None), stop))


def test_what_is_clipped_pruned_or_reset() -> None:
    no_finding(train(Clip()))
    no_finding(train(Prune()))
    no_finding(train(NewHead()))
    no_finding(train(ResetStatistics()))


def test_statistics_that_are_taken_again() -> None:
    x, _ = rows(64)
    no_finding(train(Average(), bng.Recalibrate(x * 2.0 + 3.0)))


def test_frozen_bn_keep_what_they_have() -> None:
    base = backbone()
    base.trainable = False
    no_finding(train(Average(), model=compiled(nested(base), 0.1, "Adam")))


def test_averages_of_the_optimizer_are_the_business_of_another_rule() -> None:
    if not IS_KERAS3:
        return
    x, y = rows(64)
    model = sequential()
    model.compile(keras.optimizers.Adam(0.1, use_ema=True), "binary_crossentropy")
    callbacks = [RestoreAfterATrial(), keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]
    no_finding(fit(model, x, y, epochs=3, after=callbacks))


def test_a_teacher_that_no_step_trains() -> None:
    student, teacher = sequential(), sequential()

    class Teach(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            teacher.set_weights(self.model.get_weights())

    no_finding(train(Teach(), model=compiled(student, 0.1, "Adam")))


def test_phases_that_restore_their_best_weights() -> None:
    how = {"learning_rate": 0.1, "epochs": 2, "until": bng.Plateau("loss"), "restore_best": True}
    phases = [bng.Phase("head", train=["head"], **how), bng.Phase("all", train="*", **how)]
    scheduler = bng.PhaseScheduler(phases)
    no_finding(train(RestoreAfterATrial(), scheduler))


def test_the_bits_are_those_of_a_run_without_a_guard() -> None:
    ends = []
    for guards in ([], [bng.BNGuard(on_finding="log")]):
        keras.utils.set_random_seed(3)
        model = compiled(sequential(), 0.1, "Adam")
        x, y = rows(64)
        callbacks = [KeepBest(1), Average(), *guards]
        model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=callbacks)
        ends.append(model.get_weights())
    assert same(*ends)
