"""A training step that obeys the flags: BN that should stand still runs in inference mode.

The framework-free half: what is held is decided in `holding`; how a layer is held for the
length of a trace is `engines.holds`.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

from keras_bnguard.engines import engine_for
from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.holding import (
    GUARDED,
    HELD,
    Guarded,
    HoldsInStep,
    choose_norms,
    make_hold,
    step_hold,
)
from keras_bnguard.inventory import take_inventory
from keras_bnguard.selectors import Selectors


class GuardedTrainStep(HoldsInStep):
    """Mixin for a model class: its `train_step` holds every BN that is meant to stand still.

    Put it before the Keras class: ``class MyModel(bng.GuardedTrainStep, keras.Model)``. It
    wraps whatever `train_step` comes after it, Keras's or your own, with any signature (JAX's
    takes `(state, data)`), and changes nothing outside that call.

    Held are: BN whose own `trainable` is False, BN below a layer that is frozen, BN that a
    functional graph calls with `training=False` (with everything under that call, so Dropout
    too), and those named by `bng.guard(model, hold=...)`. Their moving statistics stay
    bit-identical, and they normalise by them. Their gamma and beta still train if they are
    trainable. A `training=` written at one call does not reach layers called later.

    The set is read when the step is traced; a compiled step costs nothing extra.
    """

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        with step_hold(self):
            return super().train_step(*args, **kwargs)  # type: ignore[misc]


def guard(model: Any, hold: Optional[Selectors] = None) -> Any:
    """Put the step of `GuardedTrainStep` on an existing model.

    Args:
        model: a Keras model, compiled or not, built or not.
        hold: selector of BN to hold besides those that are meant to stand still: a glob on
            paths, "re:...", a layer class, a predicate, or a list of these. None: no others.

    Returns:
        The same model. Nothing is left on it when it is saved, pickled, copied or cloned;
        a loaded copy has to be guarded again. `unguard(model)` takes the step off.

    Raises:
        SelectorError: `hold` matches no BN of a built model; lists near misses.
        UnsupportedModelError: `model` is no Keras model, or has no `train_step`.
    """
    engine = engine_for(model)
    if not engine.is_model(model) or not hasattr(model, "train_step"):
        raise UnsupportedModelError(
            f"expected a keras.Model with a train_step, got {type(model).__name__}. "
            "Pass the model that is trained, not a layer."
        )
    if hold is not None and getattr(model, "built", True):
        choose_norms(take_inventory(model), hold)
    GUARDED[model] = Guarded(wanted=hold)
    if not isinstance(model, GuardedTrainStep) and "_bng_step" not in model.__dict__:
        own = model.train_step

        def train_step(*args: Any, **kwargs: Any) -> Any:
            with step_hold(model):
                return own(*args, **kwargs)

        object.__setattr__(model, "_bng_step", True)
        object.__setattr__(model, "train_step", train_step)
    engine.drop_train_function(model)
    return model


def unguard(model: Any) -> Any:
    """Take the step of `guard` off a model again and return the model; no-op without one."""
    GUARDED.pop(model, None)
    if model.__dict__.pop("_bng_step", None):
        object.__delattr__(model, "train_step")
        engine_for(model).drop_train_function(model)
    return model


class hold_inference:
    """Context manager for your own loops: hold BN in inference mode while it is open.

    Everything that is traced or run eagerly inside is held: `GradientTape` steps, stateless
    JAX steps, torch loops, `train_on_batch`, `fit`. A `tf.function` or `jax.jit` that was
    traced before keeps what it traced, so make or first call it inside. `fit` and
    `train_on_batch` get a new compiled step on entry and again on exit.

    Args:
        model: a Keras model, built or not.
        selector: which BN to hold: a glob on paths such as "backbone/*", "re:...", a layer
            class, a predicate, or a list of these. Defaults to "*", every BN.

    Returns:
        On entry, the paths held. Everything is put back on exit, after an exception too.

    Raises:
        SelectorError: the selector matches no BN; lists near misses.

    Example:
        with bng.hold_inference(model, "backbone/*"):
            for x, y in batches:
                step(x, y)
    """

    def __init__(self, model: Any, selector: Selectors = "*") -> None:
        survey = take_inventory(model)
        self.paths = choose_norms(survey, selector)
        self._model = model
        self._engine = survey.engine
        self._hold = make_hold(survey, self.paths, obey_graph=False, stop_leaks=False)

    def __enter__(self) -> Tuple[str, ...]:
        self._hold.__enter__()
        self._engine.drop_train_function(self._model)
        HELD.setdefault(self._model, []).append(self.paths)
        return self.paths

    def __exit__(self, *exception: Any) -> None:
        HELD[self._model].remove(self.paths)
        self._hold.__exit__(*exception)
        self._engine.drop_train_function(self._model)
