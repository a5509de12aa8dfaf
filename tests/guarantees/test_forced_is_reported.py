"""What is reported of forced inference is what happens: table, plan, repairs, blocks, files."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.phases.checks import built_model
from keras_bnguard.phases.plan import make_plan
from keras_bnguard.records import RunMode, Verification
from tests import ROOT
from tests.builders.models import BN, data, layers, sgd
from tests.builders.norm_kinds import FORCED, REFUSED, AlwaysTraining, in_graph
from tests.builders.values import as_array
from tests.stack import BACKEND, IS_KERAS3, STACK, keras

pytestmark = pytest.mark.filterwarnings("ignore:Gradients do not exist")


def written(inner, outer, trained=True):
    """A BN that is called with `training=inner`, in a model called with `training=outer`."""
    inputs = keras.Input((4,))
    hidden = layers.Dense(5, name="dense")(inputs)
    call = {} if inner is None else {"training": inner}
    base = keras.Model(inputs, BN(name="bn")(hidden, **call), name="base")
    outer_in = keras.Input((4,))
    call = {} if outer is None else {"training": outer}
    x = BN(name="head_bn")(layers.Dense(3, name="head_dense")(base(outer_in, **call)))
    model = keras.Model(outer_in, layers.Dense(1, name="head_out")(x))
    if trained:
        norm = base.get_layer("bn")
        norm.set_weights([np.full(5, v, np.float32) for v in (1.0, 0.0, 0.3, 2.0)])
    model.compile(sgd(), "mse")
    return model


def norm_of(model):
    return model.get_layer("base").get_layer("bn")


def means(model):
    return [as_array(h.vectors()[0]).tobytes() for h in take_snapshot(model).handles]


VALUES = [None, True, False]


@pytest.mark.parametrize("outer", VALUES)
@pytest.mark.parametrize("inner", VALUES)
@pytest.mark.parametrize("forced", [False, True], ids=["plain", "forced"])
def test_the_mode_table_is_what_happens_to_a_training_that_is_written_down(inner, outer, forced):
    model = written(inner, outer)
    if forced:
        bng.force_inference(model)
    guard = bng.BNGuard(on_finding=lambda finding: None)
    before = means(model)
    model.fit(*data(24), batch_size=8, verbose=0, callbacks=[guard])
    changed = [old != new for old, new in zip(before, means(model))]
    assert [mode.will is RunMode.TRAINING for mode in guard.report.modes] == changed
    if forced:
        for mode in guard.report.modes:
            expected = Verification.VERIFIED if mode.forced_inference else None
            assert mode.verification is expected


@pytest.mark.parametrize("train", ["head*", "*"])
@pytest.mark.parametrize("batch_norm", ["inference", "affine-only", "train", "follow"])
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "new"])
@pytest.mark.parametrize("outer", VALUES)
def test_the_plan_of_a_phase_is_what_happens(outer, trained, batch_norm, train):
    model = written(None, outer, trained)
    phase = bng.Phase("one", train=train, batch_norm=batch_norm)
    scheduler = bng.PhaseScheduler([phase], verbose=0)
    if outer is False and batch_norm == "train" and not IS_KERAS3:
        with pytest.raises(bng.ScheduleError, match=r"phase 'one'.*base/bn.*training=False"):
            model.fit(*data(24), verbose=0, callbacks=[scheduler])
        return
    (planned,) = make_plan(built_model(model), scheduler.phases)
    before = means(model)
    model.fit(*data(24), batch_size=8, verbose=0, callbacks=[scheduler])
    handles = take_snapshot(model).handles
    changed = [h.path for h, a, b in zip(handles, before, means(model)) if a != b]
    assert changed == list(planned.training)


# ----------------------------------------------------------------- the same proof everywhere
def hard_wired():
    model = in_graph(AlwaysTraining(name="bn"))
    model.get_layer("bn").set_weights([np.full(5, v, np.float32) for v in (1, 0, 0.3, 2)])
    model.compile(sgd(), "mse")
    return model


def test_a_phase_that_cannot_force_ends_training_or_warns():
    phases = [bng.Phase("one", train="*", batch_norm="affine-only")]
    with pytest.raises(bng.InferenceNotForcedError, match="bn"):
        hard_wired().fit(*data(8), verbose=0, callbacks=[bng.PhaseScheduler(phases, verbose=0)])
    scheduler = bng.PhaseScheduler(phases, verbose=0, on_failure="warn")
    with pytest.warns(bng.BNGuardWarning, match="bn"):
        hard_wired().fit(*data(8), verbose=0, callbacks=[scheduler])
    with pytest.raises(bng.SettingError):
        bng.PhaseScheduler(phases, on_failure="never")


@pytest.mark.parametrize("on_failure", ["raise", "warn"])
def test_the_mixin_proves_it_too(on_failure):
    class Mine(bng.GuardedTrainStep, keras.Model):
        pass

    Mine.on_failure = on_failure
    plain = below_frozen(AlwaysTraining(name="bn"))
    model = Mine(plain.input, plain.output)
    model.compile(sgd(), "mse")
    expected = (
        pytest.raises(bng.InferenceNotForcedError)
        if on_failure == "raise"
        else pytest.warns(bng.BNGuardWarning)
    )
    with expected:
        model.fit(*data(8), verbose=0)


def below_frozen(norm):
    """A BN that trains in a model that is frozen."""
    inputs = keras.Input((4,))
    base = keras.Model(inputs, norm(layers.Dense(5)(inputs)), name="base")
    outer = keras.Input((4,))
    model = keras.Model(outer, layers.Dense(1)(base(outer)))
    norm.set_weights([np.full(5, v, np.float32) for v in (1, 0, 0.3, 2)])
    base.trainable = False
    norm.trainable = True
    model.compile(sgd(), "mse")
    return model


def test_a_repair_that_does_not_work_is_reported_as_none():
    model = below_frozen(AlwaysTraining(name="bn"))
    guard = bng.BNGuard(on_finding=lambda finding: None, fix=True)
    model.fit(*data(24), batch_size=8, verbose=0, callbacks=[guard])
    report = guard.report
    found = [f for f in report.findings if f.code == "BNG102"]
    assert [f.repaired for f in found] == [None]
    assert any("base/bn cannot be forced" in line for line in report.repairs)
    (mode,) = report.modes
    assert mode.verification is Verification.FAILED
    assert mode.will is RunMode.TRAINING


# ----------------------------------------------------------------------------- blocks
def eager_steps(model, x):
    for _ in range(2):
        model(x, training=True)


@pytest.mark.parametrize("kind", ["keras", "keywords", "inside", "subclassed"])
def test_a_block_around_a_custom_loop_is_verified(kind):
    model, x = FORCED[kind](), data(8)[0]
    before = means(model)
    with bng.force_inference(model, layers="*") as handle:
        eager_steps(model, keras.ops.convert_to_tensor(x) if IS_KERAS3 else x)
    assert means(model) == before
    assert set(handle.verified.values()) == {Verification.VERIFIED}


@pytest.mark.parametrize("kind", ["always_training", "updates_always", "fold"])
def test_a_block_around_a_custom_loop_refuses_what_it_cannot_force(kind):
    model, x = REFUSED[kind](), data(8)[0]
    before = means(model)
    with pytest.raises(bng.InferenceNotForcedError), bng.force_inference(model, layers="*"):
        eager_steps(model, keras.ops.convert_to_tensor(x) if IS_KERAS3 else x)
    assert means(model) == before


def test_a_block_names_bn_that_changed_without_a_call_and_restores_them():
    model = FORCED["keras"]()
    norm, before = model.get_layer("bn"), means(model)
    with pytest.raises(bng.InferenceNotForcedError, match=r"^bn \("):  # noqa: SIM117
        with bng.force_inference(model, layers="*"):
            norm.moving_mean.assign(norm.moving_mean + 1.0)
    assert means(model) == before


def test_an_exception_that_leaves_a_block_is_the_users():
    model = FORCED["keras"]()
    norm = model.get_layer("bn")
    with pytest.raises(ZeroDivisionError), bng.force_inference(model, layers="*"):
        raise ZeroDivisionError(norm.moving_mean.assign(norm.moving_mean + 1.0))


def test_statistics_that_are_loaded_inside_a_block_stay_with_a_warning():
    model, x = FORCED["keras"](), data(8)[0]
    new = [np.full(5, 3.0, np.float32)] * 4
    with pytest.warns(bng.BNGuardWarning, match="assigned"), bng.force_inference(model, layers="*"):
        model.predict(x, verbose=0), model.get_layer("bn").set_weights(new)
    assert as_array(model.get_layer("bn").moving_mean).tolist() == [3.0] * 5


# ------------------------------------------------------------------------------ Keras 2
GRAPH_MODE = """
import tensorflow as tf
tf.compat.v1.disable_eager_execution()
from tests.stack import keras
import keras_bnguard as bng
inputs = keras.Input((4,))
model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
model.compile("sgd", "mse")
def refused(run):
    try:
        run()
    except bng.UnsupportedModelError as error:
        return "graph mode" in str(error)
