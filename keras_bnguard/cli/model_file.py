"""Load a model from a file that may come from anywhere.

The file's own description of the model is read as plain JSON first. Whatever in it is not one
of Keras's own layers, or would run, unpickle or read something else, is refused: Keras's safe
mode does not cover HDF5 files, nor all of this in every release.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import warnings
from pathlib import Path
from typing import Any

from keras_bnguard.backends.registry import any_backend, loaded_backends
from keras_bnguard.cli.description import Description, one_line, read_description
from keras_bnguard.cli.refusals import nodes, refusals
from keras_bnguard.errors import BNGuardError, ModelFileError
from keras_bnguard.model.saved_by import note_writer


def load(path: str) -> Any:
    """The model in a file, not compiled.

    Args:
        path: a `.keras` archive, an HDF5 file with a whole model in it, or a SavedModel folder
            of Keras 2.

    Raises:
        ModelFileError: no such file, not a model, broken, of another Keras, or it holds custom
            code. The message is one line.
    """
    found = read_description(Path(path))
    reason = next(refusals(found.config), None)
    if reason:
        raise ModelFileError(
            f"{path} is refused: {reason}. Load it yourself and call "
            "keras_bnguard.audit(model) if you trust it."
        )
    names = {str(node.get("module")).split(".", 1)[0] for node in nodes(found.config)}
    if "keras_bnguard" in names:
        import keras_bnguard

        _ = keras_bnguard.GuardedModel  # known to Keras once it has been made
    backend = _backend_for(path, found, "tf_keras" in names)
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if found.kind == "saved_model":
                return backend.values.load_saved_model(path, found.config)
            model = backend.values.load_model(path)
            note_writer(model, _writer(found, "tf_keras" in names))
            return model
    except BNGuardError:
        raise
    except Exception as error:
        wrote = _writer(found, "tf_keras" in names)
        here = f"{backend.package} {backend.version}"
        if wrote and wrote != here:
            raise ModelFileError(
                f"{path} was saved by {wrote} and cannot be loaded by {here}: run bnguard audit "
                f"where {wrote.split(' ')[0]} {_major(found.keras)} is installed. "
                f"({one_line(error)})"
            ) from error
        raise ModelFileError(f"{path} cannot be loaded by {here}: {one_line(error)}") from error
    finally:
        log.setLevel(level)


def _backend_for(path: str, found: Description, of_tf_keras: bool) -> Any:
    """The Keras to load a file with: of those here, the one most like the one that wrote it."""
    wrote = _writer(found, of_tf_keras)
    old = _major(found.keras) == "2" or of_tf_keras or found.kind == "saved_model"
    if not old:
        backend = any_backend()
        if _major(backend.version) == "2" and _major(found.keras) == "3":
            raise ModelFileError(
                f"{path} was saved by {wrote}; here is {backend.package} {backend.version}, which "
                "does not read it. Run bnguard audit where Keras 3 is installed."
            )
        return backend
    loaded = [e for e in loaded_backends() if _major(e.version) == "2"]
    if loaded and (not of_tf_keras or loaded[0].package == "tf_keras"):
        return loaded[0]
    if importlib.util.find_spec("tf_keras") is not None:
        return any_backend("tf_keras")
    backend = any_backend()
    if not of_tf_keras and (_major(backend.version) == "2" or found.kind != "saved_model"):
        return backend  # Keras 3 reads some files of Keras 2.
    kind = "SavedModel of" if found.kind == "saved_model" else "file of"
    raise ModelFileError(
        f"{path} is a {kind} {wrote or 'Keras 2'}; {backend.package} {backend.version} does not "
        "read it. Run bnguard audit where tf_keras is installed (pip install tf_keras), or save "
        "the model as .keras with the Keras that is here."
    )


def _writer(found: Description, of_tf_keras: bool) -> str:
    """The Keras that wrote a file: "keras 3.15.1". From 2.16 on, Keras 2 is called tf_keras."""
    if not found.keras:
        return ""
    numbers = [int(part) for part in re.findall(r"\d+", found.keras)[:2]]
    name = "tf_keras" if of_tf_keras or [2, 16] <= numbers < [3] else "keras"
    return f"{name} {found.keras[:20]}"


def _major(version: str) -> str:
    return version.partition(".")[0]
