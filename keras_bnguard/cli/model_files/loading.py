"""Load a model from a file that may come from anywhere.

The description of the model is read as plain JSON and judged before any Keras sees it. Keras
then loads a private copy of what was judged: its safe mode does not cover HDF5 files, nor all of
this in every release.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, NoReturn

from keras_bnguard.backends.known_classes import known_classes
from keras_bnguard.backends.patches.weight_budget import weight_budget
from keras_bnguard.backends.registry import any_backend, loaded_backends
from keras_bnguard.cli.model_files.interface import Copy
from keras_bnguard.cli.model_files.json_text import check_calls
from keras_bnguard.cli.model_files.opened import one_line, opened, without_compilation
from keras_bnguard.cli.model_files.refusals import nodes, refusals, unknown
from keras_bnguard.errors import BNGuardError, MissingExtraError, ModelFileError
from keras_bnguard.model.saved_by import note_writer

FREE_VALUES = 2**22
"""Weights may always have so many values: some are made and not saved."""


def load(path: str) -> Any:
    """The model in a file, not compiled.

    Args:
        path: a `.keras` archive, an HDF5 file with a whole model in it, or a SavedModel folder
            of Keras 2.

    Raises:
        ModelFileError: no such file, not a model, broken, of another Keras, or it holds custom
            code. The message is one line.
    """
    with tempfile.TemporaryDirectory(prefix="bnguard_") as private, opened(Path(path)) as file:
        with _broken(path):
            found = file.describe()
            if not isinstance(found.config, dict):
                raise ModelFileError(f"{path} is broken: its description is no JSON object")
            config = without_compilation(found.config)
            check_calls(path, config)
        _refuse(path, next(refusals(config), None))
        names = {str(node.get("module")).split(".", 1)[0] for node in nodes(config)}
        if "keras_bnguard" in names:
            import keras_bnguard

            _ = keras_bnguard.GuardedModel  # known to Keras once it has been made
        wrote = _writer(found.keras, "tf_keras" in names)
        backend = _backend_for(path, wrote, "tf_keras" in names, file.is_folder)
        here = f"{backend.package} {backend.version}"
        known = known_classes(backend.keras)
        missing = next(unknown(config, known), None)
        if missing and wrote and wrote != here:
            _of_another(path, wrote, here, f"{missing} is not in {here}")
        _refuse(path, f"{missing} is no part of {here}" if missing else None)
        with _broken(path):
            copy = file.copy(config, Path(private))
        try:
            model = _loaded(backend, copy, config if file.is_folder else None, known.unexported)
        except ModelFileError as error:
            _refuse(path, str(error))
        except BNGuardError:
            raise
        except Exception as error:
            reason = one_line(error).replace(str(copy.path), path)
            if wrote and wrote != here:
                _of_another(path, wrote, here, reason, error)
            raise ModelFileError(f"{path} cannot be loaded by {here}: {reason}") from error
        note_writer(model, wrote)
        return model


@contextlib.contextmanager
def _broken(path: str) -> Iterator[None]:
    """Whatever a library raises in the block means that the file is broken."""
    try:
        yield
    except ModelFileError:
        raise
    except ImportError as error:
        name = error.name or one_line(error)
        raise MissingExtraError(
            f"{path} cannot be read without the package {name}: pip install {name}"
        ) from error
    except Exception as error:
        raise ModelFileError(f"{path} is broken: {one_line(error)}") from error


def _loaded(backend: Any, copy: Copy, folder_config: Any, unexported: Dict[str, Any]) -> Any:
    """What Keras makes of the private copy, quietly and with no more weights than it has."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)
    values = 2 * copy.values + FREE_VALUES
    try:
        with warnings.catch_warnings(), weight_budget(backend.keras.layers.Layer, values) as budget:
            warnings.simplefilter("ignore")
            try:
                if folder_config is not None:
                    model = backend.values.load_saved_model(str(copy.path), folder_config)
                else:
                    with backend.keras.utils.custom_object_scope(unexported):
                        model = backend.values.load_model(str(copy.path))
            except Exception as error:
                raise budget.error or error from error
            if budget.error:
                raise budget.error
            return model
    finally:
        log.setLevel(level)


def _refuse(path: str, reason: Any) -> None:
    if reason:
        raise ModelFileError(
            f"{path} is refused: {reason}. Load it yourself and call "
            "keras_bnguard.audit(model) if you trust it."
        )


def _of_another(path: str, wrote: str, here: str, reason: str, error: Any = None) -> NoReturn:
    name, _, version = wrote.partition(" ")
    raise ModelFileError(
        f"{path} was saved by {wrote} and cannot be loaded by {here}: run bnguard audit where "
        f"{name} {_major(version)} is installed. ({reason})"
    ) from error


def _backend_for(path: str, wrote: str, of_tf_keras: bool, is_folder: bool) -> Any:
    """The Keras to load a file with: of those here, the one most like the one that wrote it."""
    generation = _major(wrote.partition(" ")[2])
    if generation != "2" and not of_tf_keras and not is_folder:
        backend = any_backend()
        if _major(backend.version) == "2" and generation == "3":
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
    if not of_tf_keras and (_major(backend.version) == "2" or not is_folder):
        return backend  # Keras 3 reads some files of Keras 2.
    kind = "SavedModel of" if is_folder else "file of"
    raise ModelFileError(
        f"{path} is a {kind} {wrote or 'Keras 2'}; {backend.package} {backend.version} does not "
        "read it. Run bnguard audit where tf_keras is installed (pip install tf_keras), or save "
        "the model as .keras with the Keras that is here."
    )


def _writer(version: str, of_tf_keras: bool) -> str:
    """The Keras that wrote a file: "keras 3.15.1". From 2.16 on, Keras 2 is called tf_keras."""
    if not version:
        return ""
    numbers = [int(part) for part in re.findall(r"\d{1,9}", version)[:2]]
    name = "tf_keras" if of_tf_keras or [2, 16] <= numbers < [3] else "keras"
    return f"{name} {version[:20]}"


def _major(version: str) -> str:
    return version.partition(".")[0]
