"""docs/glossary.md is followed: in prose, and in the names that the code defines."""

from __future__ import annotations

import re

import pytest

from tests import ROOT
from tools.check_glossary import CHECKED, in_name, in_prose, offences

PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in row.strip("|").split("|"))
    for row in re.findall(r"^\|.*\|$", PAGE, flags=re.M)[2:]
]
REPLACED = [word.strip() for old, _ in ROWS for word in old.split(";")]


def parts():
    """Every file and folder of the first level in what is checked."""
    for name in CHECKED:
        children = (ROOT / name).iterdir() if (ROOT / name).is_dir() else [ROOT / name]
        for child in sorted(children):
            if child.name != "__pycache__":
                yield child.relative_to(ROOT).as_posix()


def found(phrase):
    """Whether a phrase of the page, or a name in backticks, is an offence."""
    name = re.fullmatch(r"`(\w+)`", phrase)
    return bool(in_name(name.group(1)) if name else in_prose(phrase))


@pytest.mark.parametrize("phrase", REPLACED)
def test_a_word_that_the_page_replaces_is_found(phrase):
    assert found(phrase)


@pytest.mark.parametrize("instead", [new for _, new in ROWS])
def test_the_word_that_the_page_recommends_is_allowed(instead):
    assert in_prose(instead) == []
    assert [each for name in re.findall(r"`(\w+)`", instead) for each in in_name(name)] == []


@pytest.mark.parametrize(
    "sentence",
    [
        "Accuracy on held-out digits.",
        "The name is looked up in a table; look-ups are cheap.",
        "The learning rate over two lines: learning\n    rate.",
        "A user says which layers train.",
        "The file is moved to another folder.",
        "The layer moves to the device.",
        "A gradient penalty is part of the loss.",
        "BN layers are still frozen.",
        "Settings live in one file.",
        "Rules are evaluated at the start of training.",
        "Keras calls on_train_begin once.",
    ],
)
def test_plain_english_is_no_offence(sentence):
    assert in_prose(sentence) == []


@pytest.mark.parametrize(
    "name", ["held_out", "learning_rate", "look_up", "on_train_begin", "scale"]
)
def test_true_names_are_no_offence(name):
    assert in_name(name) == []


@pytest.mark.parametrize("name", ["_held", "lookAgain", "rate_now", "OwnLoop", "LIVE", "engine"])
def test_a_name_is_split_into_words(name):
    assert in_name(name)


def test_a_phrase_over_the_end_of_a_comment_line_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.check_glossary.ROOT", tmp_path)
    file = tmp_path / "module.py"
    file.write_text(
        "# BN layers that stand\n"
        "# still in training.\n"
        "held = 1\n"
        "print(f'{held} of {held:.2f} layers', other.look(held=True))\n"
        "def rate(engine): 'It says so.'\n"
    )
    places = [(offence.line, offence.found) for offence in offences([file])]
    assert places == [(1, "stand still"), (3, "held"), (5, "engine"), (5, "rate"), (5, "says")]


def test_a_list_of_renames_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.check_glossary.ROOT", tmp_path)
    file = tmp_path / "page.md"
    file.write_text("<!-- old names -->\n`engine`\n<!-- end of old names -->\nan engine\n")
    assert [offence.line for offence in offences([file])] == [4]


@pytest.mark.parametrize("part", sorted(parts()))
def test_a_part_of_the_repository_follows_the_glossary(part):
    assert "\n".join(map(str, offences([ROOT / part]))) == ""
