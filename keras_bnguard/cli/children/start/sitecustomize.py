"""Python runs this module when it starts below `bnguard run`; see `keras_bnguard.cli.children`."""

import contextlib
import os
import sys


def _run_the_hidden_one() -> None:
    """The `sitecustomize` of this installation, which this one hides."""
    import importlib

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    this = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        if this is not None:
            sys.modules["sitecustomize"] = this


def _follow() -> None:
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 4))
    with contextlib.suppress(Exception):  # The user's process goes on, whatever happens here.
        try:
            from keras_bnguard.cli.children import child
        except ImportError:
            sys.path.append(root)
            from keras_bnguard.cli.children import child
        child.start()


_run_the_hidden_one()
_follow()
