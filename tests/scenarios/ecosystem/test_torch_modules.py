"""What is reported of BN in torch modules: sizes at the module, its mode, fixes that reach it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.records import RunMode
from tests.stack import BACKEND, keras

pytestmark = pytest.mark.skipif(BACKEND != "torch", reason="TorchModuleWrapper is of torch")
RNG = np.random.default_rng(0)


def compiled(module: Any, x: np.ndarray) -> Any:
    wrapper = keras.layers.TorchModuleWrapper(module, name="wrapper")
    model = keras.Sequential([wrapper, keras.layers.Dense(1)])
    model(x[:2])
    model.compile("sgd", "mse")
    return model


def report(model: Any, x: np.ndarray, batch_size: int) -> Any:
    guard = bng.BNGuard(verbose=0, on_finding=lambda finding: None)
    y = RNG.normal(size=(len(x), 1)).astype("float32")
    model.fit(x, y, batch_size, verbose=0, callbacks=[guard])
    return guard.report


def sound() -> Any:
    """Rows of 64 samples: a BN sees 16 values of each."""
    import torch

    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 64)),
        torch.nn.Conv1d(1, 4, 4, stride=4),
        torch.nn.BatchNorm1d(4),
        torch.nn.Flatten(),
    )


def pooled() -> Any:
    """Images of which a BN sees one value of each."""
    import torch

    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.BatchNorm1d(4),
    )


def trained(momentum: float = 0.1) -> Any:
    import torch

    norm = torch.nn.BatchNorm1d(4, momentum=momentum)
    with torch.no_grad():
        norm.running_mean.fill_(0.3)
        norm.running_var.fill_(2.0)
    return torch.nn.Sequential(torch.nn.Linear(4, 4), norm)


def rows(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


def test_a_module_that_sees_many_values_of_a_row_is_silent():
    x = rows(33, 64)
    codes = report(compiled(sound(), x), x, 4).codes
    assert "BNG502" not in codes
    assert "BNG503" not in codes  # The last batch has one row, which brings 16 values.


def test_a_module_that_sees_one_value_of_an_image_is_reported():
    x = rows(8, 3, 16, 16)
    found = report(compiled(pooled(), x), x, 2).findings
    (few,) = [each for each in found if each.code == "BNG502"]
    assert few.evidence["values_per_channel"] == {"wrapper/3": 2.0}


def test_gamma_and_beta_of_torch_are_counted():
    x = rows(16, 4)
    counts = bng.audit(compiled(trained(), x)).weights
    assert (counts.norm_trainable, counts.norm_total) == (8, 8)


def test_a_module_that_stays_in_eval_mode_is_in_inference_mode():
    x = rows(16, 4)
    module = trained()
    model = compiled(module, x)
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    before = module[1].running_mean.clone()
    assert "BNG105" in report(model, x, 8).codes
    assert not (module[1].running_mean == before).all()
    # The fix that it prints.
    module[1].eval()
    module[1].train = lambda mode=True: module[1]
    before = module[1].running_mean.clone()
    after = report(model, x, 8)
    assert (module[1].running_mean == before).all()
    assert "BNG105" not in after.codes
    assert [mode.will for mode in after.modes] == [RunMode.INFERENCE]


def test_reading_the_mode_changes_no_mode():
    x = rows(16, 4)
    model = compiled(trained(), x)
    modules = list(model.layers[0].modules())
    for number, module in enumerate(modules):
        module.training = bool(number % 2)
    bng.audit(model)
    assert [module.training for module in modules] == [bool(n % 2) for n in range(len(modules))]


def test_the_fix_of_a_momentum_sets_that_of_the_module():
    x = rows(16, 4)
    model = compiled(trained(momentum=0.0), x)
    found = report(model, x, 8).findings
    (momentum,) = [each for each in found if each.code == "BNG302"]
    line = next(each for each in momentum.fix.splitlines() if ".momentum" in each)
    exec(line.strip(), {"model": model})
    assert model.layers[0].module[1].momentum == 0.1
