"""`enable_warnings()` in the process itself: what is put in place, reported, and taken away."""

from __future__ import annotations

import gc
import importlib
import inspect
import sys
import threading
import warnings

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard import auto
from keras_bnguard.auto import guard_callback as silent
from keras_bnguard.auto import loops
from keras_bnguard.backends.registry import any_backend
from keras_bnguard.errors import BNGuardWarning, FindingError, InternalErrorWarning, SettingError
from keras_bnguard.records import ExpectedMode
from tests.builders.values import same
from tests.stack import STACK, keras

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = X[:, :1].copy()


@pytest.fixture(autouse=True)
def expected_errors():
    """Turns warnings off again; internal errors are those that a test puts in here, in order."""
    before = len(auto.internal_errors())
    expected = []
    yield expected
    bng.disable_warnings()
    errors = auto.internal_errors()[before:]
    assert [error.splitlines()[0] for error in errors] == expected


def model_of(name, frozen_parent=False):
    norm = keras.layers.BatchNormalization(name="bn")
    base = keras.Sequential([keras.layers.Input((4,)), norm], name="base")
    model = keras.Sequential([keras.layers.Input((4,)), base, keras.layers.Dense(1)], name=name)
    count = len(norm.get_weights()[0])
    norm.set_weights([np.full(count, 1.5, "float32")] * 4)  # as if it had been trained
    if frozen_parent:
        base.trainable = False
        norm.trainable = True
    model.compile("sgd", "mse")
    return model


def everything():
    """Every object that is replaced while warnings are on, as its class has it."""
    real = any_backend().keras
    places = [
        (real.Model, "fit"),
        (real.Model, "train_on_batch"),
        (real.Model, "__call__"),
        (real.Model, "evaluate"),
        (real.Model, "predict"),
        (real.Model, "compile"),
        (real.Model, "load_weights"),
        (real.Model, "make_train_function"),
        (real.layers.Layer, "set_weights"),
        (real.layers.Layer, "trainable"),
        (real.layers.BatchNormalization, "trainable"),
        (real.optimizers.Optimizer, "apply"),
        (real.optimizers.Optimizer, "apply_gradients"),
        (real.optimizers.Optimizer, "stateless_apply"),
    ]
    objects = [cls.__dict__.get(name) for cls, name in places]
    objects += [
        next((c.__dict__[n] for c in cls.__mro__ if n in c.__dict__), 0) for cls, n in places
    ]
    return [*objects, *sys.meta_path]


def test_off_leaves_the_very_same_objects():
    before = everything()
    for _ in range(2):
        bng.enable_warnings()
        bng.enable_warnings(select="BNG1")
        assert any(a is not b for a, b in zip(before, everything()))
        bng.disable_warnings()
        bng.disable_warnings()
    after = everything()
    assert len(before) == len(after)
    assert all(a is b for a, b in zip(before, after))


HOOKED = [
    "fit",
    "train_on_batch",
    "evaluate",
    "predict",
    "compile",
    "load_weights",
    "make_train_function",
]


def owner_of(name):
    return next(cls for cls in any_backend().keras.Model.__mro__ if name in cls.__dict__)


