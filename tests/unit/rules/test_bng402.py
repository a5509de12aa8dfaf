"""BNG402 with hand-made records."""

from keras_bnguard.rules.bng402_non_finite_statistics import NonFiniteStatistics
from tests.builders.facts import changed, facts, norm, run, stuck, the_violation, violations

RULE = NonFiniteStatistics


def test_it_names_the_vectors_that_are_not_finite():
    invalid = changed("bn", nonfinite=("moving_mean", "moving_variance"))
    violation = the_violation(
        RULE, facts(norm("bn"), norm("bn2"), run=run(invalid, changed("bn2")))
    )
    assert violation.layers == ("bn",)
    assert "bn (moving_mean, moving_variance)" in violation.message
    assert "after 10 steps" in violation.message
    assert "recalibrate" in violation.fix


def test_it_fires_at_the_start_of_training():
    invalid = stuck("bn", nonfinite=("moving_variance",))
    violation = the_violation(RULE, facts(norm("bn", trainable=False), run=run(invalid, steps=0)))
    assert "after 0 steps" in violation.message


def test_recalibration_is_no_cure_for_gamma_and_beta():
    invalid = changed("bn", nonfinite=("gamma",))
    assert "recalibrate" not in the_violation(RULE, facts(norm("bn"), run=run(invalid))).fix


def test_finite_vectors_are_silent():
    assert not violations(RULE, facts(norm("bn"), run=run(changed("bn"))))
