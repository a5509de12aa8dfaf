"""TensorFlow Addons, whose last release runs on tf.keras up to 2.15: guard, phases, averages."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import keras_bnguard as bng
from tests import ROOT
from tests.builders import schedules as r
from tests.stack import STACK, keras

if STACK == "k2":
    import tensorflow_addons as tfa

    old = keras.optimizers.legacy

pytestmark = pytest.mark.skipif(STACK != "k2", reason="TensorFlow Addons ended with TF 2.15")

X, Y = r.data()
ONE_HOT = np.concatenate([1 - Y, Y], axis=1)


def raising(**settings):
    """Statistics of twelve steps have not converged yet, as expected: BNG301, BNG407."""
    return bng.BNGuard(on_finding="raise", **{"ignore": ["BNG301", "BNG407"], **settings})


def discriminative(model):
    """The backbone at a tenth of the head's learning rate, as in discriminative layer training."""
    head = [layer for layer in model.layers if layer.name.startswith("head")]
    pairs = [(old.SGD(1e-3), model.get_layer("backbone")), (old.SGD(1e-2), head)]
    model.compile(tfa.optimizers.MultiOptimizer(pairs), "binary_crossentropy")
    return model


def averaged(kind, learning_rate=0.5, trained=False):
    model = r.transfer(trained=trained)
    inner = old.SGD(learning_rate)
    wrapped = {
        "SWA": lambda: tfa.optimizers.SWA(inner, start_averaging=0, average_period=2),
        "MovingAverage": lambda: tfa.optimizers.MovingAverage(inner, average_decay=0.9),
    }
    model.compile(wrapped[kind](), "binary_crossentropy")
    return model


def belongs(model):
    """Whether the first BN's statistics are those of the data under the model's weights."""
    base = model.get_layer("backbone")
    kernel, bias = base.get_layer("dense1").get_weights()
    mean, variance = base.get_layer("bn1").get_weights()[2:]
    seen = X @ kernel + bias
    return np.allclose(mean, seen.mean(0), rtol=1e-3, atol=1e-3) and np.allclose(
        variance, seen.var(0), rtol=1e-3, atol=1e-3
    )


# ----------------------------------------------------------------------- metrics
def two_classes(**score):
    """The transfer model with an output per class, scored by F1."""
    net = r.transfer()
    both = keras.layers.Lambda(lambda y: keras.backend.concatenate([1 - y, y]))(net.output)
    metric = tfa.metrics.F1Score(2, threshold=0.5, name="f1", **score)
    return r.compiled(keras.Model(net.input, both), metrics=[metric])


def test_f1_score_lives_beside_the_guard_and_ends_a_phase():
    end = bng.Plateau("val_f1", patience=1, mode="max", min_delta=1e9)
    phases = [
        bng.Phase("head", train="head*", until=end, epochs=3),
        bng.Phase("all", train="*", learning_rate=1e-5, epochs=1),
    ]
    schedule = r.scheduler(phases)
    model = two_classes(average="macro")
    listed = [raising(), schedule]
    done = model.fit(
        X, ONE_HOT, validation_data=(X, ONE_HOT), epochs=3, verbose=0, callbacks=listed
    )
    assert len(done.history["val_f1"]) == 3
    assert [row["phase"] for row in schedule.history] == ["head", "head", "all"]


def test_a_score_per_class_is_kept_as_a_list_and_cannot_end_a_phase():
    schedule = r.scheduler(r.head_then_all(1, 1))
    two_classes().fit(X, ONE_HOT, epochs=2, verbose=0, callbacks=[raising(), schedule])
    assert [len(row["logs"]["f1"]) for row in schedule.history] == [2, 2]
    phases = r.scheduler([bng.Phase("all", train="*", until=bng.Plateau("f1", patience=1))])
    with pytest.raises(bng.ScheduleError, match=r'2 values an epoch.*average="macro"'):
        two_classes().fit(X, ONE_HOT, epochs=2, verbose=0, callbacks=[phases])


# -------------------------------------------------------------------- optimizers
def test_a_multi_optimizer_is_no_fault_frozen_or_unfrozen():
    model = discriminative(r.transfer())
    guard = raising()
    r.fit(model, 2, [guard])
    assert guard.report.steps == 2 * r.STEPS
    base = model.get_layer("backbone")
    base.trainable = False
    model.compile(model.optimizer, "binary_crossentropy")
    r.fit(model, 1, [raising()])
    base.trainable = True
    model.compile(model.optimizer, "binary_crossentropy")
    assert bng.audit(model).codes == ()
    before = r.weights(base)
    # BNG104 reports that pretrained BN is unfrozen, which is another matter.
    r.fit(model, 1, [raising(ignore="BNG104,BNG407")])
    assert not r.same(before, r.weights(base))


