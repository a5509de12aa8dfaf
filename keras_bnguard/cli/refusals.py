"""What in a model's description is not to be loaded: code, pickles, classes Keras does not have."""

from __future__ import annotations

import re
from typing import Any, Iterator

KERAS_PARTS = {
    *("activations", "constraints", "dtype_policies", "engine", "initializers", "layers"),
    *("losses", "metrics", "mixed_precision", "models", "ops", "optimizers", "random"),
    "regularizers",
}
"""Parts of Keras whose classes a model file may name."""

FUNCTION_PARTS = {"activations", "constraints", "initializers", "ops", "regularizers"}
"""Those whose functions it may name."""

RUNS_CODE = {
    "__lambda__": "code of its own",
    "Lambda": "code of its own",
    "TFSMLayer": "a SavedModel from elsewhere",
    "TorchModuleWrapper": "a pickled torch module",
    "JaxLayer": "code of its own",
    "FlaxLayer": "code of its own",
}

# Keras 2 writes each TensorFlow operation in a graph as a layer; these compute and no more.
PLAIN_OPERATION = re.compile(
    r"((compat\.v1\.)?(math|nn|image|linalg|__operators__)\.\w+(\.\w+)?"
    r"|(compat\.v1\.)?(cast|clip_by_value|concat|expand_dims|gather|identity|ones_like|pad"
    r"|reshape|reverse|shape|size|slice|split|squeeze|stack|strided_slice|tile|transpose"
    r"|unstack|where|zeros_like))"
)


def refusals(description: Any) -> Iterator[str]:
    """Why a description is not to be loaded, one reason for each thing in the way."""
    for node in nodes(description):
        class_name, module = node.get("class_name"), node.get("module")
        config = node.get("config")
        if class_name in RUNS_CODE:
            yield f"{class_name} brings {RUNS_CODE[class_name]}"
        elif class_name == "TFOpLambda" and isinstance(config, dict):
            name = str(config.get("function"))
            if not PLAIN_OPERATION.fullmatch(name):
                yield f"the TensorFlow operation {name} may do more than compute"
        elif isinstance(class_name, str) and not _is_known(node, class_name == "function"):
            named = config if class_name == "function" else class_name
            yield f"{named} (of {module or 'your own code'}) is no part of Keras"
        if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
            yield f"{class_name} reads its vocabulary from another file"


def _is_known(node: Any, function: bool) -> bool:
    module = node.get("module")
    if module is None:
        # Older formats name no module at all; where one could stand and does not, it is custom.
        registered = node.get("registered_name")
        return ">" not in str(registered) and not ("module" in node and registered)
    if module in ("builtins", "keras", "tf_keras", "keras_bnguard"):
        return not function or module == "builtins"
    root, *parts = str(module).split(".")
    if parts[:1] in (["src"], ["api"]):
        parts = parts[1:]
    allowed = FUNCTION_PARTS if function else KERAS_PARTS
    return root in ("keras", "tf_keras") and bool(parts) and parts[0] in allowed


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
