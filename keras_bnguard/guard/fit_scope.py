"""The `fit` that a run belongs to."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from keras_bnguard.backends.patches.fit_scope import (
    fit_arguments,
    fit_data,
    inside_fit,
    running_fit,
)
from keras_bnguard.data.containers.registry import container_of
from keras_bnguard.data.measure import replicas_of


class FitScope:
    """One call of `fit`: its settings, its callbacks, and whether it is over.

    Args:
        model: the model; its `fit` is on the call stack.
        params: what Keras passes to callbacks: "epochs", "steps", "verbose".

    Attributes:
        settings: `params`, "replicas" (devices that share a batch), "recalibrates" (whether a
            callback takes new statistics when training ends), "shuffle", "steps_per_epoch", and
            of arrays "batch_size" and "samples"; what is not known is left out.
        callbacks: the callbacks of the user, None where they are not known.
    """

    def __init__(self, model: Any, params: Mapping[str, Any]) -> None:
        self._mark = running_fit(model)
        arguments = fit_arguments(model)
        self.callbacks: Optional[List[Any]] = None if arguments is None else arguments.callbacks
        self.settings: Dict[str, Any] = {**params, "replicas": replicas_of(model)}
        if arguments is not None:
            self.settings["recalibrates"] = any(
                getattr(callback, "recalibrates_when_training_ends", False)
                for callback in arguments.callbacks
            )
        data = fit_data(model)
        if data is not None:
            self.settings.update(shuffle=data.shuffle, steps_per_epoch=data.steps_per_epoch)
            container = container_of(data.x)
            if container.is_in_memory:
                self.settings.update(batch_size=data.batch_size or 32, samples=container.rows)

    def is_over(self) -> bool:
        """Whether the code that runs now was not called from this `fit`.

        No hook is called when an exception ends a `fit`; nothing of it counts after that.
        """
        return not inside_fit(self._mark)
