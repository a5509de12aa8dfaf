"""Long work shows Keras's bar where that is asked for, and nothing else."""

import pytest

import keras_bnguard as bng
from keras_bnguard.errors import SettingError
from tests.builders.models import backbone, compiled, data, transfer


def works():
    x, y = data(96)
    model = compiled(transfer())
    base = backbone(dropout=0.0)
    base.trainable = False
    trained = compiled(transfer())
    bng.recalibrate(trained, x, layers="*", verbose=0)
    return {
        "recalibrate": lambda **how: bng.recalibrate(model, x, layers="*", **how),
        "sequential": lambda **how: bng.recalibrate(model, x, layers="*", mode="sequential", **how),
        "mode_gap": lambda **how: bng.mode_gap(model, (x, y), **how),
        "precompute_features": lambda **how: bng.precompute_features(base, x, **how),
        "advise": lambda **how: bng.advise(trained, (x, y), steps=2, n_repeats=1, **how),
    }


@pytest.fixture(scope="module")
def work():
    return works()


NAMES = ["recalibrate", "sequential", "mode_gap", "precompute_features", "advise"]


@pytest.mark.parametrize("name", NAMES)
def test_a_bar_counts_to_the_end(work, name, capsys):
    work[name](verbose=1)
    out = capsys.readouterr().out
    total = 2 if name == "sequential" else 3
    assert f"{total}/{total}" in out, out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", [{"verbose": 0}, {}])
def test_zero_is_silent_and_so_is_an_output_that_nobody_watches(work, name, how, capsys):
    work[name](**how)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verbose", ["yes", 3, None, True])
def test_another_value_is_refused(work, name, verbose):
    with pytest.raises(SettingError, match=r"verbose=.*: expected 'auto', 0, 1 or 2"):
        work[name](verbose=verbose)


def test_other_arguments_are_named():
    with pytest.raises(SettingError, match="fix='yes': expected True or False"):
        bng.BNGuard(fix="yes")
    with pytest.raises(SettingError, match="report=BNGuard: expected a Report"):
        bng.plot_drift(bng.BNGuard())
