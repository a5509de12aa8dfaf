"""A training step in which BN that should run in inference mode does run in it.

The framework-free half: which BN is decided in `model.forced_inference`; how the mode is forced
for the length of a trace is `backends.patches.inference_mode`.
"""

from __future__ import annotations

from typing import Any

from keras_bnguard.inference.contexts import step_context
from keras_bnguard.model.forced_inference import ForcesInStep


class GuardedTrainStep(ForcesInStep):
    """Mixin for a model class: its `train_step` forces inference mode where it is expected.

    Put it before the Keras class: ``class MyModel(bng.GuardedTrainStep, keras.Model)``. It
    wraps whatever `train_step` comes after it, Keras's or your own, with any signature (JAX's
    takes `(state, data)`), and changes nothing outside that call.

    Forced are: BN whose own `trainable` is False, BN below a layer that is frozen, BN that a
    functional graph calls with `training=False` (with everything under that call, so Dropout
    too), and those named by `bng.force_inference(model, layers=...)`. Their moving statistics
    stay bit-identical, and they normalise with them. Their gamma and beta still train if they
    are trainable. A `training=` written at one call does not reach layers called later.

    The set is read when the step is traced; a compiled step costs nothing extra.
    """

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        with step_context(self):
            return super().train_step(*args, **kwargs)  # type: ignore[misc]
