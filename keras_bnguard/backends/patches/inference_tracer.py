"""Write down how each BN is called in an inference pass: `evaluate`, `predict`, validation."""

from __future__ import annotations

import inspect
from typing import Any, Dict, Mapping, Optional, Sequence

from keras_bnguard.backends.patches.call_tracer import CallTracer
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.errors import fail_safe
from keras_bnguard.records import WrittenTrue
from keras_bnguard.records.ids import LayerId

CALLS = 4
"""So many calls of a model in one pass are noted; a compiled pass has one, while it is traced."""


class InferenceTracer(CallTracer):
    """A `CallTracer` for one pass, which also notes where a `training=True` was written.

    After the first calls of the model it only passes on.

    Args:
        backend: the adapter. model: the outermost model. handles: the BN to watch.
        paths: path of every layer by id, for naming.

    Attributes:
        written: path of a BN -> where the `training=True` stands that reached it.
    """

    def __init__(
        self, backend: Any, model: Any, handles: Sequence[NormHandle], paths: Mapping[LayerId, str]
    ) -> None:
        super().__init__(backend, model, handles, paths)
        self.written: Dict[str, WrittenTrue] = {}
        self._written_around = backend.step.outside_autograph(_written_around)

    def outer(self, original: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """A layer's `__call__`, with the stack kept around it."""
        if self.outermost >= CALLS and not self._stack():
            return original(layer, *args, **kwargs)
        return CallTracer.outer(self, original, layer, *args, **kwargs)

    @fail_safe()
    def _note(self, layer: Any, arrived: Any, inputs: Any) -> None:
        stack = self._stack()
        if not stack:
            return
        CallTracer._note(self, layer, arrived, inputs)
        if arrived is True:
            for handle in self._by_layer[id(layer)]:
                switched_by = self.sites[handle.path][-1].switched_by
                if handle.path not in self.written:
                    self.written[handle.path] = self._written_around(stack, switched_by)


def _written_around(stack: Sequence[Any], switched_by: Optional[str]) -> WrittenTrue:
    """Where the innermost explicit `training=True` of a stack of calls stands."""
    if switched_by is not None:
        return WrittenTrue(default_of=switched_by)
    places = [i for i, frame in enumerate(stack) if frame.explicit is True]
    if not places:  # Of the model itself, in whose frame it does not count as explicit.
        return WrittenTrue(in_step=stack[0].resolved is True)
    place = places[-1]
    if place == 0:
        return WrittenTrue(in_step=True)
    cls = type(stack[place - 1].layer)
    return WrittenTrue(class_name=cls.__name__, source=_line_of(cls))


def _line_of(cls: type) -> Any:
    """`file.py:41` of the `call` of a class, None where it has no source."""
    try:
        call = inspect.unwrap(cls.call)  # type: ignore[attr-defined]
        return f"{inspect.getsourcefile(call)}:{inspect.getsourcelines(call)[1]}"
    except (AttributeError, TypeError, OSError):
        return None
