"""A wrong argument is an error of ours that names it, and whose traceback ends at the caller."""

from __future__ import annotations

import os
import traceback

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.models import transfer
from tests.stack import keras

L = keras.layers
X = np.zeros((16, 6), "float32")
DATA = (X, X[:, :1])


def net(trainable=True):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, L.Dense(1)(L.BatchNormalization(name="bn")(inputs)), name="net")
    model.compile("sgd", "mse")
    model.trainable = trainable
    return model


def phase(**changed):
    return bng.Phase(**{"name": "a", "train": "*", "learning_rate": 1e-3, "epochs": 1, **changed})


def schedule(**changed):
    return bng.PhaseScheduler(**{"phases": [phase()], "verbose": 0, **changed})


def plot(function):
    """A plot of what it does not draw; of the rest the defaults."""
    given = {"report": bng.audit(net())} if function is bng.plot_drift else {}
    return lambda **changed: function(**{**given, **changed})


def on(function, **defaults):
    """A function that takes a model first."""
    model = net(trainable=function is not bng.precompute_features)
    return lambda **changed: function(**{"model": model, **defaults, **changed})


MODEL = ["model", None, 5, X]
SIZES = {"batch_size": [0, "32", 2.5, None, True], "max_batches": [0, "all", 2.5]}
READS = {"data": [None, 5, "x.npy"], **SIZES}
RULES = {
    "select": [5, [5], "BNG9", [None]],
    "ignore": [5, [5], "BNG9", {5: "a"}, {"BNG9": "*"}, {"BNG4": 5}],
}
FLAG = ["yes", None, 2, np.array([1, 2])]
PRINTS = ["yes", None, -1, 0.5]
AS_FIT = ["yes", [], True, 3]

