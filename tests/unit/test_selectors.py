"""Selectors over layer paths: what they pick, and the error when they pick nothing."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_bnguard.errors import BNGuardError, SelectorError
from keras_bnguard.selectors import as_list, path_matches, select


class Conv:
    def __init__(self, trainable=True):
        self.trainable = trainable


class Norm:
    trainable = True


LAYERS = [
    ("stem", Conv()),
    ("backbone", Conv()),
    ("backbone/block1_conv", Conv(False)),
    ("backbone/block1_bn", Norm()),
    ("backbone/block7_bn", Norm()),
    ("head", Conv()),
]

NAMES = st.text("abcbn_1", min_size=1, max_size=6)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@pytest.mark.parametrize(
    ("selector", "picked"),
    [
        ("stem", ("stem",)),
        ("backbone/*", ("backbone/block1_conv", "backbone/block1_bn", "backbone/block7_bn")),
        ("*/block?_bn", ("backbone/block1_bn", "backbone/block7_bn")),
        ("*_bn", ("backbone/block1_bn", "backbone/block7_bn")),
        ("re:block[67]_", ("backbone/block7_bn",)),
        ("re:^head$", ("head",)),
        (Norm, ("backbone/block1_bn", "backbone/block7_bn")),
        (lambda layer: not layer.trainable, ("backbone/block1_conv",)),
        (["head", "stem"], ("stem", "head")),
        (("head", Norm), ("backbone/block1_bn", "backbone/block7_bn", "head")),
    ],
)
def test_a_selector_picks_in_the_order_of_the_model(selector, picked):
    assert select(selector, LAYERS) == picked


def test_the_name_of_a_container_picks_what_is_in_it():
    assert select("backbone", LAYERS) == tuple(path for path, _ in LAYERS[1:5])


def test_the_name_of_the_model_may_stand_in_front():
    assert select("net/backbone/*_bn", LAYERS, model="net") == select("*_bn", LAYERS)
    assert not path_matches("net/head", "head")


def test_a_star_picks_everything_and_case_counts():
    assert select("*", LAYERS) == tuple(path for path, _ in LAYERS)
    assert not path_matches("HEAD", "head")


def test_a_prefix_of_a_name_does_not_pick():
    assert not path_matches("back", "backbone/block1_bn")
    assert not path_matches("backbone/block1", "backbone/block1_bn")


def test_no_match_is_an_error_that_lists_near_misses():
    with pytest.raises(SelectorError, match=r"matches no layer of the 6 in the model") as error:
        select("block7_bm", LAYERS)
    assert "Nearest: backbone/block7_bn" in str(error.value)


def test_no_match_and_nothing_near_lists_the_first_paths():
    with pytest.raises(SelectorError, match="The first are: stem, backbone, backbone/block1_conv"):
        select("zzzzzzzz", LAYERS)
    with pytest.raises(SelectorError, match="The first are: stem"):
        select(int, LAYERS)


def test_every_part_of_a_list_has_to_pick_something():
    with pytest.raises(SelectorError, match="'nothing_like_it'"):
        select(["head", "nothing_like_it"], LAYERS)


def test_a_model_without_any_candidate_is_an_error_of_its_own():
    with pytest.raises(SelectorError, match="matches no BN: the model has none"):
        select("*", [], what="BN")


def test_a_bad_regex_and_a_bad_type_are_named():
    with pytest.raises(SelectorError, match=r"'re:\(' is not a valid regular expression"):
        select("re:(", LAYERS)
    with pytest.raises(SelectorError, match=r"5 is no selector.*got int"):
        select(5, LAYERS)


def test_a_selector_error_is_a_value_error_of_this_package():
    assert issubclass(SelectorError, ValueError)
    assert issubclass(SelectorError, BNGuardError)


def test_as_list_takes_one_or_several():
    assert as_list("a") == ["a"]
    assert as_list(("a", Norm)) == ["a", Norm]
    assert as_list({"a"}) == ["a"]


@given(PATHS)
def test_every_path_picks_itself_and_what_is_below_it(path):
    assert path_matches(path, path)
    assert path_matches(path, f"{path}/inner/bn")
    assert not path_matches(f"{path}/inner", path)


@given(PATHS, st.text("ab*?/", max_size=6))
def test_a_glob_is_fnmatch_on_the_path_or_on_one_around_it(path, pattern):
    parts = path.split("/")
    above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    assert path_matches(pattern, path) == any(fnmatch.fnmatchcase(p, pattern) for p in above)


@given(st.lists(PATHS, min_size=1, max_size=6, unique=True), st.data())
def test_a_union_picks_what_its_parts_pick_in_model_order(paths, data):
    pairs = [(path, None) for path in paths]
    chosen = data.draw(st.lists(st.sampled_from(paths), min_size=1))
    union = select(chosen, pairs)
    parts = {violation for one in chosen for violation in select(one, pairs)}
    assert union == tuple(path for path in paths if path in parts)


@given(st.lists(PATHS, max_size=6), st.text("abcbn_1/*?", max_size=8))
def test_select_gives_layers_or_a_selector_error_and_nothing_else(paths, pattern):
    pairs = [(path, None) for path in paths]
    if any(path_matches(pattern, path) for path in paths):
        assert select(pattern, pairs)
    else:
        with pytest.raises(SelectorError, match=re.escape(repr(pattern))):
            select(pattern, pairs)
