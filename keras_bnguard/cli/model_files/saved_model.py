"""SavedModel folders of Keras 2: their description and their values; the graph is never read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, Iterator, Optional, Tuple, Union

from keras_bnguard.cli.model_files.interface import Copy, Description, ModelFile
from keras_bnguard.cli.model_files.json_text import TEXT_BYTES, read_json
from keras_bnguard.errors import ModelFileError

METADATA = "keras_metadata.pb"
GRAPH = "saved_model.pb"
VALUES = "variables"

_VALUE_FILE = re.compile(r"variables\.(index|data-\d{5}-of-\d{5})")


class SavedModelFolder(ModelFile):
    """A SavedModel folder of Keras 2."""

    is_folder = True

    def describe(self) -> Description:
        path = self.path
        metadata = path / METADATA
        if not metadata.is_file():
            raise ModelFileError(
                f"{path} is a SavedModel without {METADATA}: it holds a traced graph and no layers "
                "to audit. Save the model as .keras and audit that."
            )
        with metadata.open("rb") as file:
            data = file.read(TEXT_BYTES + 1)
        if len(data) > TEXT_BYTES:
            raise ModelFileError(
                f"{path} is refused: its {METADATA} has more than {TEXT_BYTES >> 20} MB."
            )
        root = _root(data)
        found = None if root is None else read_json(path, METADATA, root)
        if not isinstance(found, dict):
            raise ModelFileError(f"{path} is broken: {METADATA} describes no model")
        class_name = str(found.get("class_name"))
        if not found.get("is_graph_network") and class_name != "Sequential":
            raise ModelFileError(
                f"{path} is refused: {class_name[:80]} is a class of your own, and its code is not "
                "in the file. Make the model, load its weights, and call "
                "keras_bnguard.audit(model)."
            )
        config = {"class_name": class_name, "config": found.get("config")}
        return Description(config, str(found.get("keras_version") or ""))

    def copy(self, config: Any, private: Path) -> Copy:
        (private / VALUES).mkdir()
        total = 0
        for file in sorted((self.path / VALUES).glob("*")):
            if not _VALUE_FILE.fullmatch(file.name):
                continue
            if file.is_symlink() or not file.is_file():
                raise ModelFileError(f"{self.path} is refused: {file.name} is kept elsewhere.")
            total += file.stat().st_size
            shutil.copyfile(file, private / VALUES / file.name)
        return Copy(private, total // 4)


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
        value = 0
        for shift in range(0, 70, 7):
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError(f"{METADATA} is no message")

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
