"""The doc of a rule has the limits that its code uses."""

from __future__ import annotations

import inspect
import re
import sys

import pytest

from keras_bnguard.rules import ALL_RULES

FRACTIONS = {"half": 0.5, "third": 1 / 3, "quarter": 0.25, "tenth": 0.1}
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
WORDS = {**FRACTIONS, **{word: float(number) for number, word in enumerate(COUNTS)}}


def limits(rule):
    """Name -> value of the limits in the file of a rule, shared ones included."""
    names = vars(sys.modules[rule.__module__]).items()
    return {
        n: v for n, v in names if re.fullmatch("[A-Z][A-Z_]*", n) and isinstance(v, (int, float))
    }


def numbers(text):
    """The numbers of a text, in digits and in words; a percentage is a fraction, too."""
    found = {WORDS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in WORDS}
    for digits, unit in re.findall(r"(?<![\w.])(\d[\d,]*\.?\d*(?:e[-+]?\d+)?)( %)?", text):
        value = float(digits.replace(",", ""))
        found.update({value, value / 100} if unit else {value})
    return found


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.code)
def test_a_limit_in_the_code_of_a_rule_is_in_its_doc(rule):
    documented = numbers(inspect.getdoc(rule))
    for name, value in limits(rule).items():
        assert any(abs(value - number) <= 1e-9 * value for number in documented), (
            f"{name} = {value:g} is not in the doc of {rule.__name__}"
        )


def test_limits_are_found_where_they_are_defined_and_where_they_are_imported():
    by_code = {rule.code: limits(rule) for rule in ALL_RULES}
    assert "MAX_DISTANCE" in by_code["BNG406"]
    assert "MAX_MEAN_SHIFT" in by_code["BNG504"]
    assert sum(map(bool, by_code.values())) > 10


def test_numbers_are_read_from_prose():
    text = "Above 0.6 or 1e-3, in 5 % or two of 1,000 rows, a tenth of them."
    assert {0.6, 1e-3, 0.05, 2.0, 1000.0, 0.1} <= numbers(text)
    assert 0.7 not in numbers(text)
