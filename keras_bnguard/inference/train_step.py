"""A training step in which BN that should run in inference mode does run in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_bnguard.inference.steps import hook_model_class
from keras_bnguard.model.forced_inference import ForcesInStep


class GuardedTrainStep(ForcesInStep):
    """Mixin for a model class: its `train_step` forces inference mode where it is expected.

    ``class MyModel(bng.GuardedTrainStep, keras.Model)``, in any order of the bases. Whatever
    `train_step` the class or a subclass of it ends up with is wrapped, Keras's or your own, with
    or without a call of `super()`, with any signature (JAX's takes `(state, data)`). Nothing is
    changed outside that call.

    Forced are: BN whose own `trainable` is False, BN below a layer that is frozen, BN that a
    functional graph calls with `training=False` (with everything under that call, so Dropout
    too), and those named by `bng.force_inference(model, layers=...)`. Their moving statistics
    stay bit-identical, and they normalise with them. Their gamma and beta still train if they
    are trainable. A `training=` written at one call does not reach layers called later.

    The set is read when the step is traced; a compiled step costs nothing extra. On Keras 2 the
    flags in a step are those of the last `compile`, so compile again after a change.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        following = super().__init__
        # Keras 2 hands the arguments of a functional model to every base after its own, too.
        if getattr(following, "__objclass__", None) is not object:
            following(*args, **kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        hook_model_class(cls)

    if TYPE_CHECKING:  # Of the Keras class; a subclass calls it by `super()`.

        def train_step(self, *args: Any, **kwargs: Any) -> Any: ...
