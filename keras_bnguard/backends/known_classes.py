"""The classes and functions of a Keras that a model file may name.

They are read from the Keras in use: what it exports as layers, initializers and the like, what
`keras.applications` and its own operations add, and a few names of the format itself.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Set

from keras_bnguard.backends.known_stacks import PACKAGES

_CLASSES_IN = (
    *("layers", "layers.experimental", "layers.experimental.preprocessing", "models"),
    *("initializers", "regularizers", "constraints", "dtype_policies", "quantizers"),
    "mixed_precision",
)
_FUNCTIONS_IN = ("activations", "initializers", "regularizers", "constraints", "ops")
_RESOLVERS = {"get", "serialize", "deserialize"}

_OF_THE_FORMAT = {"Functional", "TFOpLambda", "SlicingOpLambda", "AddLoss", "AddMetric"}
"""Classes that Keras writes and exports nowhere."""

_OLDER_NAMES = {"BatchNormalizationV1", "BatchNormalizationV2", "CuDNNGRU", "CuDNNLSTM"}
"""Class names in HDF5 files of TensorFlow 1, which Keras 2 still reads."""


@dataclass(frozen=True)
class KnownClasses:
    """What one Keras can load by name.

    Attributes:
        package: the import name of the Keras.
        classes: class name -> the classes of that name.
        functions: function name -> the functions of that name.
        unexported: class name -> class, for classes that Keras finds only when it is given them.
    """

    package: str
    classes: Dict[str, FrozenSet[Any]]
    functions: Dict[str, FrozenSet[Any]]
    unexported: Dict[str, Any]

    def has_class(self, name: str, module: Optional[str], registered: Optional[str]) -> bool:
        """Whether what Keras finds by these names is one of `classes`."""
        if module is None and name in _OLDER_NAMES:
            return True
        known = self.classes.get(name)
        if not known:
            return False
        if registered not in (None, name) and self._registered(registered) not in known:
            return False
        return module is None or self._found(module, name, known)

    def has_function(self, name: str, module: Optional[str], registered: Optional[str]) -> bool:
        """Whether what Keras finds by these names is one of `functions`."""
        known = self.functions.get(name)
        if not known or registered not in (None, name):
            return False
        return module in (None, "builtins") or self._found(module, name, known)

    def _found(self, module: str, name: str, known: FrozenSet[Any]) -> bool:
        """Whether a module has one of `known` under that name. Nothing is imported for it."""
        root, _, path = module.partition(".")
        if root not in PACKAGES:
            return False
        owner: Any = sys.modules.get(self.package)
        for part in path.split(".") if path else ():
            owner = getattr(owner, part, None)
        places = [owner, sys.modules.get(f"{self.package}.{path}" if path else self.package)]
        return any(_listed(vars(p).get(name), known) for p in places if isinstance(p, ModuleType))

    def _registered(self, name: Optional[str]) -> Any:
        find = sys.modules[self.package].utils.get_registered_object
        return find(name)


def _listed(thing: Any, known: FrozenSet[Any]) -> bool:
    return thing is not None and any(thing is each for each in known)


def known_classes(keras: Any) -> KnownClasses:
    """Read a Keras.

    Args:
        keras: the module of the Keras.
    """
    package = str(keras.__name__).split(".", 1)[0]
    classes: Dict[str, Set[Any]] = {}
    functions: Dict[str, Set[Any]] = {}
    for module in _modules(keras, _CLASSES_IN):
        for name, thing in vars(module).items():
            if inspect.isclass(thing) and not name.startswith("_"):
                classes.setdefault(name, set()).add(thing)
                classes.setdefault(thing.__name__, set()).add(thing)
    for module in _modules(keras, _FUNCTIONS_IN):
        for name, thing in vars(module).items():
            if inspect.isfunction(thing) and name not in _RESOLVERS:
                functions.setdefault(name, set()).add(thing)
    unexported = {}
    for cls in _subclasses(getattr(keras, "Operation", keras.layers.Layer)):
        root, *path = cls.__module__.split(".")
        if root != package or path[:1] != ["src"]:
            continue
        of_keras = path[1] == "applications" or cls.__name__ in _OF_THE_FORMAT
        is_layer = issubclass(cls, keras.layers.Layer)
        is_operation = path[1] in ("ops", "activations") and cls.__name__ != "Function"
        if of_keras or (is_operation and not is_layer):
            classes.setdefault(cls.__name__, set()).add(cls)
            if path[1] == "applications":
                unexported[cls.__name__] = cls
    return KnownClasses(
        package,
        {name: frozenset(found) for name, found in classes.items()},
        {name: frozenset(found) for name, found in functions.items()},
        unexported,
    )


def _modules(keras: Any, names: Any) -> Iterator[ModuleType]:
    for name in names:
        module = keras
        for part in name.split("."):
            module = getattr(module, part, None)
        if isinstance(module, ModuleType):
            yield module


def _subclasses(cls: Any) -> List[Any]:
    found: Dict[int, Any] = {}
    pending = [cls]
    while pending:
        for each in type.__subclasses__(pending.pop()):
            if id(each) not in found:
                found[id(each)] = each
                pending.append(each)
    return list(found.values())
