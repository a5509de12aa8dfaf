"""BNG202 with hand-made records."""

import pytest

from keras_bnguard.records import InferencePass, Moment, MomentKind, WrittenTrue
from keras_bnguard.rules.bng202_training_true_hard_wired import TrainingTrueHardWired
from tests.builders.facts import call, facts, norm, run, stack, the_violation, violations

RULE = TrainingTrueHardWired


def wired(path="backbone/bn", **settings):
    return norm(path, calls=(call(None), call(True, "backbone", 2)), **settings)


def test_it_fires_where_this_keras_obeys_the_graphs_true_in_predict():
    violation = the_violation(RULE, facts(wired(), norm("head_bn"), on=stack("k2")))
    assert violation.layers == ("backbone/bn",)
    assert "called with training=True at backbone" in violation.message
    assert "tf.keras 2.15.0 on tensorflow" in violation.message


def test_forced_inference_does_not_help_in_predict():
    assert violations(RULE, facts(wired(forced_inference=True), on=stack("tfk")))


def test_a_keras_that_overrides_it_is_silent():
    assert not violations(RULE, facts(wired(), on=stack("k3-tf")))


def test_stochastic_layers_only_are_silent():
    beside_dropout = norm("bn", calls=(call(None),))
    assert not violations(RULE, facts(beside_dropout, on=stack("k2")))


def test_a_frozen_bn_is_silent():
    assert not violations(RULE, facts(wired(trainable=False), on=stack("k2")))


def test_false_at_every_call_is_silent():
    assert not violations(RULE, facts(norm("bn", calls=(call(False),)), on=stack("k2")))


def seen(**in_training):
    return run(inference=InferencePass(Moment(MomentKind.VALIDATION), in_training))


@pytest.mark.parametrize(
    ("written", "cause"),
    [
        (WrittenTrue("Unit", "model.py:7"), "The call of Unit passes training=True"),
        (WrittenTrue(in_step=True), "The step calls the model with training=True"),
        (WrittenTrue(default_of="crop"), "The default training=True of crop reached them"),
        (WrittenTrue(), "bn. The output"),
    ],
)
def test_what_a_pass_showed_fires_on_every_keras(written, cause):
    violation = the_violation(RULE, facts(norm("bn"), on=stack("k3-tf"), run=seen(bn=written)))
    assert violation.layers == ("bn",)
    assert violation.source == written.source
    assert cause in violation.message
    assert "in validation" in violation.message


def test_a_pass_in_inference_mode_is_silent():
    assert not violations(RULE, facts(norm("bn"), on=stack("k3-tf"), run=seen()))
