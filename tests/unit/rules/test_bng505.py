"""BNG505 with hand-made records."""

import pytest

from keras_bnguard.records import DataPart, SkipKind
from keras_bnguard.rules.bng505_batches_not_shuffled import BatchesNotShuffled
from tests.builders.facts import (
    facts,
    labels,
    norm,
    reached,
    sampled,
    skipped,
    the_violation,
    violations,
)

RULE = BatchesNotShuffled


def known(*items, norms=None, **data):
    norms = norms or [norm(item.path) for item in items] or [norm("bn")]
    return facts(*norms, data=sampled(*items, **data))


def test_it_fires_where_each_batch_has_one_label():
    violation = the_violation(
        RULE, known(labels=labels(single_class_batches=16, within_batch_variance_ratio=0.0))
    )
    assert violation.layers == ("bn",)
    assert "16 of 16 have one label only (10 in all)" in violation.message
    assert "shuffle=True" in violation.fix


def test_it_fires_on_inputs_that_are_alike_in_a_batch():
    violation = the_violation(
        RULE,
        known(
            reached("a", within_batch_variance_ratio=0.2),
            reached("b", within_batch_variance_ratio=0.9),
        ),
    )
    assert violation.layers == ("a",)
    assert "have 0.2 of their pooled variance" in violation.message


def test_one_label_in_all_batches_is_one_label_per_batch():
    assert violations(
        RULE, known(labels=labels(n_classes=1, one_hot_width=10, within_batch_variance_ratio=1.0))
    )
    assert not violations(RULE, known(labels=labels(n_classes=1, within_batch_variance_ratio=1.0)))


def test_shuffled_rows_are_silent():
    assert not violations(
        RULE, known(reached("bn", within_batch_variance_ratio=0.97), labels=labels())
    )


def test_small_batches_vary_less_inside_and_are_silent():
    data = {"full_rows": 4, "labels": labels(within_batch_variance_ratio=0.74)}
    assert not violations(RULE, known(reached("bn", within_batch_variance_ratio=0.72), **data))


def test_rare_classes_are_silent_though_most_batches_have_one_label():
    assert not violations(
        RULE,
        known(
            labels=labels(n_classes=2, single_class_batches=12, within_batch_variance_ratio=0.95)
        ),
    )


def test_frozen_bn_are_silent():
    frozen = [norm("bn", trainable=False)]
    assert not violations(RULE, known(norms=frozen, labels=labels(within_batch_variance_ratio=0.0)))


@pytest.mark.parametrize("data", [{"ordered": False}, {"batches": 7}, {"full_rows": 3}])
def test_too_little_data_is_silent(data):
    found = known(**data, labels=labels(within_batch_variance_ratio=0.0))
    assert not violations(RULE, found)
    assert skipped(RULE, found)


def test_it_is_skipped_with_a_reason():
    assert skipped(RULE, known(ordered=False)) is SkipKind.NOT_MEASURED
    missing = known(missing={DataPart.NORMS: "the model is not built yet"})
    assert skipped(RULE, missing) is SkipKind.NOT_MEASURED


def test_it_is_skipped_where_a_recurrent_layer_needs_the_batches_in_order():
    sorted_labels = {"labels": labels(single_class_batches=16, within_batch_variance_ratio=0.0)}
    stateful = facts(norm("bn"), stateful=("lstm",), data=sampled(**sorted_labels))
    assert skipped(RULE, stateful) is SkipKind.NOT_MEASURED
    assert skipped(RULE, known(**sorted_labels)) is None
