"""BNG204 with hand-made records."""

from keras_bnguard.records import Facts
from keras_bnguard.rules.bng204_augmentation_switches_batchnorm_to_training import (
    AugmentationSwitchesBatchnormToTraining,
)
from tests.builders.facts import (
    call,
    facts,
    hits,
    layers_of,
    norm,
    run,
    site,
    stack,
    switch,
    the_hit,
)

RULE = AugmentationSwitchesBatchnormToTraining
FLIP = (switch("augment/flip", 2),)


def after(path="bn", **settings):
    return norm(path, **{"calls": (call(None, "", 5),), **settings})


def test_it_fires_on_live_bn_after_an_augmentation_layer():
    known = facts(norm("stem_bn", calls=(call(None, "", 1),)), after(), switches=FLIP)
    hit = the_hit(RULE, known)
    assert hit.layers == ("bn",)
    assert "after augment/flip" in hit.message
    assert "a plain model(x)" in hit.message


def test_a_second_call_after_the_switch_counts():
    twice = norm("bn", calls=(call(None, "", 1), call(None, "", 3)))
    assert layers_of(RULE, facts(twice, switches=FLIP)) == ("bn",)


def test_a_subclassed_model_is_judged_by_an_observed_step():
    switched = run(calls={"bn": (site(True, switched_by="flip"),), "bn2": (site(True),)})
    known = facts(norm("bn"), norm("bn2"), run=switched, functional=False)
    hit = the_hit(RULE, known)
    assert hit.layers == ("bn",)
    assert "after flip" in hit.message


def test_a_keras_without_the_leak_is_silent():
    assert not hits(RULE, facts(after(), on=stack("k2"), switches=FLIP))
    fixed = stack("k3-tf", default_leaks=False)
    switched = run(calls={"bn": (site(True, switched_by="flip"),)})
    assert not hits(RULE, facts(after(), on=fixed, switches=FLIP, run=switched))


def test_a_model_without_such_layers_is_silent():
    assert not hits(RULE, facts(after()))


def test_frozen_held_and_explicitly_called_bn_are_silent():
    for quiet in (
        after(trainable=False),
        after(frozen_ancestors=("backbone",)),
        after(held=True),
        after(calls=(call(False, "backbone", 5),)),
        after(calls=(call(True, "backbone", 5),)),
    ):
        assert not hits(RULE, facts(quiet, switches=FLIP))


def test_the_order_is_not_trusted_where_the_model_is_no_graph():
    assert not hits(RULE, facts(after(), switches=FLIP, functional=False))


def test_it_cannot_look_at_a_subclassed_model_before_a_step():
    subclassed = facts(after(), switches=FLIP, functional=False)
    assert "no functional graph" in RULE().cannot_look(subclassed)
    observed = facts(after(), switches=FLIP, functional=False, run=run(calls={}))
    assert RULE().cannot_look(observed) is None
    assert RULE().cannot_look(facts(after(), switches=FLIP)) is None
    assert RULE().cannot_look(facts(after(), on=stack("k2"), functional=False)) is None
    assert RULE().cannot_look(Facts()) is None
