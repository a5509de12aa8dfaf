"""Which Keras wrote the file a model was loaded from, where this package loaded it."""

from __future__ import annotations

import weakref
from typing import Any, Optional

_WRITERS: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def note_writer(model: Any, writer: str) -> None:
    """Keep "keras 2.15.0" for a model, as long as it lives."""
    if writer:
        _WRITERS[model] = writer


def writer_of(model: Any) -> Optional[str]:
    """The Keras that wrote a model's file, None where that is not known."""
    return _WRITERS.get(model)
