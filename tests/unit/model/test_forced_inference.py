"""What is forced on a model, as requests, blocks and flags decide; no training runs here."""

from __future__ import annotations

import pytest

import keras_bnguard as bng
from keras_bnguard.model.forced_inference import (
    ForcedInferenceState,
    forces_in_step,
    mark_forced_inference,
)
from keras_bnguard.model.snapshot import take_snapshot
from tests.builders.models import frozen_parent, transfer


def marked(model):
    snapshot = take_snapshot(model)
    mark_forced_inference(snapshot)
    return {norm.path for norm in snapshot.inventory.norms if norm.forced_inference}


def test_nothing_is_forced_on_a_model_without_a_request():
    model = frozen_parent()
    assert not forces_in_step(model)
    assert marked(model) == set()
    assert ForcedInferenceState.of(model).empty


def test_requests_add_up_and_each_is_withdrawn_by_its_own_key():
    snapshot = take_snapshot(frozen_parent())
    bng.force_inference(snapshot.model)
    state = ForcedInferenceState.of(snapshot.model)
    state.add_request("head", "head_bn")
    assert set(state.step_paths(snapshot)) == {"base/bn", "head_bn"}
    assert state.withdraw_request("head")
    assert not state.withdraw_request("head")
    assert state.step_paths(snapshot) == ("base/bn",)


def test_a_snapshot_shows_what_step_and_block_force():
    model = transfer()
    with bng.force_inference(model, layers="head_bn"):
        bng.force_inference(model, layers="base/*")
        assert marked(model) == {"head_bn", "base/bn"}
    assert marked(model) == {"base/bn"}


def test_what_the_step_forces_follows_the_flags_of_the_layers_not_those_given():
    model = transfer()
    bng.force_inference(model)
    base = model.get_layer("base")
    snapshot = take_snapshot(model, flags={id(base): False})
    assert ForcedInferenceState.of(model).step_paths(snapshot) == ()
    base.trainable = False
    base.get_layer("bn").trainable = True
    assert ForcedInferenceState.of(model).step_paths(snapshot) == ("base/bn",)


def test_the_mixin_forces_without_a_request():
    base = frozen_parent()
    model = bng.GuardedModel(*_graph(base))
    assert forces_in_step(model)
    assert marked(model) == {"base/bn"}


def test_a_selector_that_matches_no_bn_is_an_error():
    state = ForcedInferenceState()
    state.add_request("key", "nothing")
    model = bng.GuardedModel(*_graph(transfer()))
    bng.force_inference(model)
    ForcedInferenceState.of(model).add_request("key", "nothing")
    with pytest.raises(bng.SelectorError, match="matches no BN"):
        mark_forced_inference(take_snapshot(model))


def _graph(model):
    return model.input, model.output
