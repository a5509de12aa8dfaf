"""BNG205 with hand-made records."""

from keras_bnguard.records import BUILTIN, NormBehaviour, NormKind
from keras_bnguard.rules.bng205_subclass_drops_training import SubclassDropsTraining
from tests.builders.facts import call, changed, facts, norm, run, stuck, the_violation, violations

RULE = SubclassDropsTraining
DROPS = NormBehaviour(trainable_updates=False, frozen_updates=False, frozen_uses_batch=False)


def dropping(path="bn", **settings):
    known = {"class_name": "MyBN", "builtin": False, "behaviour": DROPS}
    return norm(path, **{**known, **settings})


def test_it_fires_on_a_subclass_that_does_not_forward_training():
    violation = the_violation(RULE, facts(dropping(), norm("bn2"), run=run(stuck("bn"))))
    assert violation.layers == ("bn",)
    assert "of MyBN never updates its moving statistics" in violation.message
    assert "`call` of MyBN" in violation.fix


def test_it_needs_no_step_to_fire():
    assert violations(RULE, facts(dropping(momentum=None), run=run(steps=0)))


def test_a_subclass_that_forwards_it_is_silent():
    assert not violations(RULE, facts(dropping(behaviour=BUILTIN), run=run()))


def test_statistics_that_changed_overrule_the_trial():
    assert not violations(RULE, facts(dropping(), run=run(changed("bn"))))


def test_bn_in_inference_mode_are_silent():
    for still in (
        dropping(trainable=False),
        dropping(frozen_ancestors=("backbone",)),
        dropping(forced_inference=True),
        dropping(calls=(call(False),)),
    ):
        assert not violations(RULE, facts(still, run=run()))


def test_momentum_1_is_silent():
    assert not violations(RULE, facts(dropping(momentum=1.0), run=run()))


def test_builtin_layers_torch_modules_and_untried_classes_are_silent():
    for other in (dropping(builtin=True), dropping(kind=NormKind.TORCH), dropping(behaviour=None)):
        assert not violations(RULE, facts(other, run=run()))
