"""Where flags were assigned and models compiled, by object, for messages that name a line.

Filled only while warnings for whole pipelines are switched on; empty otherwise. Objects are
kept by weak references, and nothing here ever raises into user code.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Any, Dict, Iterable, Optional, Tuple

if TYPE_CHECKING:  # Imported at start-up, which loads no NumPy.
    from keras_bnguard.records.ids import LayerId


_LOCK = threading.RLock()


class SourceHistory:
    """Listener of `model_hooks` that lasts as long as warnings are on, for one Keras.

    Args:
        backend: the adapter.
        changed: called with the layers that were assigned to, or the model that was compiled.
    """

    def __init__(self, backend: Any, changed: Any) -> None:
        self._backend = backend
        self._changed = changed
        self._local = threading.local()
        self._flags: Dict[int, Tuple[weakref.ref[Any], str]] = {}
        self._calls: Dict[int, Tuple[weakref.ref[Any], str]] = {}
        self._compiles: Dict[int, Tuple[weakref.ref[Any], str, Dict[LayerId, bool]]] = {}

    # ---------------------------------------------------------------- listening
    def before_trainable_change(self, layer: Any) -> None:
        self._local.layer = layer

    def after_trainable_change(self, layers: Dict[LayerId, bool], source: Optional[str]) -> None:
        with contextlib.suppress(Exception):
            top = self._local.__dict__.pop("layer", None)
            if top is None:
                return
            if source:
                for layer in self._backend.graph.all_layers(top):
                    self._note(self._flags, layer, source)
            self._changed(set(layers))

    def after_compile(self, model: Any, source: Optional[str]) -> None:
        with contextlib.suppress(Exception):
            flags = {id(x): bool(x.trainable) for x in self._backend.graph.all_layers(model)}
            self._note(self._compiles, model, source or "", flags)
            self._changed({id(model)}, True)

    def before_training(self, model: Any) -> None:
        """Nothing to note."""

    def failed(self, error: Exception) -> None:
        """What could not be read is not noted."""

    def after_phase(self, model: Any, phase: str) -> None:
        with contextlib.suppress(Exception):
            self._changed({id(model)}, True)

    def after_call(self, node: Any, source: Optional[str]) -> None:
        """A layer was called with an explicit `training=` while a graph was built."""
        if source:
            self._note(self._calls, node, source)

    # ------------------------------------------------------------------ asking
    def called_at(self, node: Any) -> Optional[str]:
        """ "file.py:12" of the call that made a graph node, None where it was not seen."""
        entry = self._calls.get(id(node))
        return entry[1] if entry and entry[0]() is node else None

    def flag_sources(self, keys: Iterable[LayerId]) -> Dict[LayerId, str]:
        """id(layer) -> "file.py:41" of the last assignment to its `trainable`."""
        with _LOCK:
            return {
                key: self._flags[key][1]
                for key in keys
                if key in self._flags and self._flags[key][0]() is not None
            }

    def compiled_at(self, model: Any) -> Optional[str]:
        """ "file.py:30" of the last `compile()` of a model, None where it was not seen."""
        entry = self._compiles.get(id(model))
        return (entry[1] or None) if entry and entry[0]() is model else None

    def compiled_flags(self, model: Any) -> Optional[Dict[LayerId, bool]]:
        """id(layer) -> flag at the last `compile()` that was seen."""
        entry = self._compiles.get(id(model))
        return entry[2] if entry and entry[0]() is model else None

    def _note(self, table: Dict[int, Any], thing: Any, *what: Any) -> None:
        key = id(thing)

        def forget(ref: Any) -> None:
            entry = table.get(key)
            if entry is not None and entry[0] is ref:
                table.pop(key, None)

        with _LOCK:
            table[key] = (weakref.ref(thing, forget), *what)


HISTORIES: Dict[int, SourceHistory] = {}
"""id of a Keras module -> its history, while warnings are on."""


def flag_sources(backend: Any, keys: Iterable[LayerId]) -> Dict[LayerId, str]:
    """Where each layer's `trainable` was last assigned; empty while nobody takes notes."""
    history = HISTORIES.get(id(backend.keras))
    return history.flag_sources(keys) if history is not None else {}


def called_at(backend: Any, node: Any) -> Optional[str]:
    """Where the call of a graph node is written, None while nobody takes notes."""
    history = HISTORIES.get(id(backend.keras))
    return history.called_at(node) if history is not None else None


def compiled_at(backend: Any, model: Any) -> Optional[str]:
    """Where a model was last compiled, None while nobody takes notes."""
    history = HISTORIES.get(id(backend.keras))
    return history.compiled_at(model) if history is not None else None


def compiled_flags(backend: Any, model: Any) -> Optional[Dict[LayerId, bool]]:
    """Flags at the last `compile()`, for a Keras that keeps none; None while nobody takes notes."""
    history = HISTORIES.get(id(backend.keras))
    return history.compiled_flags(model) if history is not None else None
