"""An internal error while BN are forced never ends the training, and claims nothing."""

from __future__ import annotations

import pytest

import keras_bnguard as bng
from keras_bnguard.inference import step_check, steps
from keras_bnguard.records import Verification
from tests.builders import models

PLACES = [(steps, "take_snapshot"), (steps, "make_forced_inference"), (steps, "_structure")]
PLACES += [(step_check, "statistics_of")]


def broken(*args, **kwargs):
    raise RuntimeError("a fault of ours")


@pytest.mark.parametrize("how", ["fit", "train_on_batch"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[1])
@pytest.mark.filterwarnings("ignore::keras_bnguard.errors.InternalErrorWarning")
def test_training_goes_on_as_without_this_package(place, how, monkeypatch):
    handle = bng.force_inference(models.compiled(model := models.frozen_parent()))
    monkeypatch.setattr(*place, broken)
    x, y = models.data()
    if how == "fit":
        model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    else:
        model.train_on_batch(x, y)
    monkeypatch.undo()
    compared = {Verification.UNCHANGED, Verification.VERIFIED}
    if place[0] is steps:
        assert compared.isdisjoint(handle.verified.values())
    handle.release()
