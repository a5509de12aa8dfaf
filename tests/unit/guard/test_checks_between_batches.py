"""`every=N`: most checks between batches are quick, and miss nothing that matters."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.values.readers import ASKED_EVERY
from keras_bnguard.guard.tracking import drift_history
from keras_bnguard.guard.tracking.statistics_tracker import StatisticsTracker
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import Moment, MomentKind
from tests.builders.models import data, sgd, transfer
from tests.stack import BACKEND, keras

BATCHES, BATCH = 140, 8


def trained(*callbacks, poison=None):
    """A seeded epoch of 60 batches; `poison` is the batch whose inputs are NaN."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    model = transfer()
    model.compile(sgd(), "mse")
    x, y = data(BATCHES * BATCH)
    if poison is not None:
        x[poison * BATCH : (poison + 1) * BATCH] = np.nan
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=list(callbacks))
    return model


def test_between_batches_nothing_of_the_run_changes():
    guard = bng.BNGuard(every=1, ignore=["BNG301", "BNG407"])
    with_it, without = trained(guard), trained()
    assert [w.tobytes() for w in with_it.get_weights()] == [
        w.tobytes() for w in without.get_weights()
    ]
    assert guard.report.steps == BATCHES
    assert not guard.report.findings
    assert not guard.report.notes


@pytest.mark.parametrize("batch", [5, 27])
def test_a_layer_that_becomes_invalid_is_reported_at_that_batch(batch):
    found = []
    trained(bng.BNGuard(every=1, on_finding=found.append), poison=batch)
    first = [finding for finding in found if finding.code == "BNG402"]
    assert len(first) == 1
    found_at = first[0].moment.number
    # After the first 20 checks JAX is asked without waiting for it.
    late = 20 if BACKEND == "jax" and batch > 20 else 0
    assert batch <= found_at <= batch + late
    assert set(first[0].layers) == {"base/bn", "head_bn"}


def test_drift_is_measured_at_the_first_checks_and_then_now_and_again():
    guard = bng.BNGuard(every=1, ignore=["BNG301", "BNG407"])
    trained(guard)
    between = [check for check in guard.report.drift if check.moment.kind is MomentKind.BATCH_END]
    assert [check.moment.number + 1 for check in between] == [*range(1, 21), 128]
    assert [check.steps for check in between] == [*range(1, 21), 128]
    assert guard.report.drift[-1].moment == Moment(MomentKind.EPOCH_END, 0)


def test_a_long_run_keeps_a_bounded_history(monkeypatch):
    monkeypatch.setattr(drift_history, "MOST", 10)
    guard = bng.BNGuard(every=1, ignore=["BNG301", "BNG407"])
    trained(guard)
    assert len(guard.report.drift) <= 11
    assert guard.report.drift[-1].moment == Moment(MomentKind.EPOCH_END, 0)


# ------------------------------------------------------------------- a quick check
@pytest.fixture
def tracked():
    """A tracker of a frozen and a trainable BN, checked once after the latter was updated."""
    model = transfer()
    model.get_layer("base").trainable = False
    tracker = StatisticsTracker(take_snapshot(model))
    norm = model.get_layer("head_bn")
    norm.set_weights([w + 0.5 for w in norm.get_weights()])
    tracker.update()
    assert not tracker.is_unchanged({}, 1)  # The first check has nothing to be compared with.
    return tracker, tracker.live_reader(model).read().copy()


def test_a_trainable_layer_that_is_updated_further_needs_no_check(tracked):
    tracker, values = tracked
    assert tracker.screen.passes(values)
    trainable = np.repeat([False, True, False, True], [5, 3, 5, 3])
    assert tracker.screen.passes(np.where(trainable, values * np.float32(1.5), values))


@pytest.mark.parametrize("index", [0, 4, 8, 12])
def test_one_bit_of_a_frozen_layer_needs_a_check(tracked, index):
    tracker, values = tracked
    values[index] = np.nextafter(values[index], np.float32(9))
    assert not tracker.screen.passes(values)


@pytest.mark.parametrize(("index", "value"), [(5, np.nan), (7, np.inf), (13, -1.0), (15, 1e-9)])
def test_a_layer_that_becomes_invalid_needs_a_check(tracked, index, value):
    tracker, values = tracked
    values[index] = value
    assert not tracker.screen.passes(values)


def test_a_trainable_layer_that_went_back_to_its_start_needs_a_check(tracked):
    tracker, values = tracked
    values[5:8], values[13:16] = 0.0, 1.0
    assert not tracker.screen.passes(values)


def test_before_the_first_check_and_for_other_vectors_a_check_is_needed(tracked):
    tracker, values = tracked
    assert not tracker.screen.passes(values[:-1])
    assert not StatisticsTracker(take_snapshot(transfer())).screen.passes(values)


def test_a_check_is_unchanged_until_a_bit_of_a_frozen_layer_is(tracked):
    tracker, values = tracked
    tracker.update(values)
    assert tracker.is_unchanged({}, 1)
    assert not tracker.is_unchanged({}, 0)  # Whether a step was taken counts, too.
    values[0] = 9.0
    tracker.update(values)
    assert not tracker.is_unchanged({}, 0)


# --------------------------------- a screen: the quick check that a device can be asked for
NAN, INF = float("nan"), float("inf")
CHANGES = [
    (0, 0.1),  # frozen: updated
    (12, 1.5),
    (5, 9.0),  # trainable: updated further
    (13, 0.5),
    (5, NAN),  # trainable: becomes invalid
    (7, INF),
    (13, -1.0),
    (15, 1e-9),
    (4, -0.0),  # frozen: one bit
]


@pytest.mark.parametrize(("index", "value"), CHANGES)
def test_a_screen_passes_what_a_quick_check_passes(tracked, index, value):
    tracker, values = tracked
    screen = tracker.screen.screen()
    assert screen.passes(values)
    values[index] = value
    assert screen.passes(values) == tracker.screen.passes(values)
    assert screen is tracker.screen.screen()


def test_a_screen_does_not_ask_again_about_a_layer_that_was_invalid(tracked):
    tracker, values = tracked
    values[13] = -1.0
    tracker.update(values)
    tracker.is_unchanged({}, 1)
    assert tracker.screen.screen().passes(values)
    values[12] = 7.0
    assert not tracker.screen.screen().passes(values)


def test_there_is_no_screen_before_the_first_check():
    assert StatisticsTracker(take_snapshot(transfer())).screen.screen() is None


if BACKEND == "jax":

    @pytest.mark.parametrize(("index", "value"), CHANGES)
    def test_jax_answers_as_numpy_does(tracked, index, value):
        import jax.numpy as jnp

        tracker, values = tracked
        screen, model = tracker.screen.screen(), tracker._snapshot.model
        reader, kept = tracker.live_reader(model), model.non_trainable_variables

        def answer(vectors):
            """As if these were in an epoch's positional lists."""
            new = {id(v): part for v, part in zip(reader.variables, vectors)}
            state = [jnp.asarray(new.get(id(v), v.value)) for v in kept]
            model._jax_state, model._jax_state_synced = {"non_trainable_variables": state}, False
            try:
                for _ in range(2 * ASKED_EVERY):  # An answer comes at a later question.
                    reader.ask(screen)
                    reader._query._newest.block_until_ready()
                return all(reader.ask(screen) for _ in range(ASKED_EVERY))
            finally:
                model._jax_state_synced = True

        assert answer(np.split(values, [5, 8, 13]))
        values[index] = value
        assert answer(np.split(values, [5, 8, 13])) == screen.passes(values)
