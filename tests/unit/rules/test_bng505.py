"""BNG505 with hand-made records."""

import pytest

from keras_bnguard.records import Facts
from keras_bnguard.rules.bng505_batches_not_shuffled import BatchesNotShuffled
from tests.builders.facts import facts, hits, labels, norm, peeked, reached, the_hit

RULE = BatchesNotShuffled


def known(*items, norms=None, **data):
    norms = norms or [norm(item.path) for item in items] or [norm("bn")]
    return facts(*norms, batches=peeked(*items, **data))


def test_it_fires_where_each_batch_has_one_label():
    hit = the_hit(RULE, known(labels=labels(single=16, within=0.0)))
    assert hit.layers == ("bn",)
    assert "16 of 16 have one label only (10 in all)" in hit.message
    assert "shuffle=True" in hit.fix


def test_it_fires_on_inputs_that_are_alike_in_a_batch():
    hit = the_hit(RULE, known(reached("a", within=0.2), reached("b", within=0.9)))
    assert hit.layers == ("a",)
    assert "have 0.2 of their pooled variance" in hit.message


def test_one_label_in_all_batches_is_one_label_per_batch():
    assert hits(RULE, known(labels=labels(kinds=1, classes=10, within=1.0)))
    assert not hits(RULE, known(labels=labels(kinds=1, within=1.0)))


def test_shuffled_rows_are_silent():
    assert not hits(RULE, known(reached("bn", within=0.97), labels=labels()))


def test_small_batches_vary_less_inside_and_are_silent():
    data = {"full_rows": 4, "labels": labels(within=0.74)}
    assert not hits(RULE, known(reached("bn", within=0.72), **data))


def test_rare_classes_are_silent_though_most_batches_have_one_label():
    assert not hits(RULE, known(labels=labels(kinds=2, single=12, within=0.95)))


def test_frozen_bn_do_not_mind():
    frozen = [norm("bn", trainable=False)]
    assert not hits(RULE, known(norms=frozen, labels=labels(within=0.0)))


@pytest.mark.parametrize("data", [{"ordered": False}, {"batches": 7}, {"full_rows": 3}])
def test_too_little_to_say_is_silent(data):
    found = known(**data, labels=labels(within=0.0))
    assert not hits(RULE, found)
    assert RULE().cannot_look(found)


def test_it_says_why_it_cannot_look():
    assert "fit shuffles arrays" in RULE().cannot_look(known(ordered=False))
    missing = known(missing={"norms": "the model is not built yet"})
    assert RULE().cannot_look(missing) == "needs P: the model is not built yet"
    assert RULE().cannot_look(Facts()) is None
