"""One voice: of several processes that train one model, the chief alone prints, warns and writes.

What only one process saw is in the report that its guard keeps: `guard.report`.
"""

from __future__ import annotations

import os
from typing import Any, Dict

from keras_bnguard.backends.processes.place import Place, current_place

_KNOWN: Dict[int, Place] = {}
"""By process id: a script may take its processes apart before results are written."""


def speaks(model: Any = None) -> bool:
    """Whether this process prints, warns and writes files: it is alone, or the chief.

    Args:
        model: the model in training; its strategy is asked. Defaults to None.
    """
    return place_in_training(model).is_chief


def place_in_training(model: Any = None) -> Place:
    """The place of this process, also after the processes were taken apart.

    Args:
        model: the model in training; its strategy is asked. Defaults to None.
    """
    found = current_place(model)
    if found.is_alone:
        return _KNOWN.get(os.getpid(), found)
    _KNOWN[os.getpid()] = found
    return found
