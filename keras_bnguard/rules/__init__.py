"""All rules, in code order. A rule is one file `bngNNN_name.py` in this folder.

The folder is the list: no other file names the rules, so none can be forgotten.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Dict, Iterator, Tuple, Type

from keras_bnguard.rules.base import Rule


def _rules() -> Iterator[Type[Rule]]:
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("bng"):
            name = f"{__name__}.{module.name}"
            for value in vars(importlib.import_module(name)).values():
                own = getattr(value, "__module__", "") == name
                if own and isinstance(value, type) and issubclass(value, Rule):
                    yield value


ALL_RULES: Tuple[Type[Rule], ...] = tuple(sorted(_rules(), key=lambda rule: rule.code))

BY_CODE: Dict[str, Type[Rule]] = {rule.code: rule for rule in ALL_RULES}

__all__ = ["ALL_RULES", "BY_CODE", "Rule"]
