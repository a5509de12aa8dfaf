"""What this package promises, bit for bit: it only observes, is fail-safe, leaves no
trace, and reports how every rule ended."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import random
import warnings

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.patches.attribute_patches import open_patches
from keras_bnguard.backends.patches.call_tracer import CallTracer
from keras_bnguard.errors import InternalErrorWarning
from keras_bnguard.guard.fact_collector import FactCollector
from keras_bnguard.guard.run_evaluator import RunEvaluator
from keras_bnguard.guard.tracking import snapshot_keeper
from keras_bnguard.guard.tracking.statistics_tracker import StatisticsTracker
from keras_bnguard.records import OutcomeStatus, SkipKind
from keras_bnguard.report.report import Report
from keras_bnguard.rules import ALL_RULES
from tests.builders.models import (
    Leaky,
    Net,
    adam,
    compiled,
    data,
    frozen_parent,
    layers,
    sgd,
    transfer,
)
from tests.builders.values import optimizer_state, random_state, seed_states, statistics
from tests.stack import BACKEND, IS_KERAS3, keras

SEED = 7


class Noise(layers.Layer):
    """Augmentation: other random numbers at every step, also where `training` is not written."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if IS_KERAS3:
            self.generator = keras.random.SeedGenerator(3)

    def call(self, x, training=True):
        if not training:
            return x
        if IS_KERAS3:
            return x + keras.random.normal(keras.ops.shape(x), seed=self.generator)
        import tensorflow as tf

        return x + tf.random.normal(tf.shape(x))

    def compute_output_shape(self, shape):
        return shape


def augmented():
    inputs = keras.Input((4,))
    return keras.Model(inputs, transfer()(Noise(name="noise")(inputs)))


def augmented_adam():
    model = augmented()
    model.compile(adam(), "mse", metrics=["mae"])
    return model, {"validation_split": 0.25, "epochs": 2}


def momentum():
    model = transfer()
    model.compile(sgd(momentum=0.9), "mse")
    return model, {"epochs": 3, "shuffle": True}


def subclassed():
    model = Net()
    model.compile(adam(), "mse")
    return model, {"epochs": 2}


def frozen_base():
    model = transfer()
    model.get_layer("base").trainable = False
    model.compile(adam(), "mse")
    return model, {"epochs": 2}


def faulty_parent():
    model = frozen_parent()
    model.compile(adam(), "mse")
    return model, {"epochs": 2}


def faulty_graph():
    model = transfer(training=False)
    model.compile(sgd(), "mse")
    return model, {"epochs": 2}


def faulty_flags():
    model = transfer()
    model.compile(sgd(), "mse")
    x, y = data()
    model.fit(x, y, verbose=0)
    model.get_layer("base").trainable = False
    if BACKEND == "jax" or BACKEND == "torch":
        model.compile(sgd(), "mse")
    return model, {"epochs": 2}


def faulty_leak():
    model = Leaky()
    model.compile(sgd(), "mse")
    return model, {"epochs": 2}


def guarded():
    bng.force_inference(model := frozen_parent(), layers="head_bn")
    model.compile(sgd(), "mse")
    return model, {"epochs": 2}


def eager():
    model = transfer()
    model.compile(sgd(), "mse", run_eagerly=True)
    return model, {"epochs": 1}


PIPELINES = [
    augmented_adam,
    momentum,
    subclassed,
    frozen_base,
    faulty_parent,
    faulty_graph,
    faulty_flags,
    faulty_leak,
    guarded,
    eager,
]