@pytest.mark.parametrize("name", HOOKED)
def test_a_patch_that_was_made_while_warnings_were_on_stays_when_they_are_off(name):
    owner = owner_of(name)
    before = owner.__dict__[name]
    bng.enable_warnings()
    ours, calls = owner.__dict__[name], []

    def theirs(model, *args, **kwargs):
        calls.append(name)
        return ours(model, *args, **kwargs)

    try:
        setattr(owner, name, theirs)
        bng.disable_warnings()
        assert owner.__dict__[name] is theirs
        model = model_of("patched", frozen_parent=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error", BNGuardWarning)
            model.fit(X, Y, verbose=0)
            model.train_on_batch(X, Y)
            model.evaluate(X, Y, verbose=0)
            model.predict(X, verbose=0)
        assert calls or name == "load_weights"
        setattr(owner, name, ours)  # As `unittest.mock` does that was entered while they were on.
        if name == "load_weights":
            with pytest.raises((ValueError, OSError)):
                model.load_weights("no_such_file.weights.h5")
        else:
            model_of("back").fit(X, Y, verbose=0)
            model.train_on_batch(X, Y)
            model.evaluate(X, Y, verbose=0)
            model.predict(X, verbose=0)
        assert owner.__dict__[name] is before
    finally:
        setattr(owner, name, before)


def test_a_patch_of_fit_is_watched_once_where_warnings_go_off_and_on_again():
    owner = owner_of("fit")
    before = owner.__dict__["fit"]
    bng.enable_warnings()
    ours = owner.__dict__["fit"]
    try:
        owner.fit = lambda model, *args, **kwargs: ours(model, *args, **kwargs)
        theirs = owner.__dict__["fit"]
        bng.disable_warnings()
        bng.enable_warnings()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model_of("again", frozen_parent=True).fit(X, Y, verbose=0)
        assert [report.codes for report in auto.reports()] == [("BNG102", "BNG404")]
        ours = [str(each.message) for each in caught if each.category is BNGuardWarning]
        assert len(ours) == len(set(ours)) == 2
        bng.disable_warnings()
        assert owner.__dict__["fit"] is theirs
    finally:
        owner.fit = before


@pytest.mark.parametrize("name", HOOKED)
def test_hooks_have_the_name_and_the_source_of_what_they_call(name):
    plain = getattr(keras.Model, name)
    source = inspect.getsource(plain)
    bng.enable_warnings()
    hooked = getattr(keras.Model, name)
    assert hooked is not plain
    assert inspect.getsource(hooked) == source
    assert hooked.__code__.co_name == hooked.__name__ == name


def test_off_inside_fit_leaves_the_very_same_objects_after_it():
    before = everything()
    bng.enable_warnings()
    off = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: bng.disable_warnings())
    model_of("m").fit(X, Y, verbose=0, callbacks=[off])
    assert all(a is b for a, b in zip(before, everything()))


def test_a_fit_warns_at_the_users_line_and_only_once_a_model():
    bng.enable_warnings()
    model = model_of("m", frozen_parent=True)
    with pytest.warns(BNGuardWarning) as caught:
        model.fit(X, Y, verbose=0)
    assert any("BNG102" in str(w.message) for w in caught)
    assert {w.filename for w in caught if "BNG102" in str(w.message)} == {__file__}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="BNG102", category=BNGuardWarning)
        warnings.filterwarnings("ignore", message="BNG4", category=BNGuardWarning)
        model.fit(X, Y, verbose=0)
    assert [report.model for report in auto.reports()] == ["m", "m"]
    assert all("BNG102" in report.codes for report in auto.reports())


def test_history_and_the_users_list_stay_as_they_were():
    bng.enable_warnings()
    mine = [keras.callbacks.LambdaCallback()]
    history = model_of("m").fit(X, Y, verbose=0, callbacks=mine)
    assert list(history.history) == ["loss"]
    assert len(mine) == 1


def test_a_model_that_is_loaded_is_compiled_as_without(tmp_path):
    """Keras 3 leaves a model uncompiled where its `compile` is not that of Keras."""
    path = str(tmp_path / "m.keras")
    model_of("m").save(path)
    before = keras.models.load_model(path)
    bng.enable_warnings()
    after = keras.models.load_model(path)
    assert (after.optimizer is None) == (before.optimizer is None) is False
    loaded = []
    load = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: loaded.append(keras.models.load_model(path))
    )
    after.fit(X, Y, verbose=0, callbacks=[load])
    assert loaded[0].optimizer is not None


