"""Where a graph may be cut, on graphs written by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_bnguard.model.blocks.graph_cuts import cut
from keras_bnguard.model.blocks.names import Names, common_prefix, is_automatic


def test_a_chain_is_cut_everywhere():
    assert cut([[], [0], [1], [2]], [0, 1, 1, 1]) == [[0], [1], [2], [3]]


def test_a_shortcut_keeps_what_it_spans_together():
    # 0 -> 1 -> 2 -> 3 -> add(1, 3) -> 5
    assert cut([[], [0], [1], [2], [1, 3], [4]], [0, 1, 1, 1, 0, 1]) == [
        [0],
        [1],
        [2, 3, 4],
        [5],
    ]


def test_a_shortcut_from_the_input_counts():
    assert cut([[], [0], [1], [0, 2]], [0, 1, 1, 0]) == [[0], [1, 2, 3]]


def test_an_output_on_the_side_does_not_keep_the_trunk_together():
    # 0 -> 1 -> 2 -> 3, and 4 taps 1
    assert cut([[], [0], [1], [2], [1]], [0, 1, 1, 1, 1]) == [[0], [1], [2], [3], [4]]


def test_a_second_input_comes_before_the_piece_it_enters():
    # trunk 0 -> 1 -> 2 -> merge(2, 4), tower 3 -> 4
    assert cut([[], [0], [1], [], [3], [2, 4]], [0, 1, 1, 0, 1, 0]) == [
        [0],
        [1],
        [2],
        [3],
        [4],
        [5],
    ]


def u_net(depth, convs):
    """Parents and weights of a U: `convs` layers a level, a skip per level."""
    parents, weights, skips = [[]], [0], []

    def step(*of, weight=1):
        parents.append(list(of))
        weights.append(weight)
        return len(parents) - 1

    x = 0
    for _ in range(depth):
        for _ in range(convs):
            x = step(x)
        skips.append(x)
        x = step(x, weight=0)
    for _ in range(convs):
        x = step(x)
    for skip in reversed(skips):
        x = step(step(x), skip, weight=0)
        for _ in range(convs):
            x = step(x)
    return parents, weights


def test_a_u_net_is_cut_as_if_its_long_skips_were_not_there():
    parents, weights = u_net(4, 4)
    pieces = cut(parents, weights)
    sizes = [sum(weights[n] for n in piece) for piece in pieces]
    assert max(sizes) < 0.3 * sum(weights)
    assert sum(1 for size in sizes if size) > 15


def test_cells_that_pass_on_two_tensors_are_cut_between_cells():
    parents, weights, cells = [[], [0]], [0, 1], []
    before, last = 0, 1
    for _ in range(6):
        start = len(parents)
        parents += [[before], [last], [start, start + 1], [start, start + 1], [last]]
        weights += [1, 1, 2, 2, 1]
        parents.append([start + 2, start + 3, start + 4])
        weights.append(0)
        before, last = last, len(parents) - 1
        cells.append(list(range(start, last + 1)))
    pieces = cut(parents, weights)
    assert [p for p in pieces if p != [0] and p != [1]][-5:] == cells[-5:]


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 30))
    parents = [
        sorted(draw(st.sets(st.integers(0, n - 1), min_size=0 if n < 3 else 1, max_size=3)))
        if n
        else []
        for n in range(count)
    ]
    return parents, draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))


@given(graphs())
def test_every_node_is_in_one_piece(graph):
    parents, weights = graph
    pieces = cut(parents, weights)
    assert sorted(n for piece in pieces for n in piece) == list(range(len(parents)))


@given(graphs())
def test_pieces_are_in_an_order_in_which_they_can_run(graph):
    parents, weights = graph
    place = {n: i for i, piece in enumerate(cut(parents, weights)) for n in piece}
    assert all(place[p] <= place[n] for n, found in enumerate(parents) for p in found)


# ----------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("name", "kind", "automatic"),
    [
        ("conv2d", "Conv2D", True),
        ("conv2d_7", "Conv2D", True),
        ("batch_normalization_12", "BatchNormalization", True),
        ("depthwise_conv2d_1", "DepthwiseConv2D", True),
        ("conv2d_stem", "Conv2D", False),
        ("dense", "Conv2D", False),
    ],
)
def test_names_that_keras_made_are_recognised(name, kind, automatic):
    assert is_automatic(name, kind) == automatic


@pytest.mark.parametrize(
    ("layers", "key"),
    [
        (["block2a_expand_conv", "block2a_bn"], ("block2a",)),
        (["conv2_block1_1_conv", "conv2_block1_2_conv"], ("conv2", "block1")),
        (["block_1_expand", "block_1_project"], ("block", "1")),
        (["conv_1"], ()),
        (["sep_3x3_a", "sep_3x3_b"], ()),
    ],
)
def test_the_block_is_what_comes_before_the_last_number(layers, key):
    pairs = [(name, "Conv2D") for name in layers]
    assert Names([*pairs, ("other_1", "Dense"), ("stem", "Dense")]).number_key(pairs) == key


def test_a_prefix_of_the_whole_model_is_no_block():
    names = [f"net_v2_stage{i}_{part}" for i in range(4) for part in ("conv", "bn")]
    names += ["net_v2_stem", "net_v2_top"]
    known = Names([(name, "Layer") for name in names])
    assert known.number_key([("net_v2_stem", "L"), ("net_v2_top", "L")]) == ()
    assert known.word_key([("net_v2_stem", "L"), ("net_v2_top", "L")]) == ()
    assert known.number_key([("net_v2_stage1_conv", "L")]) == ("net", "v2", "stage1")


def test_common_prefix_of_nothing_is_empty():
    assert common_prefix([]) == ()
    assert common_prefix([("a", "b"), ("a",)]) == ("a",)