def train(pipeline, *callbacks):
    """One seeded run, and everything that must not depend on who is watching."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(SEED)
    random.seed(SEED)
    model, settings = pipeline()
    x, y = data(24)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bng.BNGuardWarning)
        history = model.fit(
            x, y, batch_size=8, verbose=0, callbacks=list(callbacks), **settings
        ).history
    history.pop("bn_drift", None)
    history = {name: [float(v).hex() for v in values] for name, values in history.items()}
    return {
        "weights": [w.tobytes() for w in model.get_weights()],
        "optimizer": optimizer_state(model),
        "history": history,
        "seeds": seed_states(model),
        "random": random_state(),
        "name": (layers.Dense(1).name, layers.BatchNormalization().name, Net().name),
        "attributes": sorted(vars(model)),
    }


@pytest.fixture(scope="module")
def without_guard():
    """Results without a guard, made once per pipeline."""
    known = {}

    def result(pipeline):
        if pipeline not in known:
            known[pipeline] = train(pipeline)
        return known[pipeline]

    return result


CASES = [(pipeline, "epoch") for pipeline in PIPELINES]
CASES += [(augmented_adam, 2), (faulty_parent, 1), (guarded, 2)]


@pytest.mark.parametrize(("pipeline", "every"), CASES, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_guarded_run_ends_bit_identical_to_the_same_run_without(pipeline, every, without_guard):
    guard = bng.BNGuard(every=every)
    expected, found = without_guard(pipeline), train(pipeline, guard)
    for what in expected:
        assert found[what] == expected[what], what
    assert guard.report.steps > 0
    assert not guard.report.notes
    assert open_patches() == 0
    # Silence is information: every rule has an outcome, a skipped one with its reason.
    outcomes = guard.report.outcomes
    assert [o.code for o in outcomes] == [rule.code for rule in ALL_RULES]
    assert {o.status for o in outcomes} <= {"fired", "passed", "skipped"}
    assert all(o.reason for o in outcomes if o.status is OutcomeStatus.SKIPPED)
    assert {o.code for o in outcomes if o.status is OutcomeStatus.FIRED} == set(guard.report.codes)


def test_the_comparison_sees_a_single_bit(without_guard):
    class Nudge(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            layer = self.model.get_layer("head_bn")
            weights = layer.get_weights()
            weights[2] = np.nextafter(weights[2], np.float32(9))
            layer.set_weights(weights)

    assert train(momentum, Nudge())["weights"] != without_guard(momentum)["weights"]


@pytest.mark.parametrize(("pipeline", "code"), [(faulty_parent, "BNG102"), (faulty_leak, "BNG203")])
def test_the_faulty_pipelines_do_make_findings(pipeline, code):
    guard = bng.BNGuard()
    train(pipeline, guard)
    if code == "BNG203" and not IS_KERAS3:
        assert code not in guard.report.codes
    else:
        assert code in guard.report.codes


def test_an_audit_changes_nothing(without_guard):
    def audited():
        model, settings = augmented_adam()
        bng.audit(model, select="ALL")
        return model, settings

    found, expected = train(audited), without_guard(augmented_adam)
    assert all(found[what] == expected[what] for what in expected)


# ------------------------------------------------------------ fail-safe
class OursError(Exception):
    """A fault inside the guard."""


def broken(*args, **kwargs):
    raise OursError("a fault of ours")


def break_inventory(patch):
    patch.setattr(snapshot_keeper, "take_snapshot", broken)


def break_update(patch):
    patch.setattr(StatisticsTracker, "update", broken)


def break_facts(patch):
    patch.setattr(FactCollector, "collect", broken)


def break_tracer_call(patch):
    patch.setattr(CallTracer, "_by_leak", broken)


def break_tracer_stack(patch):
    patch.setattr(CallTracer, "_stack", broken)


def break_tracer_start(patch):
    patch.setattr(CallTracer, "_rooted", broken)


def break_flags(patch):
    patch.setattr(RunEvaluator, "check_flags", broken)


def break_report(patch):
    patch.setattr(Report, "save", broken)


@pytest.mark.parametrize(
    "fault",
    [
        break_inventory,
        break_update,
        break_facts,
        break_tracer_call,
        break_tracer_stack,
        break_tracer_start,
        break_flags,
        break_report,
    ],
    ids=lambda fault: fault.__name__,
)
def test_an_internal_error_never_ends_training(fault, without_guard, monkeypatch, tmp_path):
    fault(monkeypatch)
    guard = bng.BNGuard(report=str(tmp_path / "r.json"), every=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = train_with_warnings(momentum, guard)
    monkeypatch.undo()
    assert found == {what: without_guard(momentum)[what] for what in found}
    faults = [str(w.message) for w in caught if issubclass(w.category, InternalErrorWarning)]
    assert len(faults) == 1
    # AutoGraph renames the function that failed, so its name cannot be expected.
    assert "OursError('a fault of ours')" in faults[0]
    assert "Traceback" in faults[0]
    if fault is not break_inventory:
        assert any("Traceback" in note for note in guard.report.notes)
    assert open_patches() == 0
    assert keras.layers.Layer.__call__.__qualname__.startswith("Layer.")


def train_with_warnings(pipeline, guard):
    """`train`, but for what the warnings filter of the test itself has to see."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(SEED)
    random.seed(SEED)
    model, settings = pipeline()
    x, y = data(24)
    history = model.fit(x, y, batch_size=8, verbose=0, callbacks=[guard], **settings).history
    history.pop("bn_drift", None)
    history = {name: [float(v).hex() for v in values] for name, values in history.items()}
    return {"weights": [w.tobytes() for w in model.get_weights()], "history": history}


