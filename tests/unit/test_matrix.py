"""The matrix of versions: what README promises is in it, and its page keeps the last results."""

from __future__ import annotations

import configparser
import importlib.util
import sys

import pytest

from tests import ROOT


@pytest.fixture(scope="module")
def matrix():
    spec = importlib.util.spec_from_file_location("matrix", ROOT / "tools" / "matrix.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["matrix"] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules["matrix"]


def test_every_promised_version_is_in_it(matrix):
    names = [each.name for each in matrix.combinations()]
    assert len(names) == len(set(names))
    wanted = {f"k2-{v}" for v in ("2.12", "2.13", "2.14", "2.15")} | {"tfk-2.16", "tfk-2.21"}
    versions = ("3.3", "3.6", "3.9", "3.12", "3.14", "3.15", "nightly")
    wanted |= {f"k3-{b}-{v}" for b in ("tf", "jax", "torch") for v in versions}
    assert set(names) == wanted


def test_the_reduced_tests_exist_and_are_shared_with_tox(matrix):
    tests = matrix.reduced_tests()
    assert len(tests) > 10
    assert [name for name in tests if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("stack", ["k2", "k3-tf", "k3-jax"])
def test_the_oldest_of_a_stack_is_the_same_in_tox(matrix, stack):
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini", encoding="utf-8")
    oldest = next(each for each in matrix.combinations() if each.stack == stack)
    frameworks = ("keras", "tensorflow", "jax")
    needs = {need for need in oldest.requirements if need.startswith(frameworks)}
    assert needs <= set(config[f"testenv:oldest-{stack}"]["deps"].split())


def test_a_page_keeps_the_rows_of_combinations_that_did_not_run(matrix):
    first, second, *_ = matrix.combinations()
    good = matrix.Outcome({"python": "3.11.7", "keras": "2.12.0"}, passed=7)
    bad = matrix.Outcome({}, problem="the environment could not be made")
    rows = {first.name: matrix._row(first, good), second.name: matrix._row(second, bad)}
    text = matrix.page(rows)
    assert matrix.rows_of(text) == rows
    assert text.count("not run yet") == len(list(matrix.combinations())) - 2
    assert f"| {first.name} | 3.11.7 | 2.12.0 |  | 7 passed |" in text


@pytest.mark.parametrize(
    ("outcome", "good"),
    [({"passed": 3}, True), ({"passed": 3, "failed": 1}, False), ({}, False)],
)
def test_an_outcome_is_good_where_tests_ran_and_none_failed(matrix, outcome, good):
    assert matrix.Outcome({}, **outcome).good is good
