"""What in a model's description is not to be loaded.

First what no Keras may load from a stranger's file: code, pickles, other files, names that lead
somewhere else. Then whatever is not among the classes and functions of the Keras in use.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Iterator, Optional

from keras_bnguard.backends.known_classes import KnownClasses
from keras_bnguard.backends.known_stacks import PACKAGES
from keras_bnguard.cli.model_files.tf_operations import is_pure

RUNS_CODE = {
    "__lambda__": "code of its own",
    "Lambda": "code of its own",
    "TFSMLayer": "a SavedModel from elsewhere",
    "TorchModuleWrapper": "a pickled torch module",
    "JaxLayer": "code of its own",
    "FlaxLayer": "code of its own",
    "ClassMethod": "a call of any class of TensorFlow",
    "InstanceMethod": "a call of any method of TensorFlow",
    "InstanceProperty": "any property of TensorFlow's classes",
    "TensorFlowOpLayer": "a graph of its own",
    "DenseFeatures": "feature columns, which may read other files",
}

_VALUES: Dict[str, Callable[[Any], bool]] = {
    name: lambda _: True
    for name in ("TensorShape", "__tuple__", "__ellipsis__", "__bytes__", "__slice__")
}
"""Values that Keras writes as objects, and whether one is as Keras writes it."""

_VALUES.update(
    {
        name: lambda config: isinstance(config, dict) and _plain_dtype(config.get("dtype"))
        for name in ("__tensor__", "__numpy__", "__keras_tensor__")
    }
)

_OPERATIONS = ("TFOpLambda", "SlicingOpLambda")
_OWN = {"GuardedModel"}
_DTYPE = re.compile(r"(bool|str|string|object|(u?int|float|bfloat|complex)\d{1,3}\w{0,8})")


def refusals(description: Any) -> Iterator[str]:
    """Why no Keras should load a description, one reason for each thing in the way."""
    for node in nodes(description):
        reason = _class(node) or _call_of_constants(node)
        if reason:
            yield reason
        config = node.get("config")
        if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
            yield f"{_short(node.get('class_name'))} reads its vocabulary from another file"


def unknown(description: Any, known: KnownClasses) -> Iterator[str]:
    """The classes and functions in a description that one Keras does not have."""
    for node in nodes(description):
        name, module, registered = (
            node.get(key) for key in ("class_name", "module", "registered_name")
        )
        if name in _VALUES or module == "keras_bnguard":
            continue
        if name == "function":
            name, found = node.get("config"), known.has_function
        else:
            found = known.has_class
        if not found(name, module, registered):
            yield _named(name, module)


def _class(node: Any) -> Optional[str]:
    """What is wrong with the class or function that a node names."""
    name, module, config = node.get("class_name"), node.get("module"), node.get("config")
    registered = node.get("registered_name")
    if not isinstance(name, str):
        return "a class name in it is no text"
    if name in RUNS_CODE:
        return f"{name} brings {RUNS_CODE[name]}"
    if name in _VALUES:
        return None if _VALUES[name](config) else f"a {name} in it is not as Keras writes one"
    if name in _OPERATIONS:
        function = config.get("function") if isinstance(config, dict) else None
        if not is_pure(function):
            return f"the TensorFlow operation {_short(function)} may do more than compute"
    if name == "function":
        name = config
    if not (isinstance(name, str) and name.isidentifier() and not name.startswith("_")):
        return f"{_named(name, module)} is no part of Keras"
    if not all(isinstance(each, str) or each is None for each in (module, registered)):
        return f"the module of {_short(name)} is no text"
    if module == "keras_bnguard":
        return None if name in _OWN else f"{_named(name, module)} is no part of Keras"
    # Older formats name no module at all; where one could stand and does not, it is custom.
    custom = module is None and (">" in str(registered) or ("module" in node and registered))
    builtin = module == "builtins" and node.get("class_name") == "function"
    if custom or not (module is None or builtin or module.split(".", 1)[0] in PACKAGES):
        return f"{_named(name, module)} is no part of Keras"
    return None


def _call_of_constants(node: Any) -> Optional[str]:
    """Keras computes a layer that is called on constants while it loads the file."""
    calls = node.get("inbound_nodes")
    for call in calls if isinstance(calls, list) else ():
        if call and not _takes_a_tensor(call):
            return f"{_short(node.get('class_name'))} is called on constants alone"
    return None


def _takes_a_tensor(call: Any) -> bool:
    """Whether one call in a graph takes an output of another layer."""
    pending = [call]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            if each.get("class_name") == "__keras_tensor__":
                return True
            pending.extend(each.values())
        elif isinstance(each, list):
            if each[:1] == ["_CONSTANT_VALUE"]:
                pending.extend(each[3:])
            elif (
                len(each) > 2 and isinstance(each[0], str) and type(each[1]) is type(each[2]) is int
            ):
                return True
            else:
                pending.extend(each)
    return False


def _plain_dtype(dtype: Any) -> bool:
    return dtype is None or (isinstance(dtype, str) and _DTYPE.fullmatch(dtype) is not None)


def _named(name: Any, module: Any) -> str:
    return f"{_short(name)} (of {_short(module) if module else 'your own code'})"


def _short(text: Any) -> str:
    return text if isinstance(text, str) and len(text) <= 80 else f"{str(text)[:77]}..."


def nodes(thing: Any) -> Iterator[Any]:
    """Every JSON object in a JSON value that names a class, outermost first."""
    pending = [thing]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            if "class_name" in each:
                yield each
            pending.extend(each.values())
        elif isinstance(each, list):
            pending.extend(each)