def test_phases_refuse_a_multi_optimizer_before_the_first_step():
    model = discriminative(r.transfer())
    before = r.weights(model)
    with pytest.raises(bng.ScheduleError, match=r"MultiOptimizer.*layer_decay"):
        r.fit(model, 2, [r.scheduler(r.head_then_all())])
    assert r.same(before, r.weights(model))


def test_a_schedule_in_a_legacy_optimizer_is_refused_like_any_other():
    model = r.transfer()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model.compile(old.SGD(schedule), "binary_crossentropy")
    with pytest.raises(bng.ScheduleError, match="compiled with a LearningRateSchedule"):
        r.fit(model, 2, [r.scheduler(r.head_then_all())])


# ---------------------------------------------------------------------- averages
@pytest.mark.parametrize("kind", ["SWA", "MovingAverage"])
def test_the_guard_reports_that_averages_need_statistics_of_their_own(kind):
    guard = bng.BNGuard(on_finding="log")
    model = averaged(kind)
    r.fit(model, 4, [guard])
    (finding,) = [f for f in guard.report.findings if f.code == "BNG603"]
    assert finding.evidence["keeper"] == kind
    assert "to be assigned" in finding.message
    # Its fix, typed by hand.
    model.optimizer.assign_average_vars(model.trainable_variables)
    assert not belongs(model)
    bng.recalibrate(model, X)
    assert belongs(model)


@pytest.mark.parametrize("kind", ["SWA", "MovingAverage"])
def test_averages_are_assigned_and_recalibrated_when_training_ends(kind):
    model, by_hand = averaged(kind), averaged(kind)
    guard, again = raising(), bng.Recalibrate(X, assign_averages=True)
    r.fit(model, 4, [guard, again])
    assert belongs(model)
    assert "averages assigned to the weights; recalibrated" in guard.report.repairs[0]
    r.fit(by_hand, 4)
    by_hand.optimizer.assign_average_vars(by_hand.trainable_variables)
    assert r.same(
        [v.numpy() for v in model.trainable_variables],
        [v.numpy() for v in by_hand.trainable_variables],
    )


@pytest.mark.parametrize(("update", "first"), [(True, False), (False, True)])
def test_files_of_average_model_checkpoint_hold_statistics_that_belong(update, first, tmp_path):
    files = str(tmp_path / "{epoch}.h5")
    save = tfa.callbacks.AverageModelCheckpoint(update, files, save_weights_only=True)
    again, guard = bng.Recalibrate(X, at="swaps"), raising()
    model = averaged("SWA")
    plain = averaged("SWA")
    r.fit(model, 2, [guard, *([again, save] if first else [save, again])])
    saved = r.transfer(trained=False)
    for epoch in (1, 2):
        saved.load_weights(tmp_path / f"{epoch}.h5")
        assert belongs(saved)
    assert belongs(model)
    assert "assign_average_vars" not in vars(model.optimizer)
    if not update:
        # Training itself went on as if nothing had been saved.
        r.fit(plain, 2)
        trained = [[v.numpy() for v in m.trainable_variables] for m in (model, plain)]
        assert r.same(*trained)


def test_averages_of_weights_that_a_phase_unfreezes_begin_at_the_weights():
    model = averaged("SWA", learning_rate=1e-4, trained=True)
    r.fit(model, 4, [r.scheduler(r.head_then_all(2, 2))])
    for variable in model.get_layer("backbone").trainable_variables:
        average = model.optimizer.get_slot(variable, "average").numpy()
        np.testing.assert_allclose(average, variable.numpy(), atol=1e-2)


# --------------------------------------------------------------------- without it
WITHOUT = """
import sys
sys.modules["tensorflow_addons"] = None
import numpy as np
import keras_bnguard as bng
from tests.builders import schedules as r

guard = bng.BNGuard(on_finding="raise")
again = bng.Recalibrate(r.data()[0], at="swaps", assign_averages=True)
model = r.compiled(r.transfer())
r.fit(model, 2, [guard, r.scheduler(r.head_then_all(1, 1)), again])
print(guard.report.steps, again.result is not None or "recalibrated")
"""


def test_everything_works_where_it_is_not_installed():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "6"
