"""BNG503 with hand-made records."""

import pytest

from keras_bnguard.records import SkipKind
from keras_bnguard.records.report import Severity
from keras_bnguard.rules.bng503_tiny_last_batch import TinyLastBatch
from tests.builders.facts import facts, norm, reached, sampled, skipped, the_violation, violations

RULE = TinyLastBatch


def fed(samples, size=32, per_row=1.0, replicas=1, norms=None, **fit_settings):
    item = reached("bn", values_per_row=per_row)
    return facts(
        *(norms or [norm("bn")]),
        fit_settings={"batch_size": size, "samples": samples, **fit_settings},
        data=sampled(item, full_rows=size, replicas=replicas, ordered=False),
    )


def test_it_fires_on_a_remainder_of_a_few_rows():
    violation = the_violation(RULE, fed(65))
    assert violation.layers == ("bn",)
    assert "has 1 row of 32" in violation.message
    assert "1 values per channel (limit 8)" in violation.message
    assert violation.severity is Severity.WARNING
    assert "drop_remainder=True" in violation.fix


@pytest.mark.parametrize(
    ("samples", "per_row", "severity"),
    [(66, 1.0, "info"), (71, 1.0, "info"), (65, 2.0, "info"), (65, 1.0, "warning")],
)
def test_only_one_value_per_channel_is_a_warning(samples, per_row, severity):
    assert RULE.severity is Severity.WARNING
    assert the_violation(RULE, fed(samples, per_row=per_row)).severity == severity


def test_a_replica_without_rows_is_an_error():
    violation = the_violation(RULE, fed(65, replicas=2))
    assert violation.severity is Severity.ERROR
    assert "shared by 2 replicas: 0 values" in violation.message


@pytest.mark.parametrize("samples", [64, 72, 32, 3])
def test_no_remainder_or_one_that_suffices_is_silent(samples):
    assert not violations(RULE, fed(samples))


def test_large_maps_make_up_for_few_rows():
    assert not violations(RULE, fed(65, per_row=64.0))


def test_a_batch_that_is_too_small_anyway_is_left_to_bng502():
    assert not violations(RULE, fed(5, size=4))


def test_the_end_of_batches_that_were_read_counts_too():
    data = sampled(reached("bn", values_per_row=1.0), last_rows=3)
    violation = the_violation(RULE, facts(norm("bn"), fit_settings={"epochs": 1}, data=data))
    assert "has 3 rows of 32" in violation.message
    dropped = sampled(reached("bn", values_per_row=1.0), last_rows=32)
    assert not violations(RULE, facts(norm("bn"), fit_settings={"epochs": 1}, data=dropped))


def test_frozen_bn_and_renorm_are_silent():
    assert not violations(RULE, fed(65, norms=[norm("bn", trainable=False)]))
    assert not violations(RULE, fed(65, norms=[norm("bn", renorm=True)]))


def test_it_is_skipped_with_a_reason():
    assert skipped(RULE, fed(65, steps_per_epoch=2)) is SkipKind.NOT_KNOWN
    assert not violations(RULE, fed(65, steps_per_epoch=2))
    unknown = facts(norm("bn"), fit_settings={"epochs": 1})
    assert skipped(RULE, unknown) is SkipKind.NOT_KNOWN
    maps = facts(norm("bn"), fit_settings={"batch_size": 32, "samples": 65})
    assert skipped(RULE, maps) is SkipKind.NOT_KNOWN
    assert skipped(RULE, fed(64)) is None
