"""BNG402 with hand-made records."""

from keras_bnguard.rules.bng402_non_finite_statistics import NonFiniteStatistics
from tests.builders.facts import facts, hits, moved, norm, run, stuck, the_hit

RULE = NonFiniteStatistics


def test_it_names_the_vectors_that_are_not_finite():
    sick = moved("bn", nonfinite=("moving_mean", "moving_variance"))
    hit = the_hit(RULE, facts(norm("bn"), norm("bn2"), run=run(sick, moved("bn2"))))
    assert hit.layers == ("bn",)
    assert "bn (moving_mean, moving_variance)" in hit.message
    assert "after 10 steps" in hit.message
    assert "recalibrate" in hit.fix


def test_it_fires_at_train_begin():
    sick = stuck("bn", nonfinite=("moving_variance",))
    hit = the_hit(RULE, facts(norm("bn", trainable=False), run=run(sick, steps=0)))
    assert "after 0 steps" in hit.message


def test_recalibration_is_no_cure_for_gamma_and_beta():
    sick = moved("bn", nonfinite=("gamma",))
    assert "recalibrate" not in the_hit(RULE, facts(norm("bn"), run=run(sick))).fix


def test_finite_vectors_are_silent():
    assert not hits(RULE, facts(norm("bn"), run=run(moved("bn"))))


def test_it_is_silent_without_a_run():
    assert not hits(RULE, facts(norm("bn")))
