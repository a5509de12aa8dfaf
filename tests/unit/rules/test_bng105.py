"""BNG105 with hand-made records."""

from keras_bnguard.records import NormBehaviour, NormKind
from keras_bnguard.rules.bng105_frozen_batchnorm_uses_batch_statistics import (
    FrozenBatchnormUsesBatchStatistics,
)
from tests.builders.facts import call, facts, norm, run, site, stack, the_violation, violations

RULE = FrozenBatchnormUsesBatchStatistics
V1 = NormBehaviour(trainable_updates=True, frozen_updates=False, frozen_uses_batch=True)
UPDATES = NormBehaviour(trainable_updates=True, frozen_updates=True, frozen_uses_batch=False)
TORCH = NormBehaviour(trainable_updates=True, frozen_updates=True, frozen_uses_batch=True)


def frozen(path="bn", **settings):
    return norm(path, **{"trainable": False, "builtin": False, "behaviour": V1, **settings})


def torch(path="wrapper/0", **settings):
    known = {
        "kind": NormKind.TORCH,
        "class_name": "BatchNorm2d",
        "container": "",
        "behaviour": TORCH,
    }
    return frozen(path, **{**known, **settings})


def test_it_fires_on_a_v1_layer_whose_statistics_do_not_change():
    known = facts(frozen(class_name="BatchNormalizationV1"), on=stack("k2"), run=run())
    violation = the_violation(RULE, known)
    assert violation.layers == ("bn",)
    assert "BatchNormalizationV1 (uses batch statistics)" in violation.message
    assert "tf.keras 2.15.0 on tensorflow" in violation.message


def test_it_fires_on_a_subclass_that_updates_while_frozen():
    violation = the_violation(RULE, facts(frozen(class_name="MyBN", behaviour=UPDATES), run=run()))
    assert "MyBN (updates its moving statistics)" in violation.message
    assert violation.evidence["updates"] == ("bn",)
    assert violation.evidence["uses_batch"] == ()


def test_it_fires_on_every_torch_module_in_a_frozen_wrapper():
    modules = torch(), torch("net/wrapper/bn.1", container="net", behaviour=None)
    violation = the_violation(RULE, facts(*modules, on=stack("k3-torch"), run=run()))
    assert violation.layers == ("wrapper/0", "net/wrapper/bn.1")
    assert (
        'model.get_layer("wrapper"), model.get_layer("net").get_layer("wrapper")' in violation.fix
    )
    assert "keras.layers.BatchNormalization" not in violation.fix


def test_a_torch_module_of_momentum_one_updates_nothing():
    violation = the_violation(RULE, facts(torch(momentum=1.0), run=run()))
    assert violation.evidence["uses_batch"] == ("wrapper/0",)
    assert violation.evidence["updates"] == ()


def test_a_torch_module_that_stays_in_eval_mode_is_silent():
    still = NormBehaviour(trainable_updates=False, frozen_updates=False, frozen_uses_batch=False)
    assert not violations(RULE, facts(torch(behaviour=still), run=run()))


def test_both_kinds_get_both_fixes():
    fix = the_violation(RULE, facts(frozen(), torch(), run=run())).fix
    assert "keras.layers.BatchNormalization" in fix
    assert "module.eval()" in fix


def test_builtin_bn_is_silent():
    assert not violations(RULE, facts(norm("bn", trainable=False), run=run()))


def test_a_subclass_that_runs_in_inference_mode_is_silent():
    still = NormBehaviour(trainable_updates=True, frozen_updates=False, frozen_uses_batch=False)
    assert not violations(RULE, facts(frozen(behaviour=still), run=run()))


def test_a_trainable_layer_is_silent():
    assert not violations(RULE, facts(frozen(trainable=True), torch(trainable=True), run=run()))


def test_a_layer_in_forced_inference_is_silent():
    assert not violations(
        RULE, facts(frozen(forced_inference=True), torch(forced_inference=True), run=run())
    )


def test_a_class_that_could_not_be_tried_is_silent():
    assert not violations(RULE, facts(frozen(behaviour=None), run=run()))


def test_training_false_at_every_call_is_silent_where_this_keras_honours_it():
    cured = frozen(calls=(call(False),))
    assert not violations(RULE, facts(cured, on=stack("k2"), run=run()))
    assert violations(RULE, facts(cured, on=stack("k3-tf"), run=run()))


def test_training_false_that_arrived_in_a_step_is_silent():
    arrived = run(calls={"bn": (site(False, explicit=False),)})
    assert not violations(RULE, facts(frozen(), run=arrived))
    assert violations(RULE, facts(frozen(), run=run(calls={"bn": (site(True),)})))