def test_a_model_that_is_compiled_again_trains_with_its_new_loss():
    """JAX goes on with what it traced while anybody keeps the old step alive."""

    def trained(how):
        model = model_of("m")
        for metric in ("mse", "mae"):
            model.compile("sgd", "mse", metrics=[metric])
            logs = how(model)
        return sorted(logs)

    def fit(model):
        return model.fit(X, Y, verbose=0).history

    def on_batch(model):
        return model.train_on_batch(X, Y, return_dict=True)

    gc.collect()
    gc.disable()  # The collector comes when it comes, and would hide what keeps steps alive.
    try:
        plain = [trained(how) for how in (fit, on_batch)]
        bng.enable_warnings()
        assert [trained(how) for how in (fit, on_batch)] == plain
    finally:
        gc.enable()


def test_a_callback_list_gets_the_guard_for_the_length_of_fit():
    bng.enable_warnings()
    model = model_of("m")
    listed = keras.callbacks.CallbackList(
        [], add_history=True, add_progbar=False, model=model, epochs=1, verbose=0, steps=1
    )
    count = len(listed.callbacks)
    model.fit(X, Y, verbose=0, callbacks=listed)
    assert len(listed.callbacks) == count
    assert [report.model for report in auto.reports()] == ["m"]


def test_the_users_own_guard_is_the_only_one():
    bng.enable_warnings()
    guard = bng.BNGuard(on_finding=lambda finding: None)
    model_of("m").fit(X, Y, verbose=0, callbacks=[guard])
    (report,) = auto.reports()
    assert report.findings == guard.report.findings
    assert report.outcomes == guard.report.outcomes


def test_settings_reach_the_guard():
    bng.enable_warnings(on_finding="raise")
    with pytest.raises(FindingError, match="BNG102"):
        model_of("m", frozen_parent=True).fit(X, Y, verbose=0)
    bng.enable_warnings(ignore="BNG102,BNG404,BNG406,BNG504")
    with warnings.catch_warnings():
        warnings.simplefilter("error", BNGuardWarning)
        model_of("n", frozen_parent=True).fit(X, Y, verbose=0)


def test_an_unknown_setting_changes_nothing(monkeypatch):
    monkeypatch.setenv("BNGUARD", "slect=BNG1")
    before = everything()
    with pytest.raises(SettingError, match="Did you mean select"):
        bng.enable_warnings()
    assert all(a is b for a, b in zip(before, everything()))


def test_train_on_batch_is_watched_and_raises_nothing_for_right_code():
    bng.enable_warnings(on_finding="raise")
    model = model_of("m")
    for _ in range(5):
        model.train_on_batch(X, Y)
    (report,) = auto.reports()
    assert report.steps == 4
    assert [check.steps for check in report.drift] == [1, 2, 4]
    bng.disable_warnings()
    assert [check.steps for check in auto.reports()[0].drift] == [1, 2, 4, 5]


def test_flags_that_change_and_compile_begin_a_new_watch():
    bng.enable_warnings(on_finding="raise", ignore="BNG406")
    model = model_of("m")
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    for _ in range(3):
        model.train_on_batch(X, Y)
    model.layers[0].trainable = True
    model.compile("sgd", "mse")
    for _ in range(3):
        model.train_on_batch(X, Y)
    assert [report.modes[0].expected for report in auto.reports()] == [
        ExpectedMode.INFERENCE,
        ExpectedMode.TRAINING,
    ]


def test_a_gan_that_was_traced_before_is_silent_too():
    inner = model_of("inner")
    inner.train_on_batch(X, Y)
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, inner(keras.layers.Dense(4)(inputs)), name="outer")
    inner.trainable = False
    outer.compile("sgd", "mse")
    outer.train_on_batch(X, Y)
    bng.enable_warnings(on_finding="raise", ignore="BNG406")
    for _ in range(5):
        inner.trainable = True
        inner.train_on_batch(X, Y)
        inner.trainable = False
        outer.train_on_batch(X, Y)
    assert {report.model for report in auto.reports()} == {"inner", "outer"}
    assert all(report.steps and not report.codes for report in auto.reports())


