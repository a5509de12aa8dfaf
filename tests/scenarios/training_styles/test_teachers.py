"""Models with a second network in the step: teachers that are frozen or an average."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.schedules import L, keras
from tests.builders.values import statistics


def encoder(name: str, seed: int = 0) -> Any:
    """A small network with BN; the same weights at every call."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            L.Dense(5, name="dense"),
            L.BatchNormalization(name="bn"),
            L.Dense(3, name="out"),
        ],
        name=name,
    )
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    return model


class TwoNetworks(keras.Model):
    """A student and a teacher on the same input; the loss is the distance of their outputs.

    Args:
        student: the network that trains.
        teacher: the other one.
        teacher_mode: the `training` that is written at the call of the teacher.
    """

    def __init__(self, student: Any, teacher: Any, teacher_mode: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.student = student
        self.teacher = teacher
        self.teacher_mode = teacher_mode

    def call(self, x: Any, training: Any = None) -> Any:
        mode = training if self.teacher_mode is None else self.teacher_mode
        return self.student(x, training=training) - self.teacher(x, training=mode)

    def build(self, input_shape: Any) -> None:
        self.built = True


class MeanTeacher(keras.callbacks.Callback):
    """After each epoch the teacher's trainable weights move towards the student's (BYOL)."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for slow, fast in zip(self.model.teacher.layers, self.model.student.layers):
            if slow.weights:
                weights = [
                    0.9 * a + 0.1 * b for a, b in zip(slow.get_weights(), fast.get_weights())
                ]
                statistics_of_its_own = slow.get_weights()[2:]
                slow.set_weights([*weights[:2], *statistics_of_its_own])


def train(model: Any, callbacks: Any = (), epochs: int = 2, **settings: Any) -> List[Any]:
    x, _ = r.data()
    zeros = np.zeros((len(x), 3), "float32")
    if getattr(model, "optimizer", None) is None:
        r.compiled(model, loss="mse")
    model.fit(
        x,
        zeros,
        batch_size=r.BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **settings,
    )
    return [w.tobytes() for w in model.get_weights()]


def norm(network: Any) -> Any:
    return network.get_layer("bn")


def test_a_forced_teacher_equals_one_that_is_called_with_training_false():
    by_hand = TwoNetworks(encoder("s"), encoder("t"), teacher_mode=False)
    by_hand.teacher.trainable = False
    norm(by_hand.teacher).trainable = True
    ours = TwoNetworks(encoder("s"), encoder("t"))
    ours.teacher.trainable = False
    norm(ours.teacher).trainable = True  # so that only forced inference keeps it unchanged
    before = statistics(norm(ours.teacher))
    bng.force_inference(ours)
    assert train(ours, [MeanTeacher()]) == train(by_hand, [MeanTeacher()])
    assert statistics(norm(ours.teacher)) == before
    assert statistics(norm(ours.student)) != before


def test_a_teacher_without_forced_inference_is_updated():
    model = TwoNetworks(encoder("s"), encoder("t"))
    model.teacher.trainable = False
    norm(model.teacher).trainable = True
    before = statistics(norm(model.teacher))
    train(model)
    assert statistics(norm(model.teacher)) != before


def test_phases_of_a_student_leave_the_teacher_alone():
    model = TwoNetworks(encoder("student"), encoder("teacher", seed=1))
    model(r.data()[0])
    before = [w.tobytes() for w in model.teacher.get_weights()]
    first = [w.tobytes() for w in model.student.get_layer("dense").get_weights()]
    phases = [
        bng.Phase("out", train="student/out", learning_rate=1e-2, epochs=1),
        bng.Phase("student", train="student/*", learning_rate=1e-3, epochs=1),
    ]
    train(model, [r.scheduler(phases)])
    assert [w.tobytes() for w in model.teacher.get_weights()] == before
    assert [w.tobytes() for w in model.student.get_layer("dense").get_weights()] != first


class SiameseStep(TwoNetworks):
    """SimSiam: one network, two views of the batch, and a stopped gradient on one side."""

    def call(self, x: Any, training: Any = None) -> Any:
        one = self.student(x, training=training)
        return one - keras.ops.stop_gradient(self.student(x * 1.1, training=training))


@pytest.mark.skipif(not r.IS_KERAS3, reason="keras.ops is of Keras 3")
def test_a_network_that_is_called_twice_in_a_step_is_forced_in_both_calls():
    model = SiameseStep(encoder("s"), encoder("t"))
    model.teacher.trainable = False
    before = statistics(norm(model.student))
    with bng.force_inference(model, layers="s/bn"):
        train(model)
    assert statistics(norm(model.student)) == before


class AveragedTeacher(TwoNetworks):
    """Each step moves all weights of the teacher towards the student's, its statistics too."""

    def train_step(self, data: Any) -> Any:
        logs = super().train_step(data)
        for slow, fast in zip(self.teacher.weights, self.student.weights):
            slow.assign(0.9 * slow + 0.1 * fast)
        return logs


@pytest.mark.skipif(r.BACKEND == "jax", reason="a step on JAX hands its state on")
def test_the_step_of_a_mean_teacher_assigns_statistics_of_a_frozen_teacher():
    model = AveragedTeacher(encoder("s"), encoder("t", seed=1))
    model.teacher.trainable = False
    before = statistics(norm(model.teacher))
    bng.force_inference(model)
    train(model)
    assert statistics(norm(model.teacher)) != before


@pytest.mark.skipif(r.BACKEND == "jax", reason="a step on JAX hands its state on")
def test_a_step_that_assigns_statistics_that_are_forced_is_an_error_or_a_warning():
    def averaged() -> Any:
        model = AveragedTeacher(encoder("s"), encoder("t", seed=1))
        model.teacher.trainable = False
        norm(model.teacher).trainable = True  # so that it has to be forced
        return model

    bng.force_inference(model := averaged())
    with pytest.raises(bng.InferenceNotForcedError, match="t/bn"):
        train(model)
    bng.force_inference(model := averaged(), on_failure="warn")
    with pytest.warns(bng.BNGuardWarning, match="t/bn"):
        train(model)
