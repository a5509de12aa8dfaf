"""BNG205 with hand-made records."""

from keras_bnguard.records import STOCK, NormBehaviour
from keras_bnguard.rules.bng205_subclass_drops_training import SubclassDropsTraining
from tests.builders.facts import call, facts, hits, moved, norm, run, stuck, the_hit

RULE = SubclassDropsTraining
DROPS = NormBehaviour(live_updates=False, frozen_updates=False, frozen_uses_batch=False)


def dropping(path="bn", **settings):
    known = {"class_name": "MyBN", "stock": False, "behaviour": DROPS}
    return norm(path, **{**known, **settings})


def test_it_fires_on_a_subclass_that_does_not_forward_training():
    hit = the_hit(RULE, facts(dropping(), norm("bn2"), run=run(stuck("bn"))))
    assert hit.layers == ("bn",)
    assert "of MyBN without moving statistics" in hit.message
    assert "class MyBN(keras.layers.BatchNormalization):" in hit.fix


def test_it_needs_no_step_to_fire():
    assert hits(RULE, facts(dropping(momentum=None), run=run(steps=0)))


def test_a_subclass_that_forwards_it_is_silent():
    assert not hits(RULE, facts(dropping(behaviour=STOCK), run=run()))


def test_statistics_that_moved_overrule_the_trial():
    assert not hits(RULE, facts(dropping(), run=run(moved("bn"))))


def test_bn_that_are_meant_to_stand_still_are_silent():
    for still in (
        dropping(trainable=False),
        dropping(frozen_ancestors=("backbone",)),
        dropping(held=True),
        dropping(calls=(call(False),)),
    ):
        assert not hits(RULE, facts(still, run=run()))


def test_momentum_1_is_silent():
    assert not hits(RULE, facts(dropping(momentum=1.0), run=run()))


def test_stock_layers_torch_modules_and_untried_classes_are_silent():
    for other in (dropping(stock=True), dropping(kind="torch"), dropping(behaviour=None)):
        assert not hits(RULE, facts(other, run=run()))


def test_it_is_silent_without_a_run():
    assert not hits(RULE, facts(dropping()))
