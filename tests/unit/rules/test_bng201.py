"""BNG201 with hand-made records."""

from dataclasses import replace

from keras_bnguard.rules.bng201_training_false_ignored import TrainingFalseIgnored
from tests.builders.facts import call, facts, norm, stack, the_violation, violations

RULE = TrainingFalseIgnored


def call_with_false(path="backbone/bn", **settings):
    return norm(path, calls=(call(False),), **settings)


def test_it_fires_where_this_keras_overrides_the_graphs_false():
    violation = the_violation(
        RULE, facts(call_with_false(), call_with_false("backbone/bn2"), norm("head_bn"))
    )
    assert violation.layers == ("backbone/bn", "backbone/bn2")
    assert "called with training=False at backbone" in violation.message
    assert "keras 3.15.1 on tensorflow overrides" in violation.message


def test_the_fix_freezes_the_bn_of_the_model_that_is_called():
    fix = the_violation(RULE, facts(call_with_false(), norm("head_bn"))).fix
    assert 'for layer in model.get_layer("backbone").layers:' in fix
    assert "_flatten_layers" not in fix


def test_a_keras_that_honours_it_is_silent():
    assert not violations(RULE, facts(call_with_false(), on=stack("k2")))
    assert not violations(
        RULE, facts(call_with_false(), on=stack("k3-jax", graph_false_honoured=True))
    )


def test_a_frozen_bn_is_silent():
    assert not violations(RULE, facts(call_with_false(trainable=False)))


def test_a_bn_in_forced_inference_is_silent():
    assert not violations(RULE, facts(call_with_false(forced_inference=True)))


def test_a_subclassed_call_that_passes_false_is_silent():
    assert not violations(RULE, facts(norm("backbone/bn"), functional=False))


def test_it_points_at_the_call_where_that_was_seen():
    known = replace(call(False), source="train.py:12")
    violation = the_violation(
        RULE, facts(norm("a", calls=(call(True), call(False))), norm("b", calls=(known,)))
    )
    assert violation.source == "train.py:12"
    assert the_violation(RULE, facts(call_with_false())).source is None
