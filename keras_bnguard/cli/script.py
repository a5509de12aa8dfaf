"""Find what `bnguard run` is to run, and set this process up as `python script.py` would."""

from __future__ import annotations

import importlib.machinery
import os
import sys
import types
from typing import Any, Dict, List

USAGE = 2


class CannotRun(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Prepared:
    """What `__main__` will be.

    Attributes:
        names: its globals.
        argv0: `sys.argv[0]`.
        path0: `sys.path[0]`.
        code: its code object, None for a plain file that is still to be compiled.
    """

    def __init__(self, names: Dict[str, Any], argv0: str, path0: str) -> None:
        self.names = names
        self.argv0 = argv0
        self.path0 = path0
        self.code: Any = None


def find_script(path: str) -> Prepared:
    whole = os.path.abspath(path)
    if os.path.isdir(whole) or _is_zip(whole):
        return _folder(path, whole)
    if not os.path.isfile(whole):
        error = "[Errno 2] No such file or directory"
        raise CannotRun(f"{sys.executable}: can't open file {whole!r}: {error}", USAGE)
    names = {
        "__doc__": None,
        "__package__": None,
        "__loader__": importlib.machinery.SourceFileLoader("__main__", whole),
        "__spec__": None,
        "__file__": whole,
        "__cached__": None,
    }
    return Prepared(names, path, os.path.dirname(os.path.realpath(whole)))


def _folder(path: str, whole: str) -> Prepared:
    """A folder or an archive with a `__main__.py` in it."""
    import runpy

    sys.path.insert(0, whole)
    try:
        _, spec, code = runpy._get_main_module_details()  # type: ignore[attr-defined]
    except ImportError as error:
        raise CannotRun(f"{sys.executable}: {error}", 1) from None
    finally:
        sys.path.remove(whole)
    return _with_spec(spec, code, path, whole, package="")


def find_module(name: str) -> Prepared:
    import runpy

    here = os.getcwd()
    first, sys.path[:1] = sys.path[:1], [here]
    try:
        _, spec, code = runpy._get_module_details(name)  # type: ignore[attr-defined]
    except ImportError as error:
        raise CannotRun(f"{sys.executable}: {error}", 1) from None
    finally:
        sys.path[:1] = first
    return _with_spec(spec, code, spec.origin, here, package=spec.parent)


def _with_spec(spec: Any, code: Any, argv0: str, path0: str, package: str) -> Prepared:
    names = {
        "__doc__": None,
        "__package__": package,
        "__loader__": spec.loader,
        "__spec__": spec,
        "__file__": spec.origin,
        "__cached__": spec.cached,
    }
    prepared = Prepared(names, argv0, path0)
    prepared.code = code
    return prepared


def _is_zip(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(4)
    if start[:2] == b"#!":
        import zipfile

        return zipfile.is_zipfile(path)
    return start == b"PK\x03\x04"


def become(prepared: Prepared, arguments: List[str]) -> None:
    """Set this process up as if Python had been started with the script."""
    module = types.ModuleType("__main__")
    module.__dict__.update(prepared.names)
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    module.__dict__.setdefault("__annotations__", {})
    # Kept: a module nobody refers to is emptied, and this very code may live in it.
    _BEFORE.append(sys.modules["__main__"])
    sys.modules["__main__"] = module
    sys.argv[:] = [prepared.argv0, *arguments]
    if not getattr(sys.flags, "safe_path", False):
        sys.path[:1] = [prepared.path0]


_BEFORE: List[Any] = []