import numpy as np
x = np.zeros((8, 4), "float32")
class Mine(bng.GuardedTrainStep, keras.Model):
    pass
class Last(keras.Model, bng.GuardedTrainStep):
    pass
mine, last = Mine(inputs, model.output), Last(inputs, model.output)
mine.compile("sgd", "mse"), last.compile("sgd", "mse")
phases = bng.PhaseScheduler([bng.Phase("one", train="*", batch_norm="affine-only")], verbose=0)
print([
    refused(lambda: bng.force_inference(model)),
    refused(lambda: mine.fit(x, x, verbose=0)),
    refused(lambda: mine.train_on_batch(x, x)),
    refused(lambda: last.fit(x, x, verbose=0)),
    refused(lambda: model.fit(x, x, verbose=0, callbacks=[phases])),
])
"""


@pytest.mark.skipif(IS_KERAS3, reason="Keras 3 has no graph mode")
def test_graph_mode_is_refused():
    command = [sys.executable, "-c", GRAPH_MODE]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip().endswith(str([True] * 5)), result.stdout[-500:]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="SavedModel folders are TensorFlow's")
def test_a_model_is_saved_inside_a_block(tmp_path):
    import tensorflow as tf

    model, (x, y) = written(None, None), data(24)
    model.fit(x, y, verbose=0)
    with bng.force_inference(model, layers="*"):
        tf.saved_model.save(model, str(tmp_path / "saved"))
        if not IS_KERAS3:
            model.save(str(tmp_path / "folder"), save_format="tf")
            checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "checkpoint"))
            model.fit(x, y, verbose=0, callbacks=[checkpoint])
    if not IS_KERAS3:
        loaded = keras.models.load_model(str(tmp_path / "folder"))
        before = means(loaded)
        loaded.fit(x, y, verbose=0)
        assert means(loaded) != before
    assert STACK
