"""What every kind of model file can do: describe its model, and copy what was checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any, NamedTuple


class Description(NamedTuple):
    """How a file describes its model.

    Attributes:
        config: the model as JSON.
        keras: version of the Keras that wrote it, "" where unknown.
    """

    config: Any
    keras: str


class Copy(NamedTuple):
    """A private copy of what Keras loads.

    Attributes:
        path: a file with the ending that Keras expects, or a folder.
        values: number of values in all its arrays.
    """

    path: Path
    values: int


class ModelFile(ABC):
    """A file that the user named, open and of one kind.

    Args:
        path: for messages; a folder is read through it.
        file: the open file; None for a folder.
        size: its bytes; 0 for a folder.
    """

    is_folder = False

    def __init__(self, path: Path, file: IO[bytes], size: int) -> None:
        self.path = path
        self.file = file
        self.size = size

    @abstractmethod
    def describe(self) -> Description:
        """The description of the model; nothing else is read.

        Raises:
            ModelFileError: it is no model, or larger than one can be.
        """

    @abstractmethod
    def copy(self, config: Any, private: Path) -> Copy:
        """Write a description that was judged, and the weights, into a private folder.

        Raises:
            ModelFileError: weights that are kept elsewhere, or are more than the file explains.
        """
