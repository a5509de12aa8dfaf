"""Settings: four places, one meaning, the nearest first."""

from __future__ import annotations

import sys

import pytest

from keras_bnguard.errors import MissingExtraError, SettingError
from keras_bnguard.settings import Settings, parse_line, read_settings

TOML = sys.version_info >= (3, 11)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    return tmp_path


def read(folder, arguments=None, line=""):
    return read_settings(arguments, str(folder), {"BNGUARD": line} if line else {})


def test_without_settings_the_defaults_apply(project):
    assert read(project) == Settings()


def test_the_line_has_keys_parted_by_semicolon_or_comma():
    expected = {"select": "BNG2", "ignore": "BNG404", "fail_on": "error"}
    assert parse_line("select=BNG2,ignore=BNG404;fail_on=error") == expected
    assert parse_line("select=BNG2,BNG404 ; every=5") == {"select": "BNG2,BNG404", "every": "5"}
    assert parse_line("") == {}


def test_a_line_without_a_key_is_an_error():
    with pytest.raises(SettingError, match="expected key=value before 'fix'"):
        parse_line("fix")


def test_every_value_becomes_what_the_guard_takes(project):
    line = (
        "select=BNG2,BNG404;ignore=BNG404:siamese/*,BNG404:head,BNG406;every=5;fix=yes;"
        "fail_on=warning;report=a.json;on_finding=log"
    )
    assert read(project, line=line) == Settings(
        select=("BNG2", "BNG404"),
        ignore={"BNG404": ("siamese/*", "head"), "BNG406": ()},
        every=5,
        fix=True,
        fail_on="warning",
        report="a.json",
        on_finding="log",
    )


def test_setup_cfg_of_the_nearest_folder_upwards_counts(project):
    (project / "setup.cfg").write_text("[bnguard]\nselect = BNG1\nignore =\n  BNG404:a/*\n  BNG2\n")
    found = read(project / "deep" / "er")
    assert found.select == ("BNG1",)
    assert found.ignore == {"BNG404": ("a/*",), "BNG2": ()}
    (project / "deep" / "setup.cfg").write_text("[metadata]\nname = other\n[bnguard]\nevery=3\n")
    assert read(project / "deep" / "er") == Settings(every=3)
    (project / "deep" / "er" / "setup.cfg").write_text("[metadata]\nname = x\n")
    assert read(project / "deep" / "er") == Settings(every=3)


@pytest.mark.skipif(not TOML, reason="Python below 3.11 has no tomllib")
def test_places_come_in_order_and_key_by_key(project):
    (project / "setup.cfg").write_text("[bnguard]\nselect=BNG1\nevery=2\nfix=on\nfail_on=error\n")
    (project / "pyproject.toml").write_text(
        '[tool.bnguard]\nselect = ["BNG2"]\nevery = 3\nfix = false\n'
        '[tool.bnguard.ignore]\nBNG404 = ["siamese/*"]\n'
    )
    found = read(project, {"select": "BNG4", "fix": None}, "select=BNG1;every=7")
    assert found == Settings(
        select=("BNG4",), ignore={"BNG404": ("siamese/*",)}, every=7, fix=False, fail_on="error"
    )


def test_pyproject_without_our_table_needs_no_toml_reader(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", None)
    (project / "pyproject.toml").write_text('[build-system]\nrequires = ["setuptools"]\n')
    assert read(project) == Settings()


def test_pyproject_without_a_toml_reader_names_what_to_install(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", None)
    (project / "pyproject.toml").write_text("[tool.bnguard]\nfix = true\n")
    with pytest.raises(MissingExtraError, match="pip install tomli"):
        read(project)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("ignroe", "BNG2", "Did you mean ignore"),
        ("select", "BNG9", "'BNG9' is no rule code"),
        ("ignore", 3, "expected a text or a list"),
        ("every", "0", "positive number"),
        ("fix", "maybe", "true or false"),
        ("fail_on", "info", "'error' or 'warning'"),
        ("on_finding", "shout", "'warn', 'raise', 'log'"),
    ],
)
def test_a_wrong_setting_names_the_place_and_what_is_expected(project, key, value, expected):
    with pytest.raises(SettingError, match="arguments") as caught:
        read(project, {key: value})
    assert expected in str(caught.value)


def refuse_docs(path):
    if path.endswith(".doc"):
        raise MissingExtraError(f"report={path!r}: not a document")


def test_a_check_from_above_judges_each_value_and_the_error_names_the_place(project):
    checks = {"report": refuse_docs}
    assert read_settings({"report": "a.txt"}, str(project), {}, checks).report == "a.txt"
    with pytest.raises(MissingExtraError, match=r"^BNGUARD: report='a\.doc'"):
        read_settings({"report": "a.txt"}, str(project), {"BNGUARD": "report=a.doc"}, checks)


def test_the_codes_known_by_file_are_those_of_the_rules():
    from keras_bnguard.rules import ALL_RULES

    for rule in ALL_RULES:
        assert read_settings({"select": rule.code}, "/", {}).select == (rule.code,)