def test_loaded_weights_are_not_taken_for_training():
    bng.enable_warnings(on_finding="raise")
    model = model_of("m")
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    model.train_on_batch(X, Y)
    model.set_weights([value + 1 for value in model.get_weights()])
    for _ in range(3):
        model.train_on_batch(X, Y)
    bng.disable_warnings()
    assert auto.reports()
    assert all(report.steps and not report.codes for report in auto.reports())


def test_threads_that_switch_and_train_do_no_harm():
    before = everything()
    models = [model_of(f"m{i}") for i in range(2)]
    problems = []

    def turn_on_and_off():
        for _ in range(20):
            bng.enable_warnings()
            bng.disable_warnings()

    def train(model):
        try:
            for _ in range(3):
                model.train_on_batch(X, Y)
        except Exception as error:
            problems.append(error)

    work = [threading.Thread(target=turn_on_and_off) for _ in range(2)]
    work += [threading.Thread(target=train, args=(model,)) for model in models]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    bng.disable_warnings()
    assert problems == []
    assert all(a is b for a, b in zip(before, everything()))


def test_an_internal_error_never_reaches_the_user(monkeypatch, expected_errors):
    """Every one is noted once, in order; the first one is a warning, and training is the same."""

    def trained():
        keras.utils.set_random_seed(4)
        model = model_of("m")
        model.fit(X, Y, shuffle=False, verbose=0)
        fit = len(raised)
        model.train_on_batch(X, Y)
        return model.get_weights(), fit

    def broken(*args, **kwargs):
        raised.append(f"RuntimeError('error {len(raised)} of ours')")
        raise RuntimeError(f"error {len(raised) - 1} of ours")

    raised = []
    plain, _ = trained()
    monkeypatch.setattr(silent, "auto_guard", broken)
    monkeypatch.setattr(loops.Loops, "_begin", broken)
    bng.enable_warnings()
    with pytest.warns(InternalErrorWarning) as caught:
        weights, fit = trained()
    assert 0 < fit < len(raised)
    expected_errors += raised
    assert [w.category for w in caught].count(InternalErrorWarning) == 1
    assert same(weights, plain)


@pytest.mark.parametrize(
    ("where", "name", "what"),
    [("step", "update_methods", "custom training loops"), ("graph", "node_class", "lines of")],
)
def test_a_part_that_cannot_be_put_in_place_leaves_the_others_and_is_reported(
    where, name, what, monkeypatch, expected_errors
):
    def missing(*args):
        raise AttributeError(f"no {name} here")

    monkeypatch.setattr(type(getattr(any_backend(), where)), name, missing)
    expected_errors.append(f"AttributeError('no {name} here')")
    model = model_of(f"without_{name}", frozen_parent=True)
    with warnings.catch_warnings(record=True):  # Internal errors are a warning once a process.
        warnings.simplefilter("always")
        bng.enable_warnings()
        model.fit(X, Y, verbose=0)
        model.fit(X, Y, verbose=0)
    reports = [report for report in auto.reports() if "BNG102" in report.codes]
    assert len(reports) == 2
    for report in reports:
        (line,) = [note for note in report.notes if note.startswith("not watched: ")]
        assert what in line
        assert f"no {name} here" in line
    monkeypatch.undo()
    bng.disable_warnings()
    bng.enable_warnings()
    assert not any("not watched" in note for r in auto.reports() for note in r.notes)


def test_a_keras_imported_later_gets_its_hooks(tmp_path, monkeypatch):
    """A package of that name that is no Keras at all does no harm, and stays as it is."""
    if STACK == "tfk":
        pytest.skip("tf_keras is the Keras under test")
    saved = sys.modules.pop("tf_keras", None)
    (tmp_path / "tf_keras.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    bng.enable_warnings()
    try:
        module = importlib.import_module("tf_keras")
        assert module.VALUE == 3
        assert "exec_module" not in vars(module.__spec__.loader)
    finally:
        sys.modules.pop("tf_keras", None)
        if saved is not None:
            sys.modules["tf_keras"] = saved
