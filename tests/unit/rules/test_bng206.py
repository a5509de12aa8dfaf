"""BNG206 with hand-made records."""

from dataclasses import replace

from keras_bnguard.records import (
    ExpectedMode,
    Moment,
    MomentKind,
    NormBehaviour,
    NormKind,
    RunMode,
    SkipKind,
)
from keras_bnguard.rules.bng206_train_step_runs_inference import TrainStepRunsInference
from tests.builders.facts import (
    changed,
    facts,
    norm,
    run,
    site,
    skipped,
    stack,
    stuck,
    the_violation,
    violations,
)

RULE = TrainStepRunsInference
NONE_GIVEN = {"bn": (site(None),)}
DROPS = NormBehaviour(trainable_updates=False, frozen_updates=False, frozen_uses_batch=False)


def inference(**settings):
    return stuck("bn", **{"ran": RunMode.INFERENCE, "affine_changed": True, **settings})


def known(statistics_change=None, layer=None, calls=NONE_GIVEN, **settings):
    observed = run(statistics_change or inference(), calls=calls, **settings)
    return facts(layer or norm("bn"), on=stack("k3-jax"), run=observed)


def test_it_fires_where_a_step_ran_in_inference_mode():
    violation = the_violation(RULE, known())
    assert violation.layers == ("bn",)
    assert "After 10 steps mean and variance are bit-identical" in violation.message
    assert "changed in 1 of 1" in violation.message
    assert "keras 3.15.1 on jax" in violation.message
    assert "pass training=True to the call" in violation.fix


def test_it_fires_where_gamma_and_beta_were_not_read():
    assert "changed in 0 of 1" in the_violation(RULE, known(inference(affine_changed=None))).message


def test_momentum_that_is_not_known_does_not_silence_it():
    assert violations(RULE, known(layer=norm("bn", momentum=None)))


def test_momentum_1_is_silent():
    assert not violations(RULE, known(layer=norm("bn", momentum=1.0)))


def test_a_frozen_bn_is_silent():
    assert not violations(RULE, known(inference(expected=ExpectedMode.INFERENCE)))


def test_a_bn_forced_by_this_package_is_silent():
    forced = inference(expected=ExpectedMode.INFERENCE, why="forced")
    assert not violations(RULE, known(forced, norm("bn", forced_inference=True)))


def test_training_false_at_every_call_site_is_silent():
    on_purpose = {"bn": (site(False, explicit=False), site(False, explicit=False))}
    assert not violations(RULE, known(calls=on_purpose))
    assert violations(RULE, known(calls={"bn": (site(False, explicit=False), site(None))}))


def test_statistics_that_changed_and_were_put_back_are_left_to_bng405():
    assert not violations(RULE, known(inference(ran=RunMode.TRAINING)))


def test_statistics_that_changed_are_silent():
    assert not violations(RULE, known(changed("bn", ran=RunMode.INFERENCE, affine_changed=True)))


def test_gamma_and_beta_that_did_not_change_are_silent():
    assert not violations(RULE, known(inference(affine_changed=False)))


def test_a_leaked_false_is_left_to_bng203():
    assert not violations(RULE, known(calls={"bn": (site(False, leaked_from="base"),)}))


def test_a_subclass_that_drops_training_is_left_to_bng205():
    assert not violations(RULE, known(layer=norm("bn", builtin=False, behaviour=DROPS)))


def test_a_bn_that_the_step_did_not_run_is_silent():
    assert not violations(RULE, known(calls={}))


def test_variables_without_a_visible_mode_are_silent():
    assert not violations(RULE, known(layer=norm("bn", kind=NormKind.VARIABLES)))


def test_it_is_silent_before_the_first_step():
    assert not violations(RULE, known(steps=0))


def test_it_is_skipped_before_a_step_was_observed():
    blind = facts(norm("bn"), run=run(stuck("bn", affine_changed=True)))
    assert not violations(RULE, blind)
    assert skipped(RULE, blind) is SkipKind.TOO_EARLY
    assert skipped(RULE, known()) is None


def unseen(*changes, steps=10, on="k3-tf", moment=None, **settings):
    """A custom loop that was seen through its optimizer only."""
    observed = run(*changes, steps=steps, calls_observable=False, **settings)
    observed = observed if moment is None else replace(observed, moment=moment)
    return facts(*(norm(c.path) for c in changes), on=stack(on), run=observed)


def new_bn(path="bn", **settings):
    return stuck(path, **{"started_at_default": True, "affine_changed": True, **settings})


def test_a_loop_whose_new_bn_never_leaves_its_default_fires_without_a_call_that_was_seen():
    violation = the_violation(RULE, unseen(new_bn(), new_bn("plain", affine_changed=None)))
    assert violation.layers == ("bn", "plain")
    assert "model(x, training=True)" in violation.fix
    assert "stateless_call" in the_violation(RULE, unseen(new_bn(), on="k3-jax")).fix


def test_such_a_loop_is_given_several_steps_or_its_end():
    assert not violations(RULE, unseen(new_bn(), steps=3))
    assert violations(RULE, unseen(new_bn(), steps=4))
    assert violations(RULE, unseen(new_bn(), steps=1, moment=Moment(MomentKind.LOOP_END)))


def test_such_a_loop_is_silent_where_it_may_be_on_purpose_or_nothing_trained():
    on_purpose = unseen(new_bn(started_at_default=False))
    assert not violations(RULE, on_purpose)
    assert skipped(RULE, on_purpose) is SkipKind.CALLS_NOT_OBSERVABLE
    assert not violations(RULE, unseen(new_bn(affine_changed=False)))
    assert not violations(RULE, unseen(new_bn(affine_changed=None)))
    assert not violations(RULE, unseen(new_bn(), trained_elsewhere=frozenset({"bn"})))
    assert not violations(RULE, unseen(new_bn(expected=ExpectedMode.INFERENCE)))
    assert not violations(RULE, unseen(changed("bn", started_at_default=True)))


def test_a_call_without_the_argument_is_named_with_the_code_of_the_cure():
    code = "def call(self, x, training=None):\n    return self.net(x)"
    observed = run(inference(), calls=NONE_GIVEN)
    known_call = facts(norm("bn"), run=observed, call_without_training=("Net", code))
    violation = the_violation(RULE, known_call)
    assert "`call` of Net takes no `training`" in violation.message
    assert "    def call(self, x, training=None):\n        return self.net(x)" in violation.fix
    on_jax = replace(known_call, inventory=replace(known_call.inventory, stack=stack("k3-jax")))
    assert "(x, training=training)" in the_violation(RULE, on_jax).fix
