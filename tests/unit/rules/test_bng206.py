"""BNG206 with hand-made records."""

from keras_bnguard.records import Facts, NormBehaviour
from keras_bnguard.rules.bng206_train_step_runs_inference import TrainStepRunsInference
from tests.builders.facts import facts, hits, moved, norm, run, site, stack, stuck, the_hit

RULE = TrainStepRunsInference
NONE_GIVEN = {"bn": (site(None),)}
DROPS = NormBehaviour(live_updates=False, frozen_updates=False, frozen_uses_batch=False)


def inference(**settings):
    return stuck("bn", **{"ran": "inference", "affine_moved": True, **settings})


def known(movement=None, layer=None, calls=NONE_GIVEN, **settings):
    observed = run(movement or inference(), calls=calls, **settings)
    return facts(layer or norm("bn"), on=stack("k3-jax"), run=observed)


def test_it_fires_where_a_step_ran_in_inference_mode():
    hit = the_hit(RULE, known())
    assert hit.layers == ("bn",)
    assert "After 10 steps mean and variance are bit-identical" in hit.message
    assert "moved in 1 of 1" in hit.message
    assert "keras 3.15.1 on jax" in hit.message
    assert "self(x, training=True)" in hit.fix


def test_it_fires_where_gamma_and_beta_were_not_read():
    assert "moved in 0 of 1" in the_hit(RULE, known(inference(affine_moved=None))).message


def test_momentum_that_is_not_known_does_not_silence_it():
    assert hits(RULE, known(layer=norm("bn", momentum=None)))


def test_momentum_1_is_silent():
    assert not hits(RULE, known(layer=norm("bn", momentum=1.0)))


def test_a_frozen_bn_is_silent():
    assert not hits(RULE, known(inference(expected="inference")))


def test_a_bn_held_by_this_package_is_silent():
    held = inference(expected="inference", why="held")
    assert not hits(RULE, known(held, norm("bn", held=True)))


def test_training_false_at_every_call_site_is_silent():
    on_purpose = {"bn": (site(False, explicit=False), site(False, explicit=False))}
    assert not hits(RULE, known(calls=on_purpose))
    assert hits(RULE, known(calls={"bn": (site(False, explicit=False), site(None))}))


def test_statistics_that_moved_and_were_put_back_are_left_to_bng405():
    assert not hits(RULE, known(inference(ran="training")))


def test_statistics_that_moved_are_silent():
    assert not hits(RULE, known(moved("bn", ran="inference", affine_moved=True)))


def test_gamma_and_beta_that_did_not_move_are_silent():
    assert not hits(RULE, known(inference(affine_moved=False)))


def test_a_leaked_false_is_left_to_bng203():
    assert not hits(RULE, known(calls={"bn": (site(False, leaked_from="base"),)}))


def test_a_subclass_that_drops_training_is_left_to_bng205():
    assert not hits(RULE, known(layer=norm("bn", stock=False, behaviour=DROPS)))


def test_a_bn_that_the_step_did_not_run_is_silent():
    assert not hits(RULE, known(calls={}))


def test_variables_without_a_visible_mode_are_silent():
    assert not hits(RULE, known(layer=norm("bn", kind="variables")))


def test_it_is_silent_before_the_first_step():
    assert not hits(RULE, known(steps=0))


def test_it_cannot_look_before_a_step_was_observed():
    blind = facts(norm("bn"), run=run(stuck("bn", affine_moved=True)))
    assert not hits(RULE, blind)
    assert RULE().cannot_look(blind) == "no training step was observed yet"
    assert RULE().cannot_look(known()) is None
    assert RULE().cannot_look(Facts(run=run())) == "the model was not looked at"
    assert RULE().cannot_look(Facts()) is None
