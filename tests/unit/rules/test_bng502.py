"""BNG502 with hand-made records."""

import pytest

from keras_bnguard.records import NormKind, SkipKind
from keras_bnguard.records.report import Severity
from keras_bnguard.rules.bng502_batch_too_small import BatchTooSmall
from tests.builders.facts import (
    changed,
    facts,
    norm,
    reached,
    run,
    sampled,
    site,
    skipped,
    the_violation,
    violations,
)

RULE = BatchTooSmall


def fed(rows, per_row=1.0, norms=None, **settings):
    fit_settings = {"batch_size": rows, **settings}
    item = reached("bn", values=rows * per_row, values_per_row=per_row)
    return facts(
        *(norms or [norm("bn")]), fit_settings=fit_settings, data=sampled(item, full_rows=rows)
    )


def test_it_fires_below_eight_values_per_channel():
    violation = the_violation(RULE, fed(4))
    assert violation.layers == ("bn",)
    assert "4 values per channel in a batch (limit 8)" in violation.message
    assert violation.severity is Severity.WARNING


def test_one_value_is_an_error():
    violation = the_violation(RULE, fed(1))
    assert violation.severity is Severity.ERROR
    assert "beta whatever comes in" in violation.message


def test_large_maps_make_up_for_few_rows():
    assert not violations(RULE, fed(1, per_row=49.0))


def test_eight_values_are_silent():
    assert not violations(RULE, fed(8))


def test_replicas_share_a_batch():
    item = reached("bn", values_per_row=1.0)
    known = facts(
        norm("bn"), fit_settings={"batch_size": 16}, data=sampled(item, full_rows=16, replicas=4)
    )
    assert "4 values" in the_violation(RULE, known).message
    together = facts(
        norm("bn", synchronized=True),
        fit_settings={"batch_size": 16},
        data=sampled(item, full_rows=16, replicas=4),
    )
    assert not violations(RULE, together)


def test_it_sees_without_data_what_the_first_step_showed():
    calls = {"bn": (site(True, values_per_channel=2, values_per_row=1),)}
    known = facts(norm("bn"), run=run(changed("bn"), calls=calls))
    assert "2 values" in the_violation(RULE, known).message
    rows = {"bn": (site(True, values_per_row=1),)}
    known = facts(norm("bn"), run=run(changed("bn"), calls=rows), fit_settings={"batch_size": 4})
    assert "4 values" in the_violation(RULE, known).message


@pytest.mark.parametrize(
    "settings",
    [
        {"trainable": False},
        {"forced_inference": True},
        {"renorm": True},
        {"kind": NormKind.VARIABLES},
    ],
)
def test_bn_that_do_not_mind_are_silent(settings):
    assert not violations(RULE, fed(2, norms=[norm("bn", **settings)]))


def test_arrays_of_an_audit_do_not_define_a_batch():
    item = reached("bn", values=4.0, values_per_row=1.0)
    data = sampled(item, full_rows=4, ordered=False)
    assert not violations(RULE, facts(norm("bn"), data=data))


def test_it_is_skipped_where_the_batch_is_unknown():
    assert skipped(RULE, facts(norm("bn"))) is SkipKind.NOT_KNOWN
    assert skipped(RULE, fed(4)) is None
    assert skipped(RULE, facts(norm("bn", trainable=False))) is None
