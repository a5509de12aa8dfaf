"""Load a model from a file that may come from anywhere.

The file's own description of the model is read as plain JSON first. Whatever in it is not one
of Keras's own layers, or would run, unpickle or read something else, is refused: Keras's safe
mode does not cover HDF5 files, nor all of this in every release.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, Iterator

from keras_bnguard.engines.select import any_engine
from keras_bnguard.errors import BNGuardError, ModelFileError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

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


class NoModelFileError(ModelFileError, FileNotFoundError):
    """There is no file of that name."""


def load(path: str) -> Any:
    """The model in a file, not compiled.

    Args:
        path: a `.keras` archive or an HDF5 file with a whole model in it.

    Raises:
        ModelFileError: no such file, not a model, broken, or it holds custom code. The message
            is one line.
    """
    description = read_description(Path(path))
    reason = next(refusals(description), None)
    if reason:
        raise ModelFileError(
            f"{path} is refused: {reason}. Load it yourself and call "
            "keras_bnguard.audit(model) if you trust it."
        )
    names = {str(node.get("module")).split(".", 1)[0] for node in _nodes(description)}
    if "keras_bnguard" in names:
        import keras_bnguard

        _ = keras_bnguard.GuardedModel  # known to Keras once it has been made
    engine = any_engine("tf_keras" if "tf_keras" in names else None)
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return engine.load_model(path)
    except BNGuardError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"{path} cannot be loaded by {engine.package} {engine.version}: {_one_line(error)}"
        ) from error
    finally:
        log.setLevel(level)


def read_description(path: Path) -> Any:
    """The JSON in which a file describes its model; nothing else of it is read."""
    if path.is_dir():
        raise NoModelFileError(f"{path} is a folder; expected a .keras or .h5 file.")
    if not path.is_file():
        raise NoModelFileError(f"{path} does not exist.")
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5_MAGIC))
        if start == HDF5_MAGIC:
            return _hdf5_description(path)
        if start[:2] == b"PK":
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"{path} is broken: {_one_line(error)}") from error
    raise ModelFileError(f"{path} is no model file: neither a .keras archive nor HDF5.")


def _hdf5_description(path: Path) -> Any:
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
    if text is None:
        raise ModelFileError(
            f"{path} holds weights only. Load them into the model and call "
            "keras_bnguard.audit(model)."
        )
    return json.loads(text)


def refusals(description: Any) -> Iterator[str]:
    """Why a description is not to be loaded, one reason for each thing in the way."""
    for node in _nodes(description):
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
            yield f"{named} (of {module or 'a registered package'}) is no part of Keras"
        if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
            yield f"{class_name} reads its vocabulary from another file"


def _is_known(node: Any, function: bool) -> bool:
    module = node.get("module")
    if module is None:
        return ">" not in str(node.get("registered_name"))
    if module in ("builtins", "keras", "tf_keras", "keras_bnguard"):
        return not function or module == "builtins"
    root, *parts = str(module).split(".")
    if parts[:1] in (["src"], ["api"]):
        parts = parts[1:]
    allowed = FUNCTION_PARTS if function else KERAS_PARTS
    return root in ("keras", "tf_keras") and bool(parts) and parts[0] in allowed


def _nodes(thing: Any) -> Iterator[Any]:
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


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= 200 else text[:197] + "..."
    return f"{type(error).__name__}: {text}"
