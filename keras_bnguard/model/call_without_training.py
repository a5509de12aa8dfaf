"""A `call` without a `training` argument, and the same method with one."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any, Optional, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.signatures import (
    has_own_train_step,
    package_of,
    takes_keywords,
    takes_training,
)

_SHORT = "def call(self, x, training=None):\n    return self.inner(x)"


def call_without_training(backend: Backend, model: Any) -> Optional[Tuple[str, str]]:
    """Return (class name, code of `call` with `training=None`) of a model whose `call` has none.

    None where a graph is the `call`, and where a `train_step` of the user's decides how it is
    called.
    """
    cls = type(model)
    known = package_of(cls) == backend.package or backend.graph.is_functional(model)
    if known or takes_training(model) or takes_keywords(model.call):
        return None
    if has_own_train_step(model, backend.package):
        return None
    return cls.__name__, _with_training(cls.call)


def _with_training(call: Any) -> str:
    try:
        function = ast.parse(textwrap.dedent(inspect.getsource(call))).body[0]
    except (OSError, TypeError, SyntaxError):
        return _SHORT
    if not isinstance(function, ast.FunctionDef):
        return _SHORT
    arguments, new = function.args, ast.arg("training")
    if arguments.vararg or arguments.kwonlyargs:
        arguments.kwonlyargs.append(new)
        arguments.kw_defaults.append(ast.Constant(None))
    else:
        arguments.args.append(new)
        arguments.defaults.append(ast.Constant(None))
    return ast.unparse(function)
