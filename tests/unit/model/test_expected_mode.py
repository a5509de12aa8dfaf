"""The mode a BN should run in, will run in here and ran in: one table each."""

from __future__ import annotations

import pytest

from keras_bnguard.model.expected_mode import (
    did_run,
    expected_mode,
    modes,
    norms_to_force,
    will_run,
)
from keras_bnguard.records import ExpectedMode, NormBehaviour, NormKind, RunMode
from tests.builders.facts import call, inventory, norm, site, stack

ALWAYS_BATCH = NormBehaviour(trainable_updates=True, frozen_updates=True, frozen_uses_batch=True)
NORMALISES = NormBehaviour(trainable_updates=True, frozen_updates=False, frozen_uses_batch=True)
DROPS = NormBehaviour(trainable_updates=False, frozen_updates=False, frozen_uses_batch=False)


@pytest.mark.parametrize(
    ("settings", "sites", "mode", "why"),
    [
        ({}, None, ExpectedMode.TRAINING, "trainable"),
        ({}, (), ExpectedMode.TRAINING, "trainable"),
        ({"trainable": False}, None, ExpectedMode.INFERENCE, "its own trainable is False"),
        (
            {"frozen_ancestors": ("a", "a/b")},
            None,
            ExpectedMode.INFERENCE,
            "a/b around it is frozen",
        ),
        ({"forced_inference": True}, None, ExpectedMode.INFERENCE, "forced by keras_bnguard"),
        (
            {"calls": (call(False, "base"),)},
            None,
            ExpectedMode.INFERENCE,
            "called with training=False at base",
        ),
        ({"calls": (call(False), call(None))}, None, ExpectedMode.TRAINING, "trainable"),
        ({"calls": (call(True),)}, None, ExpectedMode.TRAINING, "trainable"),
        (
            {},
            (site(explicit=False),),
            ExpectedMode.INFERENCE,
            "every call of it passes training=False",
        ),
        ({}, (site(explicit=False), site(explicit=None)), ExpectedMode.TRAINING, "trainable"),
        # The flag is named before all else, as it is what the user can change.
        (
            {"trainable": False, "forced_inference": True, "calls": (call(False),)},
            None,
            ExpectedMode.INFERENCE,
            "its own trainable is False",
        ),
    ],
)
def test_the_mode_a_bn_should_run_in_and_why(settings, sites, mode, why):
    assert expected_mode(norm("bn", **settings), sites) == (mode, why)


@pytest.mark.parametrize(
    ("settings", "on", "mode"),
    [
        ({}, "k3-tf", RunMode.TRAINING),
        ({"trainable": False}, "k3-tf", RunMode.INFERENCE),
        ({"forced_inference": True}, "k3-tf", RunMode.INFERENCE),
        # A frozen parent that did not reach the BN's own flag does not stop it.
        ({"frozen_ancestors": ("base",)}, "k3-tf", RunMode.TRAINING),
        # Keras 2 runs the flags of compile(), the others those of now.
        ({"trainable": False, "compiled_trainable": True}, "tfk", RunMode.TRAINING),
        ({"trainable": True, "compiled_trainable": False}, "tfk", RunMode.INFERENCE),
        ({"trainable": False, "compiled_trainable": True}, "k3-torch", RunMode.INFERENCE),
        ({"calls": (call(False),)}, "tfk", RunMode.INFERENCE),
        ({"calls": (call(False),)}, "k3-jax", RunMode.TRAINING),
        ({"calls": (call(False), call(None))}, "tfk", RunMode.TRAINING),
        ({"trainable": False, "behaviour": ALWAYS_BATCH}, "tfk", RunMode.TRAINING),
        ({"trainable": False, "behaviour": NORMALISES}, "tfk", RunMode.TRAINING),
        ({"trainable": False, "behaviour": None}, "tfk", RunMode.INFERENCE),
        ({"behaviour": DROPS}, "tfk", RunMode.INFERENCE),
        # A torch module ignores Keras's flag.
        (
            {"kind": NormKind.TORCH, "trainable": False, "behaviour": ALWAYS_BATCH},
            "k3-torch",
            RunMode.TRAINING,
        ),
    ],
)
def test_what_a_bn_will_run_as_here(settings, on, mode):
    assert will_run(norm("bn", **settings), stack(on)) == mode


@pytest.mark.parametrize(
    ("settings", "sites", "mode"),
    [
        ({}, None, RunMode.UNKNOWN),
        ({}, (), RunMode.UNKNOWN),
        ({}, (site(True),), RunMode.TRAINING),
        ({}, (site(False),), RunMode.INFERENCE),
        ({}, (site(None),), RunMode.INFERENCE),
        ({}, (site("tensor"),), RunMode.UNKNOWN),
        ({}, (site(False), site(True)), RunMode.TRAINING),
        ({}, (site(True, flag=False),), RunMode.INFERENCE),
        ({"behaviour": ALWAYS_BATCH}, (site(True, flag=False),), RunMode.TRAINING),
        ({"behaviour": None}, (site(True, flag=False),), RunMode.TRAINING),
        ({"behaviour": DROPS}, (site(True),), RunMode.INFERENCE),
        (
            {"kind": NormKind.TORCH, "behaviour": ALWAYS_BATCH},
            (site(None, flag=False),),
            RunMode.TRAINING,
        ),
        ({"kind": NormKind.TORCH, "behaviour": ALWAYS_BATCH}, (site(False),), RunMode.INFERENCE),
    ],
)
def test_what_a_bn_did_in_an_observed_step(settings, sites, mode):
    assert did_run(norm("bn", **settings), sites) == mode


@pytest.mark.parametrize(
    ("settings", "sites", "forced"),
    [
        ({}, (), False),
        ({"trainable": False}, (), False),
        ({"trainable": False, "builtin": False}, (), True),
        ({"frozen_ancestors": ("base",)}, (), True),
        ({"frozen_ancestors": ("base",), "trainable": False}, (), False),
        ({"calls": (call(False),)}, (), True),
        ({}, (site(explicit=False),), True),
    ],
)
def test_bn_is_forced_that_should_run_in_inference_mode_and_would_not(settings, sites, forced):
    assert norms_to_force([norm("bn", **settings)], {"bn": sites}) == (("bn",) if forced else ())


def test_the_mode_table_shows_where_expected_and_actual_mode_differ():
    frozen = norm("base/bn", frozen_ancestors=("base",), momentum=0.9, at_default=True)
    good = norm("head/bn")
    forced = norm("forced/bn", forced_inference=True)
    rows = {mode.path: mode for mode in modes(inventory(frozen, good, forced))}
    assert [rows[p].agrees for p in ("base/bn", "head/bn", "forced/bn")] == [False, True, True]
    row = rows["base/bn"]
    assert (row.expected, row.will, row.why) == (
        ExpectedMode.INFERENCE,
        RunMode.TRAINING,
        "base around it is frozen",
    )
    assert (row.trainable, row.frozen, row.momentum, row.at_default) == (True, True, 0.9, True)
    assert rows["forced/bn"].forced_inference
