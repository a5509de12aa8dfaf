"""The settings are one list: in the files, on the command lines, in the signatures."""

from __future__ import annotations

import argparse
import inspect

import pytest

import keras_bnguard as bng
from keras_bnguard.auto import pytest_plugin
from keras_bnguard.auto.failing import SEVERITIES, failing
from keras_bnguard.auto.options import add_options, option_name, project_settings, usage
from keras_bnguard.cli import run
from keras_bnguard.errors import SettingError
from keras_bnguard.records import Finding
from keras_bnguard.report.formats import ENDINGS
from keras_bnguard.settings import FAIL_ON, SETTINGS, Settings

ONLY_FOR_RUNS = {"fail_on"}
"""Settings of a whole process: a callback cannot fail one."""
ONLY_IN_CODE = {"on_finding"}
"""A command line prints the findings itself."""


def parameters(function):
    return inspect.signature(function).parameters


def test_the_fields_of_settings_are_the_settings():
    assert Settings._fields == tuple(SETTINGS)


def test_enable_warnings_takes_each_setting_and_none_means_not_given():
    taken = parameters(bng.enable_warnings)
    assert set(taken) == set(SETTINGS) - ONLY_FOR_RUNS
    assert all(parameter.default is None for parameter in taken.values())


def test_the_guard_takes_each_setting_with_the_same_default():
    taken = parameters(bng.BNGuard.__init__)
    for key in set(SETTINGS) - ONLY_FOR_RUNS - {"on_finding"}:
        assert taken[key].default == Settings._field_defaults[key]
    # The default of the guard; a project that sets nothing gets the same from the run log.
    assert taken["on_finding"].default == "warn"


def test_bnguard_run_has_an_option_for_each_setting():
    assert set(run.KEYS) == set(SETTINGS) - ONLY_IN_CODE


def test_pytest_has_an_option_for_each_setting_that_leaves_the_tests_alone():
    # `fix` and `every` would change what the tests of a project do.
    assert set(pytest_plugin.KEYS) == set(SETTINGS) - ONLY_IN_CODE - {"fix", "every"}


def test_an_option_is_added_with_its_name_and_none_where_it_is_not_passed():
    parser = argparse.ArgumentParser()
    add_options(parser.add_argument, "--bn-", ("fail_on", "fix"))
    assert vars(parser.parse_args([])) == {"bn_fail_on": None, "bn_fix": None}
    passed = parser.parse_args(["--bn-fail-on", "error", "--bn-fix"])
    assert (passed.bn_fail_on, passed.bn_fix) == ("error", True)


def test_the_help_of_the_report_lists_the_endings_of_the_registry():
    parser = argparse.ArgumentParser()
    add_options(parser.add_argument, "--", ("report",))
    assert all(ending in parser.format_help() for ending in ENDINGS)


def test_a_usage_line_shows_what_takes_a_value():
    assert usage("--", ("fail_on", "fix")) == "[--fail-on SEVERITY] [--fix]"
    assert option_name("--bnguard-", "fail_on") == "--bnguard-fail-on"


def test_a_report_that_no_format_can_write_is_refused_with_the_place(tmp_path):
    with pytest.raises(SettingError, match=r"^arguments: report='a\.doc'"):
        project_settings({"report": "a.doc"}, str(tmp_path))


def finding(severity, repaired=None):
    return Finding("BNG101", "n", severity, (), "m", "f", repaired=repaired)


def test_a_run_fails_on_warnings_and_errors_of_that_severity_or_worse():
    found = [finding(s) for s in ("info", "warning", "error")] + [finding("error", "recompiled")]
    assert [len(failing(found, fail_on)) for fail_on in (None, "error", "warning")] == [0, 1, 2]
    assert set(SEVERITIES) == {None, *FAIL_ON}
