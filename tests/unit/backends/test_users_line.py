"""The user's own line is found behind frames of libraries, of frameworks and of this package."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import warnings
from typing import Any

import pytest

from keras_bnguard.backends.call_stack import is_library, user_line, warn_user


def module(path: Any, text: str, **names: Any) -> Any:
    """The namespace of code that was compiled as if it were in this file."""
    space = {"__name__": path.stem, **names}
    exec(compile(textwrap.dedent(text), str(path), "exec"), space)
    return space


@pytest.fixture
def library(tmp_path: Any) -> Any:
    """A function of an installed package that calls back."""
    path = tmp_path / "lib" / "site-packages" / "trainers.py"
    return module(path, "def train(work):\n    return work()\n")["train"]


def test_the_line_of_the_user_is_named_where_a_library_trains(tmp_path: Any, library: Any) -> None:
    script = tmp_path / "project" / "train.py"
    text = "def main():\n\n    return train(line)\n"
    found = module(script, text, train=library, line=lambda: user_line("tests"))["main"]()
    assert found == f"{script}:3"


def test_a_library_between_two_frames_of_the_user_does_not_count(library: Any) -> None:
    assert str(user_line()).startswith(__file__)
    assert str(library(user_line)).startswith(__file__)


def test_without_a_line_of_the_user_that_of_the_library_is_named(tmp_path: Any) -> None:
    path = tmp_path / "site-packages" / "only.py"
    frame = module(path, "def train(work):\n    return work()\n")["train"]
    hidden = {each.split(".")[0] for each in ("tests.unit", "_pytest", "pluggy", "pytest")}
    assert user_line(*hidden) is None or is_library(str(user_line(*hidden)).rsplit(":", 1)[0])
    assert str(frame(lambda: user_line(*hidden))).startswith(str(path))


def test_a_warning_is_shown_at_the_line_of_the_user(library: Any) -> None:
    def warn() -> None:
        warn_user("found")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        library(warn)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("file", "is_one"),
    [
        (json.__file__, True),
        (os.path.join("venv", "lib", "site-packages", "mylib", "train.py"), True),
        (os.path.join("usr", "lib", "dist-packages", "mylib.py"), True),
        (os.path.join(os.path.dirname(sys.executable), "train"), True),
        (__file__, False),
        ("train.py", False),
        ("<stdin>", False),
        (os.path.join("my-site-packages-notes", "train.py"), False),
    ],
)
def test_what_is_a_library(file: str, is_one: bool) -> None:
    assert is_library(file) is is_one
