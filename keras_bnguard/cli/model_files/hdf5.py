"""HDF5 files: what is checked is written into a file of our own, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any, Iterator, Tuple, Union

import numpy as np

from keras_bnguard.cli.model_files.interface import Copy, Description, ModelFile
from keras_bnguard.cli.model_files.json_text import read_json
from keras_bnguard.errors import ModelFileError

MAGIC = b"\x89HDF\r\n\x1a\n"

FREE_BYTES = 64 * 2**20
"""A file may always unpack to so much."""

GROWTH = 20
"""A larger one to so many times its own size; weights hardly compress, a bomb does."""


def allowed_bytes(size: int) -> int:
    """Bytes that a file of `size` bytes may unpack to."""
    return max(FREE_BYTES, GROWTH * size)


def check_growth(path: Any, size: int, unpacked: int) -> None:
    """Refuse what would unpack to far more than the file has.

    Raises:
        ModelFileError: it is more than `allowed_bytes`.
    """
    if unpacked > allowed_bytes(size):
        raise ModelFileError(f"{path} is refused: {size:,} bytes would unpack to {unpacked:,}.")


class Hdf5File(ModelFile):
    """An HDF5 file with a whole model in it."""

    def describe(self) -> Description:
        import h5py

        with h5py.File(self.file, "r") as opened:
            _no_user_block(self.path, opened)
            text = opened.attrs.get(_CONFIG)
            version = _text_of(opened.attrs.get("keras_version"))
        if text is None:
            raise ModelFileError(
                f"{self.path} holds weights only. Load them into the model and call "
                "keras_bnguard.audit(model)."
            )
        return Description(read_json(self.path, _CONFIG, _text_of(text)), version)

    def copy(self, config: Any, private: Path) -> Copy:
        import h5py

        path = private / "model.h5"
        with h5py.File(path, "w") as target:
            values = copy_checked(self.path, self.size, self.file, target)
            target.attrs[_CONFIG] = json.dumps(config)
            target.attrs.pop(_TRAINING, None)
        return Copy(path, values)


_CONFIG = "model_config"
_TRAINING = "training_config"


def copy_checked(path: Any, size: int, source: Union[Path, IO[bytes]], target: Any) -> int:
    """Copy groups, arrays and their attributes from an HDF5 file into an open one.

    Args:
        path: the user's file, for messages.
        size: its bytes.
        source: the HDF5 file, or what it was opened as.
        target: an `h5py.File` to write to.

    Returns:
        The number of values in all arrays.

    Raises:
        ModelFileError: data that are kept elsewhere, or more than the file explains.
    """
    import h5py

    with h5py.File(source, "r") as opened:
        _no_user_block(path, opened)
        items = list(_members(path, opened))
        arrays = [item for _, item in items if isinstance(item, h5py.Dataset)]
        check_growth(path, size, sum(each.size * max(each.dtype.itemsize, 1) for each in arrays))
        _copy_attributes(opened, target)
        for name, item in items:
            if isinstance(item, h5py.Dataset):
                if item.dtype.kind in "OV" and item.dtype.hasobject:
                    continue  # Texts; no weight is one.
                made = target.create_dataset(name, data=item[()])
            else:
                made = target.require_group(name)
            _copy_attributes(item, made)
        return sum(each.size for each in arrays)


def _no_user_block(path: Any, opened: Any) -> None:
    if opened.userblock_size:
        raise ModelFileError(
            f"{path} is refused: its HDF5 data begin after {opened.userblock_size:,} bytes "
            "of something else."
        )


def _members(path: Any, root: Any) -> Iterator[Tuple[str, Any]]:
    """Every group and array with its name, a group before what is in it.

    Raises:
        ModelFileError: a link that leads out of the file, or an array that is kept elsewhere.
    """
    import h5py

    pending = [("", root)]
    seen = {root.id}
    while pending:
        place, group = pending.pop()
        for key in group:
            name = f"{place}/{key}"
            if isinstance(group.get(key, getlink=True), h5py.ExternalLink):
                raise ModelFileError(f"{path} is refused: {name} points into another file.")
            item = group[key]
            if isinstance(item, h5py.Dataset):
                if item.is_virtual or item.external:
                    raise ModelFileError(f"{path} is refused: {name} is kept in another file.")
                yield name, item
            elif isinstance(item, h5py.Group) and item.id not in seen:
                seen.add(item.id)
                yield name, item
                pending.append((name, item))
            # What is left is a named datatype, which holds no values, or a group seen before.


def _copy_attributes(source: Any, target: Any) -> None:
    for name, value in source.attrs.items():
        kind = value.dtype.kind if isinstance(value, (np.ndarray, np.generic)) else ""
        if isinstance(value, (str, bytes)) or (kind and kind in "biufSU"):
            target.attrs[name] = value
        elif kind == "O" and all(isinstance(each, (str, bytes)) for each in np.ravel(value)):
            target.attrs[name] = list(np.ravel(value))


def _text_of(value: Any) -> str:
    """An attribute as text, "" where there is none."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
