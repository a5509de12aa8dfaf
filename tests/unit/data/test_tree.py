"""Nested structures of arrays: leaves, rows, joining."""

from __future__ import annotations

import numpy as np

from keras_bnguard.data import tree

NESTED = {"a": np.arange(4), "b": [np.arange(4) * 10, None, (np.arange(4) * 100,)]}


def test_leaves_come_in_order_without_none():
    assert [leaf[1] for leaf in tree.leaves(NESTED)] == [1, 10, 100]
    assert tree.leaves(None) == []


def test_the_first_leaf_of_an_empty_structure_is_none():
    assert tree.first_leaf(NESTED) is NESTED["a"]
    assert tree.first_leaf({"a": []}) is None


def test_rows_are_taken_from_every_leaf_in_the_order_wanted():
    few = tree.take(NESTED, np.array([3, 0]))
    assert few["a"].tolist() == [3, 0]
    assert few["b"][1] is None
    assert few["b"][2][0].tolist() == [300, 0]


def test_joining_the_parts_gives_the_whole_back():
    whole = tree.join([tree.take(NESTED, slice(0, 1)), tree.take(NESTED, slice(1, 4))])
    for one, other in zip(tree.leaves(whole), tree.leaves(NESTED)):
        np.testing.assert_array_equal(one, other)
    assert tree.join([None, None]) is None


def test_a_tuple_comes_back_as_a_list():
    assert tree.map_leaves(lambda leaf: leaf + 1, (1, (2, None))) == [2, [3, None]]