def test_a_rule_that_fails_is_skipped_with_its_error_and_others_go_on(without_guard, monkeypatch):
    rule = next(r for r in ALL_RULES if r.code == "BNG404")
    monkeypatch.setattr(rule, "check", broken)
    guard = bng.BNGuard()
    found = train(faulty_parent, guard)
    assert found["weights"] == without_guard(faulty_parent)["weights"]
    outcomes = {o.code: o for o in guard.report.outcomes}
    assert outcomes["BNG404"].skip_kind is SkipKind.RULE_FAILED
    assert "OursError" in outcomes["BNG404"].reason
    assert "BNG102" in guard.report.codes


def test_a_guard_that_disabled_itself_monitors_the_next_run(monkeypatch):
    guard = bng.BNGuard(on_finding="log")
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        break_update(patch)
        train(momentum, guard)
        assert guard.report.notes
    train(faulty_parent, guard)
    assert not guard.report.notes
    assert "BNG102" in guard.report.codes


# --------------------------------------------------------- silence is information
def test_a_rule_whose_findings_are_ignored_ends_as_ignored():
    guard = bng.BNGuard(ignore={"BNG102": ["base/*"]})
    train(faulty_parent, guard)
    outcome = next(o for o in guard.report.outcomes if o.code == "BNG102")
    assert outcome.status is OutcomeStatus.IGNORED
    assert "BNG102" not in guard.report.codes


def test_before_any_step_the_rules_about_statistics_do_not_pass():
    model, _ = momentum()
    status = {o.code: o.status for o in bng.audit(model).outcomes}
    assert all(status[code] == "skipped" for code in ("BNG404", "BNG405", "BNG406"))


# ------------------------------------------------------------- nothing stays behind
def traces(model):
    """Names this package could have left on a model and on the classes around it."""
    names = [n for layer in [model, *model.layers] for n in vars(layer) if "bng" in n.lower()]
    names += [n for layer in model.layers for n in ("call", "__call__") if n in vars(layer)]
    return names


def everything(model):
    x, y = data(16)
    handle = bng.force_inference(model, layers="head_bn")
    model.fit(x, y, verbose=0, callbacks=[bng.BNGuard(on_finding="log")])
    with bng.force_inference(model, "*"):
        model.train_on_batch(x, y)
    handle.release()
    return model


def test_nothing_is_left_on_a_model_after_force_fit_and_release():
    before = sorted(vars(compiled(transfer())))
    call, prop = layers.Layer.__call__, layers.Layer.__dict__["trainable"]
    compile_ = keras.Model.compile
    model = everything(compiled(transfer()))
    assert traces(model) == []
    assert "train_step" not in vars(model)
    x, y = data(16)
    plain = compiled(transfer())
    plain.fit(x, y, verbose=0)
    assert set(vars(model)) <= set(vars(plain)) | set(before)
    assert layers.Layer.__call__ is call
    assert layers.Layer.__dict__["trainable"] is prop
    assert keras.Model.compile is compile_
    assert open_patches() == 0


@pytest.mark.parametrize("way", ["save", "pickle", "deepcopy", "clone", "json"])
def test_a_copy_of_a_guarded_model_is_a_plain_model(way, tmp_path):
    bng.force_inference(model := compiled(transfer()), layers="head_bn")
    model.train_on_batch(*data(16))
    if way == "save":
        path = os.path.join(tmp_path, "m.keras")
        model.save(path)
        copied = keras.models.load_model(path)
    elif way == "pickle":
        copied = pickle.loads(pickle.dumps(model))
    elif way == "deepcopy":
        copied = copy.deepcopy(model)
    elif way == "clone":
        copied = keras.models.clone_model(model)
        copied.set_weights(model.get_weights())
    else:
        assert "bng" not in model.to_json().lower()
        copied = keras.models.model_from_json(model.to_json())
        copied.set_weights(model.get_weights())
    assert traces(copied) == []
    assert "train_step" not in vars(copied)
    assert all(np.array_equal(a, b) for a, b in zip(copied.get_weights(), model.get_weights()))
    copied.compile(sgd(), "mse")
    before = statistics(copied.get_layer("head_bn"))
    copied.train_on_batch(*data(16))
    assert statistics(copied.get_layer("head_bn")) != before


def test_an_interrupted_run_leaves_nothing_behind():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    call, prop = layers.Layer.__call__, layers.Layer.__dict__["trainable"]
    model, guard = compiled(transfer()), bng.BNGuard()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data(16), verbose=0, callbacks=[guard, Stop()])
    assert layers.Layer.__call__ is call
    assert traces(model) == []
    # Keras calls no hook when `fit` is left; the next run of the guard cleans up.
    with contextlib.suppress(KeyboardInterrupt):
        model.fit(*data(16), verbose=0, callbacks=[guard])
    assert layers.Layer.__dict__["trainable"] is prop
