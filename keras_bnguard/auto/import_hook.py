"""Calls back when a Keras has been imported; it loads none for that."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any, Callable

from keras_bnguard.backends.known_stacks import PACKAGES


class ImportHook:
    """Finder in front of the others: finds what they find, and calls back when a Keras is complete.

    Args:
        imported: called after each import of a Keras, without arguments. It must not raise.
    """

    def __init__(self, imported: Callable[[], None]) -> None:
        self._imported = imported
        self._busy = threading.local()

    def put(self) -> None:
        """Take part in imports from now on; safe to call twice."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)  # type: ignore[arg-type, unused-ignore]

    def take_away(self) -> None:
        """Take part no longer; safe to call twice."""
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)  # type: ignore[arg-type, unused-ignore]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in PACKAGES or getattr(self._busy, "now", False):
            return None
        self._busy.now = True
        try:
            spec = self._find(name, path, target)
        finally:
            self._busy.now = False
        loader = getattr(spec, "loader", None)
        if loader is not None and hasattr(loader, "exec_module"):
            with contextlib.suppress(AttributeError):
                self._call_after(loader)
        return spec

    def _find(self, name: str, path: Any, target: Any) -> Any:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec = find(name, path, target)
            if spec is not None:
                return spec
        return None

    def _call_after(self, loader: Any) -> None:
        """The loader stays the one it is; it executes its module once in our hands."""
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            with contextlib.suppress(AttributeError):
                del loader.exec_module
            execute(module)
            if self in sys.meta_path:
                self._imported()

        loader.exec_module = exec_module
