"""The guard that nobody put into `fit` themselves: it leaves logs and History alone."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, List, Mapping, Optional, Tuple

from keras_bnguard.guard.callback import BNGuard
from keras_bnguard.guard.data_sampling import FROM_FIT
from keras_bnguard.records import Finding
from keras_bnguard.settings import Settings


class AutoGuard(BNGuard):
    """`BNGuard` without `logs["bn_drift"]`, so that progress bars and History stay as they were."""

    def on_epoch_end(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        super().on_epoch_end(epoch, None)


def auto_guard(settings: Settings, emit: Callable[[Finding], None]) -> Any:
    """A guard that adds nothing to the logs."""
    return AutoGuard(
        on_finding=emit,
        fix=settings.fix,
        select=settings.select,
        ignore=settings.ignore,
        every=settings.every,
        data=FROM_FIT,
        show_drift=True,  # There is none to hide.
    )


def own_guard(callbacks: Any) -> Optional[BNGuard]:
    """The guard among the user's callbacks, None where there is none."""
    return next((each for each in _flat(callbacks) if isinstance(each, BNGuard)), None)


def _flat(callbacks: Any) -> List[Any]:
    listed = getattr(callbacks, "callbacks", callbacks)
    if listed is None:
        return []
    if isinstance(listed, (list, tuple)):
        return [each for item in listed for each in _flat(item)]
    return [listed]


def with_guard(callbacks: Any, guard: Any, model: Any) -> Tuple[Any, Optional[Callable[[], None]]]:
    """The callbacks with a guard in front, and what takes it out again where it has to be.

    A list is never changed; a CallbackList is, for it may be what Keras goes on with.
    """
    inner = getattr(callbacks, "callbacks", None)
    if isinstance(inner, list) and hasattr(callbacks, "set_model"):
        inner.insert(0, guard)
        guard.set_params(getattr(callbacks, "params", None))
        guard.set_model(model)

        def take_out() -> None:
            with contextlib.suppress(ValueError):
                inner.remove(guard)

        return callbacks, take_out
    return [guard, *_flat(callbacks)], None
