"""BNG403 with hand-made records."""

from keras_bnguard.rules.bng403_dead_or_negative_variance import DeadOrNegativeVariance
from tests.builders.facts import changed, facts, norm, run, the_violation, violations

RULE = DeadOrNegativeVariance


def test_it_reports_the_variances_and_the_gain_of_a_dead_channel():
    dead = changed("bn", dead_channels=2, min_variance=1e-9, median_variance=0.5)
    violation = the_violation(RULE, facts(norm("bn"), run=run(dead)))
    assert violation.layers == ("bn",)
    assert "0 negative, 2 dead; smallest variance 1e-09, median 0.5, gain 31.6" in violation.message


def test_the_gain_uses_the_layers_own_epsilon():
    dead = changed("bn", dead_channels=1, min_variance=0.0)
    violation = the_violation(RULE, facts(norm("bn", epsilon=1e-4), run=run(dead)))
    assert "gain 100)" in violation.message
    unknown = the_violation(RULE, facts(norm("bn", epsilon=None), run=run(dead)))
    assert "gain 31.6)" in unknown.message


def test_a_variance_below_minus_epsilon_gives_nan():
    negative = changed("bn", negative_channels=1, min_variance=-0.5)
    violation = the_violation(RULE, facts(norm("bn"), run=run(negative)))
    assert "1 negative, 0 dead" in violation.message
    assert "gain NaN" in violation.message


def test_every_layer_is_listed_once():
    dead = [changed(f"bn{i}", dead_channels=1) for i in range(5)]
    violation = the_violation(RULE, facts(*(norm(m.path) for m in dead), run=run(*dead)))
    assert len(violation.layers) == 5
    assert set(violation.evidence) == set(violation.layers)


def test_pruned_and_plainly_empty_channels_are_silent():
    counted_as_pruned = changed("bn", dead_channels=0, negative_channels=0, min_variance=0.0)
    assert not violations(RULE, facts(norm("bn"), run=run(counted_as_pruned)))
