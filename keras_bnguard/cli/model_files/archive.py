"""`.keras` archives: which members one may have, and what is read of them."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import IO, Any, List

from keras_bnguard.cli.model_files.hdf5 import MAGIC, check_growth, copy_checked
from keras_bnguard.cli.model_files.interface import Copy, Description, ModelFile
from keras_bnguard.cli.model_files.json_text import TEXT_BYTES, read_json
from keras_bnguard.errors import ModelFileError

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"
ASSETS = "assets/"

FIRST_BYTES = b"PK\x03\x04"
_BLOCK = 2**16


class Archive(ModelFile):
    """A `.keras` archive."""

    def describe(self) -> Description:
        with zipfile.ZipFile(self.file) as archive:
            members = archive.infolist()
            _check_names(self.path, [each.filename for each in members])
            _check_start(self.path, self.file, members)
            config = read_json(self.path, CONFIG, _text(archive, CONFIG))
            metadata = {}
            if METADATA in archive.namelist():
                metadata = read_json(self.path, METADATA, _text(archive, METADATA))
        version = metadata.get("keras_version") if isinstance(metadata, dict) else ""
        return Description(config, str(version or ""))

    def copy(self, config: Any, private: Path) -> Copy:
        import h5py

        packed, weights, path = (private / name for name in ("packed", "weights", "model.keras"))
        with zipfile.ZipFile(self.file) as archive:
            if WEIGHTS not in archive.namelist():
                raise ModelFileError(f"{self.path} is refused: it has no {WEIGHTS}.")
            check_growth(self.path, self.size, sum(m.file_size for m in archive.infolist()))
            with archive.open(WEIGHTS) as source, packed.open("wb") as target:
                copy_bytes(self.path, source, target, self.size)
        with h5py.File(weights, "w") as made:
            values = copy_checked(self.path, self.size, packed, made)
        packed.unlink()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(METADATA, "{}")
            archive.writestr(CONFIG, json.dumps(config))
            archive.write(weights, WEIGHTS)
        weights.unlink()
        return Copy(path, values)


def copy_bytes(path: Any, source: IO[bytes], target: IO[bytes], size: int) -> None:
    """Copy a stream, and stop where it has more than a file of `size` bytes explains."""
    written = 0
    for block in iter(lambda: source.read(_BLOCK), b""):
        written += len(block)
        check_growth(path, size, written)
        target.write(block)


def _check_names(path: Path, names: List[str]) -> None:
    if CONFIG not in names:
        if any(name.endswith("data.pkl") for name in names):
            raise ModelFileError(f"{path} is a pickle of torch, and opening one runs code from it.")
        raise ModelFileError(f"{path} is no model file: a zip archive without {CONFIG}.")
    for name in names:
        if name not in (CONFIG, METADATA, WEIGHTS) and not name.startswith(ASSETS):
            raise ModelFileError(
                f"{path} is refused: it has {name[:80]!r} in it; a .keras archive has {CONFIG}, "
                f"{METADATA}, {WEIGHTS} and {ASSETS}, and nothing else."
            )
        if names.count(name) > 1 and not name.startswith(ASSETS):
            raise ModelFileError(f"{path} is refused: {name} is in it twice.")


def _check_start(path: Path, file: IO[bytes], members: List[zipfile.ZipInfo]) -> None:
    """The archive begins with the file, and no HDF5 file begins where h5py would find one."""
    if min(each.header_offset for each in members):
        raise ModelFileError(f"{path} is refused: something else comes before its archive.")
    stored = {_data_offset(file, each) for each in members}
    place = 512
    end = file.seek(0, 2)
    while place < end:
        file.seek(place)
        if file.read(len(MAGIC)) == MAGIC and place not in stored:
            raise ModelFileError(f"{path} is refused: it is an archive and an HDF5 file at once.")
        place *= 2


def _data_offset(file: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Where the data of a member begin."""
    file.seek(member.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + int(name) + int(extra)


def _text(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        return file.read(TEXT_BYTES + 1)


def is_archive(file: IO[bytes]) -> bool:
    """Whether a zip reader finds an archive in a file, wherever it begins."""
    try:
        with zipfile.ZipFile(file) as archive:
            return bool(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        return False
