"""What pip installs is what setup.cfg and the code promise."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import re
from pathlib import Path

import pytest

import keras_bnguard
from tests import ROOT

EXTRAS = {
    "tensorflow",
    "tf-keras",
    "keras2",
    "addons",
    "jax",
    "torch",
    "report",
    "tensorboard",
    "yaml",
    "docs",
    "demo",
    "test",
}


@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def distribution() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution("keras_bnguard")
    except importlib.metadata.PackageNotFoundError:
        if "TOX_ENV_NAME" in os.environ:
            raise
        pytest.skip("keras_bnguard is not installed here; in tox it always is")


@pytest.fixture(scope="module")
def metadata(distribution):
    return distribution.metadata


def test_the_version_is_that_of_the_module(metadata):
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", keras_bnguard.__version__)
    assert metadata["Version"] == keras_bnguard.__version__


def test_the_version_is_written_once():
    places = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "setup.cfg", ROOT / "pyproject.toml", ROOT / "CITATION.cff")
        if keras_bnguard.__version__ in path.read_text(encoding="utf-8")
    ]
    assert places == []


def test_the_extras_are_those_the_errors_name(config, metadata):
    assert set(config["options.extras_require"]) == EXTRAS
    if "TOX_ENV_NAME" in os.environ:  # Elsewhere what is installed may be older than setup.cfg.
        assert {name.replace("_", "-") for name in metadata.get_all("Provides-Extra")} == EXTRAS


def test_every_extra_in_a_message_exists():
    named = set()
    for path in (ROOT / "keras_bnguard").rglob("*.py"):
        for group in re.findall(r"keras_bnguard\[([\w,\- ]+)\]", path.read_text(encoding="utf-8")):
            named |= {extra.strip() for extra in group.split(",")}
    assert named <= EXTRAS


def test_numpy_is_all_that_is_always_needed(metadata):
    always = [need for need in metadata.get_all("Requires-Dist") if "extra ==" not in need]
    assert [re.match(r"\w+", need).group() for need in always] == ["numpy"]


def test_the_console_script_resolves(distribution):
    (script,) = [point for point in distribution.entry_points if point.group == "console_scripts"]
    assert script.name == "bnguard"
    assert callable(script.load())


def test_the_types_are_advertised():
    assert (Path(keras_bnguard.__file__).parent / "py.typed").is_file()


def test_no_public_name_is_also_a_module():
    """Importing `keras_bnguard.x` puts the module in the place of the public name `x`."""
    import keras_bnguard

    package = ROOT / "keras_bnguard"
    modules = {path.stem for path in package.glob("*.py")} | {p.name for p in package.iterdir()}
    assert not modules & set(keras_bnguard.__all__)