WRONG = {
    "BNGuard": (
        bng.BNGuard,
        {
            "on_finding": ["mail", None, 5, net(), []],
            "fix": FLAG,
            **RULES,
            "data": [5, "x.npy"],
            "every": ["batch", 0, 2.5, True, np.array([1, 2])],
            "report": [5, "r.pdf", "r"],
            "tensorboard": [5, True],
            "verbose": PRINTS,
            "show_drift": FLAG,
        },
    ),
    "audit": (on(bng.audit), {"model": MODEL, "data": [5, "x.npy"], **RULES}),
    "recalibrate": (
        on(bng.recalibrate, data=X, verbose=0),
        {
            "model": MODEL,
            **READS,
            "layers": [5, [5], "", "re:["],
            "mode": [5, [], "two-pass"],
            "verbose": AS_FIT,
            "all_rows_on_every_worker": FLAG,
        },
    ),
    "Recalibrate": (
        lambda **changed: bng.Recalibrate(**{"data": X, **changed}),
        {
            **READS,
            "at": [5, "begin"],
            "assign_averages": FLAG,
            "layers": [5, [5], "", "re:["],
            "mode": [5, "two-pass"],
            "verbose": PRINTS,
            "all_rows_on_every_worker": FLAG,
        },
    ),
    "mode_gap": (
        on(bng.mode_gap, data=DATA, verbose=0),
        {
            "model": MODEL,
            **READS,
            "metrics": [5, ["accuracy"]],
            "verbose": AS_FIT,
            "all_rows_on_every_worker": FLAG,
        },
    ),
    "advise": (
        on(bng.advise, data=DATA, epochs=1, verbose=0, layers="*"),
        {
            "model": MODEL,
            **READS,
            "layers": [5, [5], ""],
            "epochs": [0, "many"],
            "steps": [0, 2.5],
            "folds": [1, "a"],
            "n_repeats": ["a", -1],
            "seed": ["a", -1, 0.5],
            "verbose": AS_FIT,
        },
    ),
    "precompute_features": (
        on(bng.precompute_features, data=X, verbose=0),
        {"model": MODEL, **READS, "inference_only": FLAG, "verbose": AS_FIT},
    ),
    "force_inference": (
        on(bng.force_inference),
        {"model": [*MODEL, L.Dense(1)], "layers": [5, [5], "", "re:["], "on_failure": [5, "mail"]},
    ),
    "Phase": (
        phase,
        {
            "name": [5, ""],
            "train": [5, [5], None, []],
            "learning_rate": ["fast", -1, [1]],
            "epochs": ["a", 0, 2.5],
            "until": [5, "loss"],
            "batch_norm": [5, "frozen"],
            "warmup": ["a", -1],
            "optimizer_state": [5, "keep"],
            "restore_best": ["yes", True],
            "layer_decay": ["a", 2.0],
        },
    ),
    "PhaseScheduler": (
        schedule,
        {
            "phases": [5, [], ["a"], phase(), None],
            "optimizer_state": [5, "keep"],
            "state": [5],
            "verbose": PRINTS,
            "on_failure": [5, "mail"],
        },
    ),
    "PhaseScheduler.from_yaml": (bng.PhaseScheduler.from_yaml, {"source": [5, None]}),
    "PhaseScheduler.plan": (lambda **changed: schedule().plan(**changed), {"model": MODEL}),
    "PhaseScheduler.fine_tune": (
        lambda **changed: bng.PhaseScheduler.fine_tune(**{"model": transfer(), **changed}),
        {"model": MODEL, "verbose": PRINTS, "warmup": ["a"], "batch_norm": ["frozen"]},
    ),
    "PhaseScheduler.gradual": (on(bng.PhaseScheduler.gradual), {"model": MODEL}),
    "PhaseScheduler.fit": (
        on(lambda **changed: schedule().fit(x=X, y=X[:, :1], verbose=0, **changed)),
        {"cache_features": ["yes", 5], "cache_dtype": ["big"]},
    ),
    "LastLayers": (bng.LastLayers, {"count": [0, "a", 1.5, True]}),
    "LastBlocks": (bng.LastBlocks, {"count": [0, "a", 1.5]}),
    "RelativeRate": (bng.RelativeRate, {"factor": [0, -1, "a", float("nan")]}),
    "Plateau": (
        bng.Plateau,
        {"monitor": [5], "patience": [0, "a"], "min_delta": ["a"], "mode": ["up", 5]},
    ),
    "Threshold": (
        lambda **changed: bng.Threshold(**{"monitor": "loss", "value": 1.0, **changed}),
        {"monitor": [5], "value": ["a"], "mode": ["up", 5]},
    ),
    "enable_warnings": (
        bng.enable_warnings,
        {**RULES, "every": ["batch", 0], "fix": ["maybe", 5], "on_finding": ["mail", 5],
         "report": [5, "r.pdf"]},
    ),
    "plot_drift": (plot(bng.plot_drift), {"report": [None, 5, net()], "measure": [5, [], "mean"]}),
    "plot_recalibration": (plot(bng.plot_recalibration), {"result": [None, 5, net()]}),
    "plot_mode_gap": (plot(bng.plot_mode_gap), {"gap": [None, 5, net()]}),
}  # fmt: skip
"""Name -> a call that is right but for what it gets, and of each argument values that are wrong."""

ELSEWHERE = {
    "Advice", "Finding", "Policy", "Report",  # results, which users read and do not make
    "GuardedModel", "GuardedTrainStep",  # take what keras.Model takes
    "disable_warnings",  # takes nothing
}  # fmt: skip

TABLE = [
    pytest.param(call, argument, value, id=f"{name}-{argument}-{number}")
    for name, (call, arguments) in WRONG.items()
    for argument, values in arguments.items()
    for number, value in enumerate(values)
]
PACKAGE = os.path.dirname(bng.__file__)


@pytest.mark.parametrize(("call", "argument", "value"), TABLE)
def test_a_wrong_argument_is_named_and_the_traceback_is_short(call, argument, value):
    with pytest.raises(bng.BNGuardError) as caught:
        call(**{argument: value})
    assert argument in str(caught.value)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert len([frame for frame in frames if frame.filename.startswith(PACKAGE)]) <= 3


def test_every_public_function_is_in_the_table():
    functions = {
        name
        for name in bng.__all__
        if callable(getattr(bng, name)) and not name.endswith(("Error", "Warning"))
    }
    assert functions - ELSEWHERE == {name for name in WRONG if "." not in name}


def test_an_error_of_the_users_own_code_stays_as_it_is():
    def broken():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        bng.recalibrate(net(), broken, verbose=0)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "broken"
