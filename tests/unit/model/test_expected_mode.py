"""What a BN is meant to do, what it will do here and what it did: one table each."""

from __future__ import annotations

import pytest

from keras_bnguard.model.expected_mode import (
    did_run,
    expected_mode,
    modes,
    norms_to_force,
    will_run,
)
from keras_bnguard.records import NormBehaviour
from tests.builders.facts import call, inventory, norm, site, stack

ALWAYS_BATCH = NormBehaviour(trainable_updates=True, frozen_updates=True, frozen_uses_batch=True)
NORMALISES = NormBehaviour(trainable_updates=True, frozen_updates=False, frozen_uses_batch=True)
DROPS = NormBehaviour(trainable_updates=False, frozen_updates=False, frozen_uses_batch=False)


@pytest.mark.parametrize(
    ("settings", "sites", "mode", "why"),
    [
        ({}, None, "train", "trainable"),
        ({}, (), "train", "trainable"),
        ({"trainable": False}, None, "inference", "its own trainable is False"),
        ({"frozen_ancestors": ("a", "a/b")}, None, "inference", "a/b around it is frozen"),
        ({"forced_inference": True}, None, "inference", "held by keras_bnguard"),
        (
            {"calls": (call(False, "base"),)},
            None,
            "inference",
            "called with training=False at base",
        ),
        ({"calls": (call(False), call(None))}, None, "train", "trainable"),
        ({"calls": (call(True),)}, None, "train", "trainable"),
        ({}, (site(explicit=False),), "inference", "every call of it passes training=False"),
        ({}, (site(explicit=False), site(explicit=None)), "train", "trainable"),
        # The flag is named before all else, as it is what the user can change.
        (
            {"trainable": False, "forced_inference": True, "calls": (call(False),)},
            None,
            "inference",
            "its own trainable is False",
        ),
    ],
)
def test_what_a_bn_is_meant_to_do_and_why(settings, sites, mode, why):
    assert expected_mode(norm("bn", **settings), sites) == (mode, why)


@pytest.mark.parametrize(
    ("settings", "on", "mode"),
    [
        ({}, "k3-tf", "training"),
        ({"trainable": False}, "k3-tf", "inference"),
        ({"forced_inference": True}, "k3-tf", "inference"),
        # A frozen parent that did not reach the BN's own flag does not stop it.
        ({"frozen_ancestors": ("base",)}, "k3-tf", "training"),
        # Keras 2 runs the flags of compile(), the others those of now.
        ({"trainable": False, "compiled_trainable": True}, "tfk", "training"),
        ({"trainable": True, "compiled_trainable": False}, "tfk", "inference"),
        ({"trainable": False, "compiled_trainable": True}, "k3-torch", "inference"),
        ({"calls": (call(False),)}, "tfk", "inference"),
        ({"calls": (call(False),)}, "k3-jax", "training"),
        ({"calls": (call(False), call(None))}, "tfk", "training"),
        ({"trainable": False, "behaviour": ALWAYS_BATCH}, "tfk", "training"),
        ({"trainable": False, "behaviour": NORMALISES}, "tfk", "training"),
        ({"trainable": False, "behaviour": None}, "tfk", "inference"),
        ({"behaviour": DROPS}, "tfk", "inference"),
        # A torch module does not look at Keras's flag.
        ({"kind": "torch", "trainable": False, "behaviour": ALWAYS_BATCH}, "k3-torch", "training"),
    ],
)
def test_what_a_bn_will_run_as_here(settings, on, mode):
    assert will_run(norm("bn", **settings), stack(on)) == mode


@pytest.mark.parametrize(
    ("settings", "sites", "mode"),
    [
        ({}, None, "unknown"),
        ({}, (), "unknown"),
        ({}, (site(True),), "training"),
        ({}, (site(False),), "inference"),
        ({}, (site(None),), "inference"),
        ({}, (site("tensor"),), "unknown"),
        ({}, (site(False), site(True)), "training"),
        ({}, (site(True, flag=False),), "inference"),
        ({"behaviour": ALWAYS_BATCH}, (site(True, flag=False),), "training"),
        ({"behaviour": None}, (site(True, flag=False),), "training"),
        ({"behaviour": DROPS}, (site(True),), "inference"),
        ({"kind": "torch", "behaviour": ALWAYS_BATCH}, (site(None, flag=False),), "training"),
        ({"kind": "torch", "behaviour": ALWAYS_BATCH}, (site(False),), "inference"),
    ],
)
def test_what_a_bn_did_in_an_observed_step(settings, sites, mode):
    assert did_run(norm("bn", **settings), sites) == mode


@pytest.mark.parametrize(
    ("settings", "sites", "held"),
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
def test_held_is_what_should_stand_still_and_would_not(settings, sites, held):
    assert norms_to_force([norm("bn", **settings)], {"bn": sites}) == (("bn",) if held else ())


def test_the_mode_table_says_where_meant_and_done_differ():
    frozen = norm("base/bn", frozen_ancestors=("base",), momentum=0.9, at_default=True)
    good = norm("head/bn")
    held = norm("held/bn", forced_inference=True)
    rows = {mode.path: mode for mode in modes(inventory(frozen, good, held))}
    assert [rows[p].agrees for p in ("base/bn", "head/bn", "held/bn")] == [False, True, True]
    row = rows["base/bn"]
    assert (row.expected, row.will, row.why) == (
        "inference",
        "training",
        "base around it is frozen",
    )
    assert (row.trainable, row.frozen, row.momentum, row.at_default) == (True, True, 0.9, True)
    assert rows["held/bn"].forced_inference
