"""BNG506 with hand-made records."""

import pytest

from keras_bnguard.records import AUDIT, DataPart, Moment, MomentKind, SkipKind
from keras_bnguard.rules.bng506_train_inference_gap import TrainInferenceGap
from tests.builders.facts import facts, gap, norm, sampled, skipped, the_violation, violations

AT_THE_END = Moment(MomentKind.TRAINING_END)
RULE = TrainInferenceGap


def known(found, moment=AT_THE_END, norms=None, fit_settings=None, **data):
    norms = norms or [norm("bn")]
    return facts(*norms, fit_settings=fit_settings, data=sampled(gap=found, moment=moment, **data))


def test_it_fires_where_inference_is_much_worse():
    violation = the_violation(RULE, known(gap(0.1, 1.5, accuracy=(0.97, 0.54))))
    assert violation.layers == ("bn",)
    assert "loss of 0.1 with batch statistics and 1.5" in violation.message
    assert "accuracy 0.970 and 0.540" in violation.message
    assert "bng.recalibrate" in violation.fix


def test_inference_the_better_of_the_two_is_silent():
    assert not violations(RULE, known(gap(1.5, 0.1)))


def test_tiny_losses_are_silent():
    assert not violations(RULE, known(gap(1e-4, 0.05)))


def test_a_small_gap_on_a_large_loss_is_silent():
    assert not violations(RULE, known(gap(1.0, 1.3)))


def test_a_loss_that_costs_no_accuracy_is_silent():
    assert not violations(RULE, known(gap(0.2, 0.7, accuracy=(0.95, 0.94))))


def test_a_gap_within_its_noise_is_silent():
    assert not violations(RULE, known(gap(0.1, 1.0, standard_error=0.4)))


def test_batches_of_a_few_values_are_silent():
    found = known(gap(0.1, 1.5, values=4.0))
    assert not violations(RULE, found)
    assert skipped(RULE, found) is SkipKind.NOT_ENOUGH_DATA


def test_a_model_that_has_not_trained_is_silent_in_an_audit_only():
    fresh = [norm("bn", at_default=True)]
    assert not violations(RULE, known(gap(0.1, 1.5), AUDIT, fresh))
    assert violations(RULE, known(gap(0.1, 1.5), AT_THE_END, fresh))


def test_recalibration_in_the_same_fit_is_silent():
    assert not violations(RULE, known(gap(0.1, 1.5), fit_settings={"recalibrates": True}))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_silent(loss):
    assert not violations(RULE, known(gap(0.1, loss)))


def test_it_is_skipped_with_a_reason():
    missing = known(None, missing={DataPart.GAP: "the data has no labels"})
    assert skipped(RULE, missing) is SkipKind.NOT_MEASURED
    assert skipped(RULE, known(None)) is SkipKind.TOO_EARLY
    frozen = known(gap(0.1, 1.5), norms=[norm("bn", trainable=False)])
    assert skipped(RULE, frozen) is SkipKind.NOT_MEASURED
