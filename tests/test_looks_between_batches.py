"""`every=N`: most looks between batches are glances, and a glance misses nothing that matters."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.callbacks import run as guard_run
from keras_bnguard.inventory import take_inventory
from keras_bnguard.observation import StatWatch
from tests.models import data, sgd, transfer
from tests.stack import keras

BATCHES, BATCH = 60, 8


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
    guard = bng.BNGuard(every=1, ignore="BNG301")
    with_it, without = trained(guard), trained()
    assert [w.tobytes() for w in with_it.get_weights()] == [
        w.tobytes() for w in without.get_weights()
    ]
    assert guard.report.steps == BATCHES
    assert not guard.report.findings
    assert not guard.report.notes


@pytest.mark.parametrize("batch", [5, 27])
def test_what_goes_bad_is_told_at_its_own_batch(batch):
    found = []
    trained(bng.BNGuard(every=1, on_finding=found.append), poison=batch)
    first = [finding for finding in found if finding.code == "BNG402"]
    assert [finding.moment for finding in first] == [f"batch {batch}"]
    assert set(first[0].layers) == {"base/bn", "head_bn"}


def test_drift_is_measured_at_the_first_looks_and_then_now_and_again():
    guard = bng.BNGuard(every=1, ignore="BNG301")
    trained(guard)
    between = [look for look in guard.report.drift if look.moment.startswith("batch")]
    assert [int(look.moment.split()[1]) + 1 for look in between] == [*range(1, 21), 32]
    assert [look.steps for look in between] == [*range(1, 21), 32]
    assert guard.report.drift[-1].moment == "epoch 0 end"


def test_a_long_run_keeps_a_bounded_history(monkeypatch):
    monkeypatch.setattr(guard_run, "_MANY_LOOKS", 10)
    guard = bng.BNGuard(every=1, ignore="BNG301")
    trained(guard)
    assert len(guard.report.drift) <= 11
    assert guard.report.drift[-1].moment == "epoch 0 end"


# --------------------------------------------------------------------- a glance
@pytest.fixture
def watched():
    """A watch of a frozen and a live BN, judged once after the live one has moved."""
    model = transfer()
    model.get_layer("base").trainable = False
    watch = StatWatch(take_inventory(model))
    live = model.get_layer("head_bn")
    live.set_weights([w + 0.5 for w in live.get_weights()])
    watch.look()
    assert not watch.quiet({}, 1)  # the first look has nothing to be compared with
    return watch, watch.live_reader(model).read().copy()


def test_a_glance_is_content_with_a_live_layer_that_moves_on(watched):
    watch, values = watched
    assert watch.glance(values)
    live = np.repeat([False, True, False, True], [5, 3, 5, 3])
    assert watch.glance(np.where(live, values * np.float32(1.5), values))


@pytest.mark.parametrize("index", [0, 4, 8, 12])
def test_a_glance_sees_one_bit_of_a_frozen_layer(watched, index):
    watch, values = watched
    values[index] = np.nextafter(values[index], np.float32(9))
    assert not watch.glance(values)


@pytest.mark.parametrize(("index", "value"), [(5, np.nan), (7, np.inf), (13, -1.0), (15, 1e-9)])
def test_a_glance_sees_a_layer_that_loses_its_health(watched, index, value):
    watch, values = watched
    values[index] = value
    assert not watch.glance(values)


def test_a_glance_sees_a_live_layer_that_went_back_to_its_start(watched):
    watch, values = watched
    values[5:8], values[13:16] = 0.0, 1.0
    assert not watch.glance(values)


def test_a_glance_without_a_judged_look_or_at_other_vectors_asks_for_a_look(watched):
    watch, values = watched
    assert not watch.glance(values[:-1])
    assert not StatWatch(take_inventory(transfer())).glance(values)
