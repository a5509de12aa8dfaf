"""A value of the logs that Keras's progress bar does not show, though everybody else reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Iterable, List

from keras_bnguard.backends.patches.attribute_patches import Target, unwrap_all, wrap_all
from keras_bnguard.backends.patches.fit_scope import named


class HiddenInBar:
    """Keeps one value of the logs of an epoch out of the `ProgbarLogger` of a `fit`.

    `History` and every other callback get the logs as they are.

    Args:
        name: the key of the value.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._hooks: List[Target] = []

    def start(self, callbacks: Iterable[Any]) -> None:
        """Hide the value in each `ProgbarLogger` among the callbacks of a `fit`."""
        self.stop()
        bars = [each for each in callbacks if named(each, "ProgbarLogger")]
        hooks: List[Target] = [(bar, "on_epoch_end", self._without) for bar in bars]
        wrap_all(hooks, self)
        self._hooks = hooks

    def stop(self) -> None:
        """Restore what `start` replaced; safe to call twice."""
        hooks, self._hooks = self._hooks, []
        unwrap_all(hooks, self)

    def _without(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        def on_epoch_end(epoch: int, logs: Any = None) -> Any:
            if isinstance(logs, Mapping):
                logs = {key: value for key, value in logs.items() if key != self._name}
            return hook(epoch, logs)

        return on_epoch_end
