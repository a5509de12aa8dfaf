"""Read how a file describes its model: plain JSON, with a limit to what may be unpacked.

Nothing else of the file is read here, and nothing in it is run.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import IO, Any, Iterator, NamedTuple, Optional, Tuple, Union

from keras_bnguard.errors import ModelFileError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
PICKLE_MAGIC = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
METADATA = "keras_metadata.pb"

FREE_BYTES = 200 * 2**20
"""A file may always unpack to so much."""

GROWTH = 20
"""A larger one to so many times its own size; weights hardly compress, a bomb does."""

CONFIG_BYTES = 50 * 2**20
"""The largest model known to us is described in less than two MB."""


class Description(NamedTuple):
    """config: the model as JSON. keras: version of the Keras that wrote it, "" where unknown.
    kind: "keras", "hdf5" or "saved_model"."""

    config: Any
    keras: str
    kind: str


class NoModelFileError(ModelFileError, FileNotFoundError):
    """There is no file of that name."""


def read_description(path: Path) -> Description:
    """The JSON in which a file or a SavedModel folder describes its model.

    Raises:
        ModelFileError: missing, broken, not a model, or made to fill the memory.
    """
    if path.is_dir():
        return _described(path, _saved_model)
    if not path.is_file():
        raise NoModelFileError(f"{path} {'is no file' if path.exists() else 'does not exist'}.")
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5_MAGIC))
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {one_line(error)}") from error
    if not start:
        raise ModelFileError(f"{path} is empty.")
    if start == HDF5_MAGIC:
        return _described(path, _hdf5)
    if start[:2] == b"PK":
        return _described(path, _archive)
    if start[:2] in PICKLE_MAGIC:
        raise ModelFileError(
            f"{path} is a pickle, and opening one runs code from it. Save the model as .keras."
        )
    raise ModelFileError(
        f"{path} is no model file: neither a .keras archive nor HDF5 nor a SavedModel folder."
    )


def _described(path: Path, read: Any) -> Description:
    try:
        found: Description = read(path)
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"{path} is broken: {one_line(error)}") from error
    if not isinstance(found.config, dict):
        raise ModelFileError(f"{path} is broken: its description is no JSON object")
    return found


# --------------------------------------------------------------------- archives
def _archive(path: Path) -> Description:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        if "config.json" not in names:
            if any(name.endswith("data.pkl") for name in names):
                raise ModelFileError(
                    f"{path} is a pickle of torch, and opening one runs code from it."
                )
            raise ModelFileError(f"{path} is no model file: a zip archive without config.json.")
        _not_a_bomb(path, sum(info.file_size for info in archive.infolist()))
        config = json.loads(_limited(path, archive, "config.json"))
        metadata: Any = {}
        if "metadata.json" in names:
            metadata = json.loads(_limited(path, archive, "metadata.json"))
        if "model.weights.h5" in names:
            with archive.open("model.weights.h5") as weights:
                _check_hdf5(path, weights)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else ""
    return Description(config, str(version or ""), "keras")


def _limited(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        text = file.read(CONFIG_BYTES + 1)
    if len(text) > CONFIG_BYTES:
        raise ModelFileError(f"{path} is refused: its {name} has more than 50 MB.")
    return text


def _not_a_bomb(path: Path, unpacked: int) -> None:
    if unpacked > max(FREE_BYTES, GROWTH * path.stat().st_size):
        raise ModelFileError(
            f"{path} is refused: {path.stat().st_size:,} bytes would unpack to {unpacked:,}."
        )


# ------------------------------------------------------------------------- HDF5
def _hdf5(path: Path) -> Description:
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
        version = _text(file.attrs.get("keras_version"))
    if text is None:
        raise ModelFileError(
            f"{path} holds weights only. Load them into the model and call "
            "keras_bnguard.audit(model)."
        )
    _check_hdf5(path, path)
    return Description(json.loads(text), version, "hdf5")


def _check_hdf5(path: Path, file: Union[Path, IO[bytes]]) -> None:
    """No data from other files, and no more of it than the file is large."""
    import h5py

    source: Any = file if isinstance(file, Path) else io.BytesIO(file.read())
    with h5py.File(source, "r") as opened:
        total = 0
        for name, item in _members(opened):
            if not isinstance(item, h5py.Dataset):
                raise ModelFileError(f"{path} is refused: {name} points into another file.")
            if item.is_virtual or item.external:
                raise ModelFileError(f"{path} is refused: {name} is kept in another file.")
            total += item.size * item.dtype.itemsize
        _not_a_bomb(path, total)


def _members(group: Any) -> Iterator[Tuple[str, Any]]:
    """Every dataset below a group, and every link that leads out of the file."""
    import h5py

    pending = [group]
    seen = set()
    while pending:
        each = pending.pop()
        if each.id in seen:
            continue
        seen.add(each.id)
        for name in each:
            link = each.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"{each.name.rstrip('/')}/{name}", link
                continue
            item = each[name]
            if isinstance(item, h5py.Group):
                pending.append(item)
            else:
                yield item.name, item


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


# ------------------------------------------------------------------- SavedModel
def _saved_model(path: Path) -> Description:
    if not (path / "saved_model.pb").is_file():
        raise NoModelFileError(
            f"{path} is a folder and no SavedModel; expected a .keras or .h5 file, or the folder "
            "with saved_model.pb in it."
        )
    metadata = path / METADATA
    if not metadata.is_file():
        raise ModelFileError(
            f"{path} is a SavedModel without {METADATA}: it holds a traced graph and no layers to "
            "audit. Save the model as .keras and audit that."
        )
    if metadata.stat().st_size > CONFIG_BYTES:
        raise ModelFileError(f"{path} is refused: its {METADATA} has more than 50 MB.")
    root = _root(metadata.read_bytes())
    if root is None:
        raise ModelFileError(f"{path} is broken: {METADATA} describes no model")
    found = json.loads(root)
    class_name = str(found.get("class_name"))
    if not found.get("is_graph_network") and class_name != "Sequential":
        raise ModelFileError(
            f"{path} is refused: {class_name} is a class of your own, and its code is not in the "
            "file. Make the model, load its weights, and call keras_bnguard.audit(model)."
        )
    config = {"class_name": class_name, "config": found.get("config")}
    return Description(config, _text(found.get("keras_version")), "saved_model")


def _root(data: bytes) -> Optional[str]:
    """The JSON of the outermost model in a `SavedMetadata` message of Keras 2.

    Its field 1 repeats `SavedObject`: 3 is the path, 4 the kind, 5 the JSON.
    """
    for number, node in _fields(data):
        if number == 1 and isinstance(node, bytes):
            parts = {n: v for n, v in _fields(node) if isinstance(v, bytes)}
            if parts.get(3) == b"root" and parts.get(4, b"").startswith(b"_tf_keras_"):
                return parts.get(5, b"").decode("utf-8")
    return None


def _fields(data: bytes) -> Iterator[Tuple[int, Union[int, bytes]]]:
    """Fields of a protocol buffer message: numbers, and texts or messages as bytes."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        tag = number()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, number()
            continue
        size = {1: 8, 5: 4}.get(kind) if kind != 2 else number()
        if size is None or place + size > len(data):
            raise ValueError(f"{METADATA} is cut off or no message")
        yield tag >> 3, data[place : place + size]
        place += size


def one_line(error: BaseException) -> str:
    """An exception in one line of at most 200 characters."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 200 else text[:197] + "..."
    return f"{type(error).__name__}: {text}"
