"""BNG406 with hand-made records."""

import numpy as np

from keras_bnguard.records import Facts
from keras_bnguard.rules.bng406_statistics_drifted import StatisticsDrifted
from keras_bnguard.statistics.drift import bhattacharyya
from tests.builders.facts import facts, hits, moved, norm, run, stuck, the_hit

RULE = StatisticsDrifted


def drifted(path="backbone/bn", **settings):
    return moved(path, **{"distance": 0.3, "mean_shift": 1.5, **settings})


def known(*movements, **settings):
    norms = [norm(movement.path) for movement in movements]
    return facts(*norms, run=run(*movements, **settings))


def test_it_fires_on_a_large_distance_and_names_the_largest_first():
    small = drifted("backbone/bn2", distance=0.2, log_variance_ratio=2.5)
    hit = the_hit(RULE, known(small, drifted(), drifted("ok", distance=0.03)))
    assert hit.layers == ("backbone/bn", "backbone/bn2")
    assert "Largest distance 0.3 (limit 0.1)" in hit.message
    assert "mean shift up to 1.5 standard deviations" in hit.message
    assert "log variance ratio up to 2.5" in hit.message
    assert "after 10 steps" in hit.message


def test_the_threshold_itself_is_silent():
    assert not hits(RULE, known(drifted(distance=0.1)))


def test_correct_fine_tuning_is_silent():
    """A shift of 0.25 standard deviations with 0.6 in log variance."""
    apart = bhattacharyya(*(np.array([v]) for v in (0.25, np.exp(0.6), 0.0, 1.0, 0.0)))
    assert not hits(RULE, known(drifted(distance=float(apart[0]))))


def test_training_from_scratch_is_silent():
    assert not hits(RULE, known(drifted(started_at_default=True)))


def test_a_run_that_goes_on_from_an_earlier_one_is_silent():
    assert not hits(RULE, known(drifted(), optimizer_started=100))


def test_recalibration_asked_for_is_silent():
    assert not hits(RULE, known(drifted(ran="inference")))


def test_frozen_still_and_non_finite_bn_are_silent():
    assert not hits(RULE, known(drifted(expected="inference")))
    assert not hits(RULE, known(stuck("bn", distance=2.0)))
    assert not hits(RULE, known(drifted(nonfinite=("moving_mean",))))


def test_it_fires_without_an_inventory():
    hit = the_hit(RULE, Facts(run=run(drifted())))
    assert "this stack" in hit.message
    assert "model.compile" in hit.fix


def test_it_cannot_look_before_the_first_step():
    assert RULE().cannot_look(known(steps=0)) == "no training step ran yet"
    assert RULE().cannot_look(known()) is None
    assert RULE().cannot_look(Facts()) is None
