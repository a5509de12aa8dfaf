"""BNG504 with hand-made records."""

import pytest

from keras_bnguard.records import DataPart, SharedNorm, SkipKind
from keras_bnguard.rules.bng504_domain_shift import DomainShift
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

RULE = DomainShift


def known(*items, rows=512, on=None, **settings):
    norms = [norm(item.path, trainable=False) for item in items]
    data = {k: settings.pop(k) for k in ("labels", "missing") if k in settings}
    return facts(*norms, data=sampled(*items, rows=rows, **data), **settings)


def off(path="base/bn2", **settings):
    return reached(path, **{"first": False, "mean_shift": 1.4, **settings})


def test_it_fires_on_frozen_statistics_of_other_data():
    violation = the_violation(RULE, known(reached("base/bn1", mean_shift=0.2), off()))
    assert violation.layers == ("base/bn2",)
    assert "1 of 2 frozen BN layers" in violation.message
    assert "by depth 0.2 / 0.2 / 1.4" in violation.message
    assert "bng.recalibrate" in violation.fix


def test_a_variance_that_is_off_is_enough():
    assert violations(RULE, known(off(mean_shift=0.0, log_variance_ratio=1.2)))


def test_correct_fine_tuning_is_silent():
    assert not violations(RULE, known(off(mean_shift=0.25, log_variance_ratio=0.6)))


def test_one_bn_of_many_is_silent():
    many = [reached(f"base/bn{i}", first=False) for i in range(20)]
    assert not violations(RULE, known(*many, off("base/late")))
    assert violations(RULE, known(*many[:6], off("base/late")))


def test_default_statistics_and_trainable_bn_are_silent():
    data = sampled(off())
    assert not violations(
        RULE, facts(norm("base/bn2", trainable=False, at_default=True), data=data)
    )
    assert not violations(RULE, facts(norm("base/bn2"), data=data))


def test_a_wrong_scale_is_left_to_bng501():
    first = reached("base/bn1", variance_ratio=1e-5, log_variance_ratio=9.0)
    assert not violations(RULE, known(first, off()))


def test_a_discriminator_that_another_model_trains_is_silent():
    def known_to(other, there=True):
        return known(off(), shared=(SharedNorm("base/bn2", other, False, there, False),))

    assert not violations(RULE, known_to("base"))
    assert violations(RULE, known_to("base", there=False))
    assert violations(RULE, known_to("the model that base was cut from"))


def test_few_rows_and_sorted_rows_are_silent():
    few = known(off(), rows=16)
    assert not violations(RULE, few)
    assert skipped(RULE, few) is SkipKind.NOT_ENOUGH_DATA
    by_class = known(off(), labels=labels(within_batch_variance_ratio=0.0, single_class_batches=16))
    assert not violations(RULE, by_class)
    assert skipped(RULE, by_class) is SkipKind.NOT_ENOUGH_DATA


@pytest.mark.parametrize("settings", [{"finite": False}, {"mean_shift": float("nan")}])
def test_non_finite_data_are_silent(settings):
    assert not violations(RULE, known(off(**settings)))


def test_it_is_skipped_with_a_reason():
    known_why = known(missing={DataPart.NORMS: "the model is not built yet"})
    assert skipped(RULE, known_why) is SkipKind.NOT_MEASURED
