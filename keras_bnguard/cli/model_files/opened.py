"""Open a file that may come from anywhere as the one kind that its first byte and name make it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Type

from keras_bnguard.cli.model_files.archive import FIRST_BYTES, Archive, is_archive
from keras_bnguard.cli.model_files.hdf5 import MAGIC, Hdf5File
from keras_bnguard.cli.model_files.interface import ModelFile
from keras_bnguard.cli.model_files.saved_model import GRAPH, SavedModelFolder
from keras_bnguard.errors import ModelFileError


class Kind(NamedTuple):
    """A kind of model file: its name in messages, its endings, its class."""

    name: str
    endings: Any
    make: Type[ModelFile]


_ARCHIVE = Kind("a .keras archive", (".keras",), Archive)
_HDF5 = Kind("an HDF5 file", (".h5", ".hdf5"), Hdf5File)
_NAMED: Dict[str, Kind] = {end: kind for kind in (_ARCHIVE, _HDF5) for end in kind.endings}
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class NoModelFileError(ModelFileError, FileNotFoundError):
    """There is no file of that name."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[ModelFile]:
    """A model file, open while the block runs.

    Raises:
        ModelFileError: missing, no model file, or two kinds of file at once.
    """
    if path.is_dir():
        if not (path / GRAPH).is_file():
            raise NoModelFileError(
                f"{path} is a folder and no SavedModel; expected a .keras or .h5 file, or the "
                f"folder with {GRAPH} in it."
            )
        yield SavedModelFolder(path, io.BytesIO(), 0)
        return
    if not path.is_file():
        raise NoModelFileError(f"{path} {'is no file' if path.exists() else 'does not exist'}.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {one_line(error)}") from error
    with file:
        kind = _kind(path, file.read(len(MAGIC)))
        if _NAMED.get(path.suffix.lower(), kind) is not kind:
            raise ModelFileError(
                f"{path} is refused: its name ends in {path.suffix}, and it is {kind.name}. "
                f"Rename it to {path.stem}{kind.endings[0]} if that is what it should be."
            )
        if kind is _HDF5 and is_archive(file):
            raise ModelFileError(f"{path} is refused: it is an HDF5 file and an archive at once.")
        yield kind.make(path, file, file.seek(0, io.SEEK_END))


def _kind(path: Path, start: bytes) -> Kind:
    if not start:
        raise ModelFileError(f"{path} is empty.")
    if start == MAGIC:
        return _HDF5
    if start.startswith(FIRST_BYTES):
        return _ARCHIVE
    if start[:2] in _PICKLES:
        raise ModelFileError(
            f"{path} is a pickle, and opening one runs code from it. Save the model as .keras."
        )
    raise ModelFileError(
        f"{path} is no model file: neither a .keras archive nor HDF5 nor a SavedModel folder."
    )


def without_compilation(value: Any) -> Any:
    """A description without loss, metrics and optimizer of `compile()`: an audit needs none."""
    if isinstance(value, list):
        return [without_compilation(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {k: without_compilation(v) for k, v in value.items() if k != "compile_config"}


def one_line(error: BaseException) -> str:
    """An exception in one line of at most 200 characters."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 200 else text[:197] + "..."
    return f"{type(error).__name__}: {text}"
