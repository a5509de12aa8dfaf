"""BNG103 with hand-made records."""

import pytest

from keras_bnguard.records import Provenance
from keras_bnguard.records.report import Severity
from keras_bnguard.rules.bng103_trainable_batchnorm_among_frozen_layers import (
    TrainableBatchnormAmongFrozenLayers,
)
from tests.builders.facts import (
    call,
    changed,
    facts,
    layer,
    layers_of,
    norm,
    reached,
    run,
    sampled,
    site,
    the_violation,
    violations,
)

RULE = TrainableBatchnormAmongFrozenLayers


def convs(frozen, trains=0, container="backbone", start=0):
    """Layers with weights at positions 0, 10, 20, ..., the trainable ones last."""
    return [
        layer(f"{container}/conv{i}", 10 * i, trainable=i >= start + frozen)
        for i in range(start, start + frozen + trains)
    ]


def bn(path="backbone/bn", position=95, **settings):
    return norm(path, position=position, **settings)


def test_it_fires_where_everything_but_bn_is_frozen():
    violation = the_violation(RULE, facts(bn(position=5), bn("backbone/bn2", 95), layers=convs(10)))
    assert violation.layers == ("backbone/bn", "backbone/bn2")
    assert "10 of 10 other layers with weights (100 %) in backbone" in violation.message


def test_nine_of_ten_frozen_layers_are_enough_and_eight_are_not():
    unfrozen_first = [layer("backbone/first", 0), *convs(9, start=1)]
    two_unfrozen = [layer("backbone/zero", 0), layer("backbone/first", 1), *convs(8, start=2)]
    assert layers_of(RULE, facts(bn(), layers=unfrozen_first)) == ("backbone/bn",)
    assert (
        "9 of 10 other layers with weights (90 %)"
        in violations(RULE, facts(bn(), layers=unfrozen_first))[0].message
    )
    assert not violations(RULE, facts(bn(), layers=two_unfrozen))


def test_one_frozen_layer_is_too_little_to_judge_by():
    assert not violations(RULE, facts(bn(), layers=convs(1)))
    assert violations(RULE, facts(bn(), layers=convs(2)))


def test_a_heads_own_bn_is_silent():
    frozen = convs(4, container="")
    head = [layer("dense", 50), layer("out", 70)]
    known = facts(bn("pretrained_bn", 35), bn("head_bn", 60, at_default=True), layers=frozen + head)
    assert layers_of(RULE, known) == ("pretrained_bn",)


def test_a_bn_that_follows_an_unfrozen_layer_is_silent():
    known = facts(bn(position=95), bn("backbone/bn2", 105), layers=convs(10, trains=1))
    assert layers_of(RULE, known) == ("backbone/bn",)


def test_a_bn_before_all_layers_is_silent():
    frozen = [layer(f"backbone/conv{i}", 10 + i, trainable=False) for i in range(4)]
    known = facts(bn("backbone/input_bn", 1), bn(trainable=False), layers=frozen)
    assert not violations(RULE, known)


def test_statistics_at_default_are_silent():
    assert not violations(RULE, facts(bn(at_default=True), layers=convs(10)))
    assert not violations(RULE, facts(bn(at_default=None), layers=convs(10)))


def test_frozen_forced_and_called_with_false_are_silent():
    unchanged = (
        bn(trainable=False),
        bn(frozen_ancestors=("backbone",)),
        bn(forced_inference=True),
        bn(calls=(call(False), call(False))),
    )
    for norm_layer in unchanged:
        assert not violations(RULE, facts(norm_layer, layers=convs(10)))


def test_layers_without_weights_other_bn_and_deeper_layers_do_not_count():
    others = [
        layer("backbone/relu", 1, weighted=False),
        layer("backbone/bn2", 2, is_norm=True),
        layer("backbone/block/conv", 3),
    ]
    assert layers_of(RULE, facts(bn(), layers=[*convs(2), *others])) == ("backbone/bn",)


def test_layers_after_the_last_trained_bn_do_not_count():
    head = [layer(f"dense{i}", 100 + i) for i in range(5)]
    known = facts(bn("bn", 45), layers=convs(4, container="") + head)
    assert layers_of(RULE, known) == ("bn",)


def test_data_that_frozen_statistics_would_not_fit_make_it_an_info():
    bn_layer = norm("backbone/bn", position=5)
    others = [layer("backbone/c1", 1, trainable=False), layer("backbone/c2", 4, trainable=False)]
    off = sampled(reached("backbone/bn", mean_shift=2.0))
    violation = the_violation(RULE, facts(bn_layer, layers=others, data=off))
    assert violation.severity is Severity.INFO
    assert "1 of 1 would not describe them" in violation.message
    fits = sampled(reached("backbone/bn", mean_shift=0.1))
    assert the_violation(RULE, facts(bn_layer, layers=others, data=fits)).severity is None
    few = sampled(reached("backbone/bn", mean_shift=2.0), rows=8)
    assert the_violation(RULE, facts(bn_layer, layers=others, data=few)).severity is None


def test_trained_layers_behind_the_frozen_part_do_not_hide_it():
    decoder = [layer(f"backbone/dec{i}", 100 + i) for i in range(5)]
    behind = bn("backbone/dec_bn", 110)
    known = facts(bn(position=15), bn("backbone/last", 35), behind, layers=[*convs(4), *decoder])
    assert layers_of(RULE, known) == ("backbone/bn", "backbone/last")


def test_the_bn_at_the_cut_between_frozen_and_trainable_layers_is_silent():
    decoder = [layer(f"backbone/dec{i}", 100 + i) for i in range(5)]
    behind = bn("backbone/dec_bn", 110)
    assert not violations(RULE, facts(bn(position=35), behind, layers=[*convs(4), *decoder]))


@pytest.mark.parametrize("made", [Provenance.TRAINED_HERE, Provenance.UNKNOWN])
def test_statistics_that_are_not_loaded_are_silent(made):
    assert not violations(RULE, facts(bn(provenance=made), layers=convs(4)))
    loaded = bn(provenance=Provenance.LOADED)
    assert layers_of(RULE, facts(loaded, layers=convs(4))) == ("backbone/bn",)


def test_a_subclassed_model_is_judged_once_its_first_step_has_shown_its_calls():
    known = {"layers": convs(4), "functional": False}
    assert not violations(RULE, facts(bn(), run=run(steps=0), **known))
    false = run(calls={"backbone/bn": (site(False, False),)})
    assert not violations(RULE, facts(bn(), run=false, **known))
    true = run(calls={"backbone/bn": (site(True),)})
    assert layers_of(RULE, facts(bn(), run=true, **known)) == ("backbone/bn",)
    unseen = run(changed("backbone/bn"))
    assert layers_of(RULE, facts(bn(), run=unseen, **known)) == ("backbone/bn",)
