"""Regular expressions in bounded time: they match what Python's match, and never hang."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_bnguard.errors import SelectorError
from keras_bnguard.patterns import MAX_LENGTH, Pattern
from keras_bnguard.selectors import check_selector, path_matches

ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "A",
        ".",
        "[ab]",
        "[^a]",
        r"\d",
        r"\w",
        r"\S",
        "_",
        "/",
        "^",
        "$",
        r"\b",
        r"\B",
        r"\Z",
    ]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*?", "+?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
        inner.map(lambda one: f"(?={one})"),
        inner.map(lambda one: f"(?!{one})"),
        inner.map(lambda one: f"(?i:{one})"),
    ),
    max_leaves=8,
)
TEXTS = st.text("abAB1_/ \n", max_size=12)


@settings(max_examples=600, deadline=None)
@given(PATTERNS, TEXTS)
def test_it_finds_what_python_finds(pattern, text):
    assert Pattern(pattern).found_in(text) is bool(re.search(pattern, text))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"block[67]_.*", "base/block7_bn"),
        (r"^(?!head).*bn$", "base/bn"),
        (r"^(?!head).*bn$", "head_bn"),
        (r"(?<=block)\d+", "block12"),
        (r"(?<!block)\d+", "block1"),
        (r"(?i)BLOCK", "block"),
        (r"(?x) a  b # words", "ab"),
        (r"(?s)a.b", "a\nb"),
        (r"(?m)^b", "a\nb"),
        (r"(?P<name>a)b", "ab"),
        (r"[^\W\d]+", "ab"),
        (r"", ""),
        (r"(?i)[a-f]", "E"),
        (r"(?i)[^a]", "A"),
        (r"(a?){3}b", "b"),
        (r"(?:ab){2,}", "ababab"),
        (r"\Aab\Z", "ab\n"),
    ],
)
def test_examples(pattern, text):
    assert Pattern(pattern).found_in(text) is bool(re.search(pattern, text))


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*$",
        "(a|aa)+$",
        "(a*)*b",
        "a?" * 30 + "a" * 30 + "b",
        "(.*)*" * 20 + "=",
        "((a{0,100}){0,100}){0,100}b",
        ("(a" * 60) + (")*" * 60) + "$",
        "(?=(a+)+b)" * 20,
        "(a{1000}){1000}",
        "(a{0,65000}){0,65000}b",
        "((((a?){300}){300}){300}){300}b",
    ],
)
def test_no_pattern_takes_long(pattern):
    """Each either ends or is refused, on a path that is longer than most."""
    start = time.process_time()
    with contextlib.suppress(SelectorError):
        path_matches(f"re:{pattern}", "a" * 200 + "!")
    assert time.process_time() - start < 5


@pytest.mark.parametrize("pattern", [r"(a)\1", r"(a)?(?(1)b|c)", r"(?a)\w"])
def test_what_is_not_supported_is_an_error_at_once(pattern):
    with pytest.raises(SelectorError, match="not supported"):
        check_selector(f"re:{pattern}")


def test_a_long_pattern_is_an_error():
    with pytest.raises(SelectorError, match="1,001 characters"):
        check_selector("re:" + "a" * (MAX_LENGTH + 1))


@pytest.mark.parametrize("depth", [150, 490])
def test_a_deep_pattern_is_an_error(depth):
    with pytest.raises(SelectorError):
        check_selector("re:" + "(" * depth + "a" + ")" * depth)
