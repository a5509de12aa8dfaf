"""A `fit` that ends by an exception leaves nothing of the guard behind."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.patches import model_hooks
from keras_bnguard.guard.training_listener import TrainingListener
from tests.builders.harness import clean, fit, listening
from tests.builders.pipelines import backbone, compiled, nested, norms, plain, rows
from tests.stack import STACK, keras


class Boom(keras.callbacks.Callback):
    """Raises in one hook."""

    def __init__(self, hook: str, error: BaseException) -> None:
        super().__init__()
        self.error = error
        setattr(self, hook, self.boom)

    def boom(self, *args: Any, **kwargs: Any) -> None:
        raise self.error


def untouched(model: Any) -> None:
    assert not model_hooks._HOOKS
    assert "trainable" in keras.layers.Layer.__dict__
    assert "keras_bnguard" not in keras.layers.Layer.__dict__["trainable"].fset.__module__
    assert "keras_bnguard" not in keras.Model.compile.__code__.co_filename
    train_function = getattr(model, "train_function", None)
    code = getattr(train_function, "__code__", None)
    assert code is None or "keras_bnguard" not in code.co_filename
    assert "_bng_step" not in model.__dict__


@pytest.mark.parametrize("fix", [False, True])
@pytest.mark.parametrize(
    ("hook", "error"),
    [
        ("on_train_begin", ValueError("stop")),
        ("on_epoch_begin", KeyboardInterrupt()),
        ("on_train_batch_end", ValueError("stop")),
        ("on_epoch_end", KeyboardInterrupt()),
        ("on_train_end", ValueError("stop")),
    ],
)
def test_nothing_is_left_where_a_callback_raises(hook: str, error: Any, fix: bool) -> None:
    base = backbone()
    base.trainable = not fix
    if fix:
        base.get_layer("bn1").trainable = True
    model = compiled(nested(base))
    guard = bng.BNGuard(fix=fix)
    with listening(guard), pytest.raises(type(error)):
        model.fit(*rows(), verbose=0, epochs=2, callbacks=[guard, Boom(hook, error)])
    # A notebook keeps the exception until the next one.
    assert error.__traceback__ is not None
    untouched(model)
    error.__traceback__ = None
    # The user goes on, with the guard still in a variable.
    with listening(guard) as run:
        base.trainable = True
        for norm in norms(base) if fix else ():
            norm.trainable = False
        compiled(model, 1e-4)
    assert not run.messages
    clean(fit(model, *rows(), guard=guard))


def test_nothing_is_left_without_the_frame_of_keras_when_the_exception_is_gone() -> None:
    config = getattr(keras, "config", None)
    shortened = tf_debugging() if config is None else config
    model, error = compiled(nested(backbone())), ValueError("stop")
    shortened.disable_traceback_filtering()
    try:
        with pytest.raises(ValueError, match="stop"):
            model.fit(*rows(), verbose=0, callbacks=[bng.BNGuard(), Boom("on_epoch_end", error)])
    finally:
        shortened.enable_traceback_filtering()
    error.__traceback__ = None
    gc.collect()
    untouched(model)


def tf_debugging() -> Any:
    import tensorflow as tf

    return tf.debugging


@pytest.mark.parametrize("next_step", ["fit", "train_on_batch", "assign"])
def test_a_repair_is_off_before_the_next_step_though_the_traceback_is_kept(next_step: str) -> None:
    """A notebook keeps the last traceback, and with it the frame of the `fit` that ended."""
    base = backbone()
    base.trainable = False
    norm = base.get_layer("bn1")
    norm.trainable = True
    model = compiled(nested(base))
    guard = bng.BNGuard(fix=True)
    with listening(guard), pytest.raises(ValueError, match="stop") as kept:
        model.fit(*rows(), verbose=0, callbacks=[guard, Boom("on_epoch_end", ValueError("stop"))])
    before = norm.get_weights()[2]
    if next_step == "fit":
        model.fit(*rows(), verbose=0)
    elif next_step == "train_on_batch":
        model.train_on_batch(*rows())
    else:
        norm.trainable = False
        norm.trainable = True
        model.fit(*rows(), verbose=0)
    assert not np.array_equal(before, norm.get_weights()[2])  # No longer forced: it trains again.
    assert kept.value.__traceback__ is not None
    kept.value.__traceback__ = None
    del kept
    gc.collect()
    untouched(model)


def test_an_internal_error_while_flags_are_noted_disables_the_guard(monkeypatch: Any) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ours")

    model = compiled(nested(backbone()))
    guard = bng.BNGuard()
    monkeypatch.setattr(TrainingListener, "_note_flags", broken)
    # Keras 3 on TensorFlow does nothing where the flag is what it was.
    trainable_change = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model.get_layer("backbone"), "trainable", False)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", bng.BNGuardWarning)
        model.fit(*rows(), verbose=0, callbacks=[guard, trainable_change])
    assert guard.report is not None
    assert any("RuntimeError('ours')" in note for note in guard.report.notes), guard.report.notes


def test_a_generator_that_raises() -> None:
    model = compiled(plain())
    x, y = rows()

    def batches() -> Any:
        yield x[:16], y[:16]
        raise RuntimeError("disk is gone")

    run = fit(model, batches(), steps_per_epoch=3, fails=True)
    assert "disk is gone" in str(run.error)
    run.error = None
    gc.collect()
    untouched(model)


def test_data_of_the_wrong_shape() -> None:
    model = compiled(plain())
    run = fit(model, np.zeros((16, 3), "float32"), np.zeros((16, 1), "float32"), fails=True)
    assert run.error is not None
    assert not run.messages
    run.error = None
    gc.collect()
    untouched(model)


def test_a_finding_that_raises_ends_training_and_leaves_nothing() -> None:
    model = compiled(nested(backbone()))
    model.get_layer("backbone").trainable = False
    model.get_layer("backbone").get_layer("bn1").trainable = True
    compiled(model)
    guard = bng.BNGuard(on_finding="raise")
    with listening(guard), pytest.raises(bng.FindingError, match="BNG102") as caught:
        model.fit(*rows(), verbose=0, callbacks=[guard])
    assert caught.value.finding.layers == ("backbone/bn1",)
    untouched(model)


def test_no_epochs_at_all() -> None:
    model = compiled(plain())
    if STACK == "tfk":  # tf_keras 2.21 refuses it, as it does without us.
        with pytest.raises(ValueError, match="epochs to be positive"):
            fit(model, *rows(), epochs=0)
        untouched(model)
        return
    run = fit(model, *rows(), epochs=0)
    assert not run.messages
    assert not run.guard.report.findings
    untouched(model)


def test_evaluate_and_predict_alone_leave_the_guard_without_a_report() -> None:
    model = compiled(plain())
    guard = bng.BNGuard()
    x, y = rows()
    with listening(guard) as run:
        model.evaluate(x, y, verbose=0, callbacks=[guard])
        model.predict(x, verbose=0, callbacks=[guard])
    assert not run.messages
    assert guard.report is None
    untouched(model)


assert STACK
