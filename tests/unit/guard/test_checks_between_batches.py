"""`every=N`: most looks between batches are glances, and a glance misses nothing that matters."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.values.readers import ASKED_EVERY
from keras_bnguard.guard import run as guard_run
from keras_bnguard.guard.statistics_tracker import StatisticsTracker
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
def test_what_goes_bad_is_told_when_it_does(batch):
    found = []
    trained(bng.BNGuard(every=1, on_finding=found.append), poison=batch)
    first = [finding for finding in found if finding.code == "BNG402"]
    assert len(first) == 1
    told = first[0].moment.number
    # After the first 20 looks JAX is asked without waiting for it.
    late = 20 if BACKEND == "jax" and batch > 20 else 0
    assert batch <= told <= batch + late
    assert set(first[0].layers) == {"base/bn", "head_bn"}


def test_drift_is_measured_at_the_first_looks_and_then_now_and_again():
    guard = bng.BNGuard(every=1, ignore=["BNG301", "BNG407"])
    trained(guard)
    between = [look for look in guard.report.drift if look.moment.kind is MomentKind.BATCH_END]
    assert [look.moment.number + 1 for look in between] == [*range(1, 21), 128]
    assert [look.steps for look in between] == [*range(1, 21), 128]
    assert guard.report.drift[-1].moment == Moment(MomentKind.EPOCH_END, 0)


def test_a_long_run_keeps_a_bounded_history(monkeypatch):
    monkeypatch.setattr(guard_run, "_MANY_LOOKS", 10)
    guard = bng.BNGuard(every=1, ignore=["BNG301", "BNG407"])
    trained(guard)
    assert len(guard.report.drift) <= 11
    assert guard.report.drift[-1].moment == Moment(MomentKind.EPOCH_END, 0)


# --------------------------------------------------------------------- a glance
@pytest.fixture
def watched():
    """A watch of a frozen and a live BN, judged once after the live one has moved."""
    model = transfer()
    model.get_layer("base").trainable = False
    watch = StatisticsTracker(take_snapshot(model))
    live = model.get_layer("head_bn")
    live.set_weights([w + 0.5 for w in live.get_weights()])
    watch.look()
    assert not watch.unchanged({}, 1)  # the first look has nothing to be compared with
    return watch, watch.live_reader(model).read().copy()


def test_a_glance_is_content_with_a_live_layer_that_moves_on(watched):
    watch, values = watched
    assert watch.quick_check(values)
    live = np.repeat([False, True, False, True], [5, 3, 5, 3])
    assert watch.quick_check(np.where(live, values * np.float32(1.5), values))


@pytest.mark.parametrize("index", [0, 4, 8, 12])
def test_a_glance_sees_one_bit_of_a_frozen_layer(watched, index):
    watch, values = watched
    values[index] = np.nextafter(values[index], np.float32(9))
    assert not watch.quick_check(values)


@pytest.mark.parametrize(("index", "value"), [(5, np.nan), (7, np.inf), (13, -1.0), (15, 1e-9)])
def test_a_glance_sees_a_layer_that_loses_its_health(watched, index, value):
    watch, values = watched
    values[index] = value
    assert not watch.quick_check(values)


def test_a_glance_sees_a_live_layer_that_went_back_to_its_start(watched):
    watch, values = watched
    values[5:8], values[13:16] = 0.0, 1.0
    assert not watch.quick_check(values)


def test_a_glance_without_a_judged_look_or_at_other_vectors_asks_for_a_look(watched):
    watch, values = watched
    assert not watch.quick_check(values[:-1])
    assert not StatisticsTracker(take_snapshot(transfer())).quick_check(values)


# --------------------------------------------- a screen: the glance that a device can be asked
NAN, INF = float("nan"), float("inf")
CHANGES = [
    (0, 0.1),  # frozen: moves
    (12, 1.5),
    (5, 9.0),  # live: moves on
    (13, 0.5),
    (5, NAN),  # live: loses its health
    (7, INF),
    (13, -1.0),
    (15, 1e-9),
    (4, -0.0),  # frozen: one bit
]


@pytest.mark.parametrize(("index", "value"), CHANGES)
def test_a_screen_lets_pass_what_a_glance_is_content_with(watched, index, value):
    watch, values = watched
    screen = watch.screen()
    assert screen.passes(values)
    values[index] = value
    assert screen.passes(values) == watch.quick_check(values)
    assert screen is watch.screen()


def test_a_screen_does_not_ask_again_about_a_layer_known_to_be_sick(watched):
    watch, values = watched
    values[13] = -1.0
    watch.look(values)
    watch.unchanged({}, 1)
    assert watch.screen().passes(values)
    values[12] = 7.0
    assert not watch.screen().passes(values)


def test_there_is_no_screen_before_the_first_judged_look():
    assert StatisticsTracker(take_snapshot(transfer())).screen() is None


if BACKEND == "jax":

    @pytest.mark.parametrize(("index", "value"), CHANGES)
    def test_jax_answers_as_numpy_does(watched, index, value):
        import jax.numpy as jnp

        watch, values = watched
        screen, model = watch.screen(), watch._snapshot.model
        reader, kept = watch.live_reader(model), model.non_trainable_variables

        def answer(vectors):
            """As if these were in an epoch's positional lists."""
            new = {id(v): part for v, part in zip(reader.variables, vectors)}
            state = [jnp.asarray(new.get(id(v), v.value)) for v in kept]
            model._jax_state, model._jax_state_synced = {"non_trainable_variables": state}, False
            try:
                for _ in range(2 * ASKED_EVERY):  # An answer comes when it is asked again.
                    reader.ask(screen)
                    reader._asked._newest.block_until_ready()
                return all(reader.ask(screen) for _ in range(ASKED_EVERY))
            finally:
                model._jax_state_synced = True

        assert answer(np.split(values, [5, 8, 13]))
        values[index] = value
        assert answer(np.split(values, [5, 8, 13])) == screen.passes(values)
