"""BNG606 on hand-made facts."""

import pytest

from keras_bnguard.records import SkipKind
from keras_bnguard.rules.bng606_fine_tuning_rate_too_high import FineTuningRateTooHigh as RULE
from tests.builders.facts import (
    adam,
    facts,
    layer,
    norm,
    past,
    run,
    skipped,
    the_violation,
    violations,
)

NORM = norm("base/bn")


def known(now=True, was=False, norms=(NORM,), steps=0, before=None, **settings):
    settings = {"learning_rate": 1e-3, "adaptive": True, "learning_rate_settled": True, **settings}
    flags = [layer("base/conv", 1, trainable=was), layer("head", 2)]
    return facts(
        *norms,
        layers=[layer("base/conv", 1, trainable=now), layer("head", 2)],
        run=run(before=past(*norms, layers=flags, **(before or {})), phase_steps=steps),
        optimizer=adam(**settings),
    )


def test_a_learning_rate_above_a_tenth_of_the_heads():
    violation = the_violation(RULE, known())
    assert violation.layers == ("base/conv",)
    assert "0.001, above 0.0001 (a tenth of the 0.001" in violation.message
    assert violation.evidence["limit"] == pytest.approx(1e-4)


@pytest.mark.parametrize("learning_rate", [1e-4, 1e-4 * (1 + 5e-8), 1e-5])
def test_silent_at_a_tenth_and_below_as_float32_reads_it(learning_rate):
    assert not violations(RULE, known(learning_rate=learning_rate))


def test_silent_where_the_head_was_slow_already():
    assert not violations(RULE, known(learning_rate=5e-5, before={"head_learning_rate": 5e-5}))
    assert violations(RULE, known(learning_rate=2e-3, before={"head_learning_rate": 5e-5}))


def test_learning_rates_of_two_optimizers_are_not_compared():
    other = {"head_optimizer": "RMSprop"}
    assert not violations(RULE, known(before=other))
    assert (
        "the most such an optimizer"
        in the_violation(RULE, known(learning_rate=2e-3, before=other)).message
    )
    assert not violations(RULE, known(learning_rate=0.1, adaptive=False, before=other))


def test_silent_where_nothing_was_unfrozen():
    assert not violations(RULE, known(was=True))
    assert not violations(RULE, known(now=False))


def test_silent_where_no_norm_beside_it_was_pretrained():
    assert not violations(RULE, known(norms=(norm("base/bn", at_default=True),)))
    assert not violations(RULE, known(norms=(norm("elsewhere/bn"),)))


@pytest.mark.parametrize(
    "doubt", [{"learning_rate_settled": False}, {"learning_rate_is_schedule": True}]
)
def test_a_learning_rate_that_may_change_before_the_first_step_is_waited_for(doubt):
    assert not violations(RULE, known(**doubt))
    assert violations(RULE, known(steps=1, **doubt))


def test_silent_where_the_learning_rate_cannot_be_read_or_nothing_came_before():
    assert not violations(RULE, known(learning_rate=None))
    assert not violations(
        RULE, facts(NORM, run=run(), optimizer=adam(learning_rate=1.0, learning_rate_settled=True))
    )


def test_silent_where_the_optimizer_does_not_know_the_layers():
    assert not violations(RULE, known(unknown=("base/conv/kernel",)))


def test_it_is_skipped_where_nothing_came_before():
    assert skipped(RULE, facts(run=run())) is SkipKind.NOT_KNOWN
    assert skipped(RULE, known()) is None
