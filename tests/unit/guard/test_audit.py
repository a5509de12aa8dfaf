"""The stages in one call, on models as they stand, without a step."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import ExpectedMode, RunMode
from keras_bnguard.records.report import OutcomeStatus
from keras_bnguard.report.report import Report
from keras_bnguard.rules import ALL_RULES
from tests.builders.models import Net, adam, data, frozen_parent, layers, sgd, transfer
from tests.stack import IS_KERAS3, STACK, keras


def trained(model):
    """Statistics as after a pretraining, so that nothing about defaults is reported."""
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(0.1, 0.2, w.shape) for w in model.get_weights()])
    return model


def test_a_sound_model_has_no_finding_and_every_rule_an_outcome():
    model = trained(transfer())
    model.compile(sgd(), "mse")
    report = bng.audit(model)
    assert isinstance(report, Report)
    assert report.findings == ()
    assert [o.code for o in report.outcomes] == [rule.code for rule in ALL_RULES]
    assert all(o.reason for o in report.outcomes if o.status is OutcomeStatus.SKIPPED)
    assert (report.model, report.stack.name, report.steps) == ("net", STACK, 0)
    assert [m.path for m in report.modes] == ["base/bn", "head_bn"]


def test_a_frozen_parent_with_a_trainable_bn_is_found_without_a_step():
    report = bng.audit(trained(frozen_parent()))
    (finding,) = (f for f in report.findings if f.code == "BNG102")
    assert finding.layers == ("base/bn",)
    mode = {m.path: m for m in report.modes}["base/bn"]
    assert (mode.expected, mode.will, mode.agrees) == (
        ExpectedMode.INFERENCE,
        RunMode.TRAINING,
        False,
    )


def test_the_false_of_a_graph_is_a_finding_only_where_this_keras_ignores_it():
    report = bng.audit(trained(transfer(training=False)))
    ignored = not report.stack.behaviour.graph_false_honoured
    assert ("BNG201" in report.codes) is ignored
    assert report.modes[0].agrees is not ignored


def test_a_model_with_forced_inference_is_reported_so():
    bng.force_inference(model := trained(frozen_parent()))
    report = bng.audit(model)
    assert report.modes[0].forced_inference
    assert report.modes[0].agrees
    assert "BNG102" not in report.codes


def test_flags_changed_after_compile_are_found_where_keras_keeps_those_of_compile():
    model = trained(transfer())
    model.compile(sgd(), "mse")
    model.get_layer("base").trainable = False
    report = bng.audit(model)
    outcome = {o.code: o for o in report.outcomes}["BNG101"]
    if take_snapshot(model).inventory.compiled_flags_known:
        assert outcome.status is OutcomeStatus.FIRED
    else:
        assert IS_KERAS3
        assert outcome.status in (OutcomeStatus.SKIPPED, OutcomeStatus.PASSED)


def test_flags_of_a_model_that_was_never_compiled_are_nobodys_business():
    model = trained(transfer())
    model.get_layer("base").trainable = False
    assert "BNG101" not in bng.audit(model).codes


def test_select_and_ignore_reach_the_rules():
    model = trained(frozen_parent())
    assert bng.audit(model, select="BNG102").codes == ("BNG102",)
    assert bng.audit(model, ignore={"BNG102": "base/*"}, select="BNG102").codes == ()
    with pytest.raises(bng.SettingError, match="'BNG9' is no rule code"):
        bng.audit(model, select="BNG9")


@pytest.mark.parametrize("build", [False, True])
def test_models_that_are_not_built_can_be_audited(build):
    model = Net()
    if build:
        model(data(4)[0])
    report = bng.audit(model)
    assert [(m.path, m.at_default) for m in report.modes] == [("bn", True if build else None)]


def test_a_model_without_bn_has_no_finding():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    report = bng.audit(model)
    assert report.findings == report.modes == ()


def test_an_audit_changes_nothing():
    model = transfer()
    model.compile(adam(), "mse")
    model.train_on_batch(*data(8))
    before, attributes = [w.tobytes() for w in model.get_weights()], sorted(vars(model))
    function = model.train_function
    first, second = bng.audit(model), bng.audit(model)
    assert first == second
    assert [w.tobytes() for w in model.get_weights()] == before
    assert sorted(vars(model)) == attributes
    assert model.train_function is function


def test_what_is_no_model_is_refused():
    with pytest.raises(bng.UnsupportedModelError, match="expected a Keras model or layer, got"):
        bng.audit(object())
