"""Callbacks in a CallbackList that the user made before `fit` do what they do in a list."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.schedules import IS_KERAS3, keras

C = keras.callbacks
x, y = r.data()


def trained(wrapped: Callable[[Any, List[Any]], Any], callbacks: List[Any], epochs: int) -> Any:
    keras.utils.set_random_seed(1)
    model = r.compiled(r.transfer())
    model.fit(
        x, y, batch_size=r.BATCH, shuffle=False, verbose=0, epochs=epochs,
        callbacks=wrapped(model, callbacks),
    )  # fmt: skip
    return model


def plain(model: Any, callbacks: List[Any]) -> Any:
    return callbacks


def with_model(model: Any, callbacks: List[Any]) -> Any:
    return C.CallbackList(callbacks, model=model, add_history=True)


def without_model(model: Any, callbacks: List[Any]) -> Any:
    return C.CallbackList(callbacks)


# Keras 3 itself ends such a `fit` with an AttributeError: nothing has made `model.history`.
LISTS = [with_model] + ([] if IS_KERAS3 else [without_model])


@pytest.mark.parametrize("wrapped", LISTS)
@pytest.mark.parametrize("warmup", [0, 4])
def test_phases_with_guard_and_recalibration_end_with_the_same_bits(wrapped, warmup):
    def callbacks() -> List[Any]:
        phases = r.head_then_all(2, 2, warmup=warmup)
        return [bng.BNGuard(on_finding="log"), r.scheduler(phases), bng.Recalibrate(x)]

    in_a_list, listed = callbacks(), callbacks()
    expected = trained(plain, in_a_list, 4)
    found = trained(wrapped, listed, 4)
    assert r.same(r.weights(found), r.weights(expected))
    assert r.same(r.optimizer_variables(found), r.optimizer_variables(expected))
    guard, schedule, recalibrate = listed
    assert [row["phase"] for row in schedule.history] == ["head", "head", "all", "all"]
    assert guard.faults == ()
    assert [f.code for f in guard.report.findings] == [f.code for f in in_a_list[0].report.findings]
    assert recalibrate.result.after.keys() == in_a_list[2].result.after.keys()


@pytest.mark.parametrize("backup_first", [True, False])
def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path, backup_first):
    class Stop(C.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 3:
                raise KeyboardInterrupt

    def callbacks(folder: Any) -> List[Any]:
        pair = [r.scheduler(r.head_then_all(2, 3)), C.BackupAndRestore(str(folder))]
        return pair[::-1] if backup_first else pair

    expected = trained(with_model, callbacks(tmp_path / "a"), 5)
    with pytest.raises(KeyboardInterrupt):
        trained(with_model, [*callbacks(tmp_path / "b"), Stop()], 5)
    found = trained(with_model, callbacks(tmp_path / "b"), 5)
    assert r.same(r.weights(found), r.weights(expected))
    assert r.same(r.optimizer_variables(found), r.optimizer_variables(expected))


def test_one_list_serves_two_fits():
    model = r.compiled(r.transfer())
    schedule = r.scheduler(r.head_then_all(1, 1))
    listed = with_model(model, [schedule])
    for _ in range(2):
        model.fit(x, y, batch_size=r.BATCH, verbose=0, epochs=2, callbacks=listed)
        assert [row["phase"] for row in schedule.history] == ["head", "all"]
