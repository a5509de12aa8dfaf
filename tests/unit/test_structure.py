"""The package stays easy to find one's way in: sizes of classes, packages and files."""

from __future__ import annotations

import pytest

from tools import structure


def test_no_class_package_or_file_is_larger_than_its_limit():
    assert structure.problems(structure.PACKAGE) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("".join(f"        self.a{i} = 0\n" for i in range(16)), "16 attributes"),
        (
            "        pass\n" + "".join(f"    def m{i}(self): pass\n" for i in range(25)),
            "26 methods",
        ),
        ("        pass\n" * 330, "lines, limit"),
    ],
)
def test_what_is_too_large_is_named(tmp_path, source, problem):
    package = tmp_path / "package"
    package.mkdir()
    (package / "large.py").write_text(f"class Large:\n    def __init__(self):\n{source}")
    (found,) = structure.problems(package)
    assert "large.py" in found
    assert problem in found


def test_too_many_modules_in_one_folder_are_named(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    for number in range(21):
        (package / f"m{number}.py").write_text("")
    (found,) = structure.problems(package)
    assert found.endswith("21 modules, limit 20")


def test_attributes_and_methods_of_bases_count(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "two.py").write_text(
        "class Base:\n    def one(self):\n        self.a = 1\n"
        "class Heir(Base):\n    def two(self):\n        self.b = 2\n"
    )
    heir, base = structure.class_sizes(package)
    assert (heir.name, heir.attributes, heir.methods) == ("two.py:Heir", 2, 2)
    assert (base.attributes, base.methods) == (1, 1)
