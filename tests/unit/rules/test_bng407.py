"""BNG407 with hand-made records."""

import pytest

from keras_bnguard.records import Facts
from keras_bnguard.rules.bng407_statistics_still_converging import StatisticsStillConverging
from tests.builders.facts import facts, hits, lag, moved, norm, run, the_hit

RULE = StatisticsStillConverging


def over(*lags, norms=None, hyper=None, **settings):
    norms = norms or [norm(item.path) for item in lags]
    movements = [moved(item.path) for item in lags]
    known = run(*movements, **{"steps": 400, "ended": True, "lags": lags, **settings})
    return facts(*norms, run=known, hyper=hyper)


def test_it_fires_on_statistics_that_are_still_on_their_way():
    hit = the_hit(RULE, over(lag("bn", shift=1.2), lag("ok", shift=0.1)))
    assert hit.layers == ("bn",)
    assert "After the last 40 steps" in hit.message
    assert "1.2 standard deviations (limit 0.5)" in hit.message
    assert "bng.recalibrate" in hit.fix


def test_a_variance_on_its_way_is_enough():
    assert hits(RULE, over(lag("bn", log_variance=1.0)))


def test_converged_statistics_are_silent():
    assert not hits(RULE, over(lag("bn", shift=0.5, log_variance=0.7)))


def test_what_bng301_names_is_left_to_it():
    late = lag("bn", shift=1.2, start_left=0.3, start_shift=2.0)
    assert not hits(RULE, over(late))


def test_a_trial_of_a_few_steps_is_silent():
    assert not hits(RULE, over(lag("bn", shift=1.2), steps=9))


def test_recalibration_in_the_same_fit_is_silent():
    assert not hits(RULE, over(lag("bn", shift=1.2), hyper={"recalibrates": True}))


@pytest.mark.parametrize("settings", [{"trainable": False}, {"held": True}])
def test_frozen_bn_are_silent(settings):
    assert not hits(RULE, over(lag("bn", shift=1.2), norms=[norm("bn", **settings)]))


def test_nan_is_left_to_others():
    assert not hits(RULE, over(lag("bn", shift=float("nan"))))


def test_it_cannot_look_before_training_is_over():
    known = facts(norm("bn"), run=run(moved("bn")))
    assert RULE().cannot_look(known) == "training is not over"
    assert RULE().cannot_look(over(lag("bn"))) is None
    assert RULE().cannot_look(Facts()) is None
