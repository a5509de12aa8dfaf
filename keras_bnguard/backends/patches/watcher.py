"""Who is called by the hooks of `global_hooks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterable, Optional, Protocol, Tuple

from keras_bnguard.backends.patches.class_patches import ClassPatches

if TYPE_CHECKING:  # Imported at start-up, which loads no NumPy.
    from keras_bnguard.records.ids import LayerId


class Watcher(Protocol):
    """What is called; its methods must not raise."""

    def around_fit(self, model: Any, callbacks: Any) -> Tuple[Any, Callable[[], None]]: ...

    def before_call(self, model: Any) -> Optional[Callable[[], None]]: ...

    def before_batch(self, model: Any) -> Tuple[Any, Callable[[], None]]: ...

    def before_inference(self, model: Any, name: str) -> Callable[[], None]: ...

    def before_apply(self, optimizer: Any, variables: Any, stateless: bool) -> None: ...

    def after_apply(self, optimizer: Any) -> None: ...

    def after_load(self, layer: Any) -> None: ...

    def not_watched(self, what: str, error: Exception) -> None: ...

    def changed(self, keys: Iterable[LayerId], compiled: bool = False) -> None: ...


class NoWatcher:
    """The `Watcher` of hooks that were taken off while somebody stood in front of them.

    Args:
        patches: those hooks; what is called without anybody in front of it is taken off.
    """

    def __init__(self, patches: ClassPatches) -> None:
        self._patches = patches

    def around_fit(self, model: Any, callbacks: Any) -> Tuple[Any, Callable[[], None]]:
        """Run `fit` as it is."""
        self._patches.take_off()
        return callbacks, _nothing

    def before_call(self, model: Any) -> Optional[Callable[[], None]]:
        """Run it as it is."""
        self._patches.take_off()
        return None

    def before_batch(self, model: Any) -> Tuple[Any, Callable[[], None]]:
        """Run `train_on_batch` as it is."""
        self._patches.take_off()
        return None, _nothing

    def before_inference(self, model: Any, name: str) -> Callable[[], None]:
        """Run it as it is."""
        self._patches.take_off()
        return _nothing

    def before_apply(self, optimizer: Any, variables: Any, stateless: bool) -> None:
        """Nobody watches."""
        self._patches.take_off()

    def after_apply(self, optimizer: Any) -> None:
        """Nobody watches."""

    def after_load(self, layer: Any) -> None:
        """Nobody watches."""
        self._patches.take_off()

    def not_watched(self, what: str, error: Exception) -> None:
        """Nobody watches."""

    def changed(self, keys: Iterable[LayerId], compiled: bool = False) -> None:
        """Nobody watches."""


def _nothing() -> None:
    """Nothing is to be done afterwards."""
