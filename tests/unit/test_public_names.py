"""The places that list the public names agree, and each name is importable."""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest

import keras_bnguard as bng
from tests import ROOT

pytestmark = pytest.mark.with_frameworks

SOURCE = ast.parse((ROOT / "keras_bnguard" / "__init__.py").read_text(encoding="utf-8"))
TABLE = {name: f"keras_bnguard.{module}" for name, module in bng._MODULES.items()}


def imports_for_type_checkers():
    """Public name -> module, of the imports below `if TYPE_CHECKING:`."""
    (block,) = (
        node
        for node in SOURCE.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }


def test_type_checkers_see_the_same_names_from_the_same_modules():
    assert imports_for_type_checkers() == TABLE


def test_all_lists_every_name_and_the_version():
    assert sorted(bng.__all__) == sorted([*TABLE, "__version__"])


def test_dir_lists_what_all_lists():
    assert dir(bng) == sorted(bng.__all__)


@pytest.mark.parametrize("name", sorted(set(TABLE) - {"GuardedModel"}))
def test_a_name_is_the_object_of_its_module(name):
    module = importlib.import_module(TABLE[name])
    assert getattr(bng, name) is getattr(module, name)


@pytest.mark.parametrize("name", sorted(set(TABLE) - {"GuardedModel"}))
def test_everything_public_has_a_docstring(name):
    assert inspect.getdoc(getattr(bng, name))


@pytest.mark.parametrize("name", ["BNGard", "unguard", "records_"])
def test_another_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=name):
        getattr(bng, name)
