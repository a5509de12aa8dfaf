"""What a fix needs to know of the user's own code, so that it runs where it is pasted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class UserCode:
    """Names and arguments in the code that trains or audits a model.

    Attributes:
        model: an expression for the model there. Defaults to "model".
        x: an expression for the inputs that `fit` was given. Defaults to "x".
        y: the same for the targets. Defaults to "y".
        line: "file.py:41", the line that runs; None where unknown.
        keras_import: the statement that imports this Keras as `keras`.
        compile_arguments: arguments of `compile` after the optimizer, `loss="mse"`; None where
            they cannot be written as code.
    """

    model: str = "model"
    x: str = "x"
    y: str = "y"
    line: Optional[str] = None
    keras_import: str = "import keras"
    compile_arguments: Optional[str] = None

    @property
    def place(self) -> str:
        """`train.py:41`, without the folders; "fit" where the line is unknown."""
        if not self.line:
            return "fit"
        return self.line.replace("\\", "/").rsplit("/", 1)[-1]
