"""What Keras 3 does to the weights of layers after phases: LoRA and quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.values import statistics

pytestmark = pytest.mark.skipif(not r.IS_KERAS3, reason="LoRA and quantize() are of Keras 3")


def after_phases() -> Any:
    model = r.compiled(r.transfer())
    r.fit(model, 2, [r.scheduler(r.head_then_all(1, 1))])
    return model


def test_lora_after_phases_trains_with_a_guard_and_without_findings():
    model = after_phases()
    dense = model.get_layer("backbone").get_layer("dense1")
    dense.enable_lora(2)
    r.compiled(model)
    guard = bng.BNGuard(verbose=0)
    kernel = np.array(dense._kernel)
    r.fit(model, 1, [guard])
    assert np.array_equal(np.array(dense._kernel), kernel)
    assert not [each for each in guard.report.findings if each.severity.value == "error"]


def test_phases_of_a_model_with_lora():
    model = r.transfer()
    dense = model.get_layer("backbone").get_layer("dense1")
    dense.enable_lora(2)
    kernel = np.array(dense._kernel)
    lora = np.array(dense.lora_kernel_a)
    norm = model.get_layer("backbone").get_layer("bn1")
    before = statistics(norm)
    r.compiled(model)
    r.fit(model, 2, [r.scheduler(r.head_then_all(1, 1))])
    assert np.array_equal(np.array(dense._kernel), kernel)
    assert not np.array_equal(np.array(dense.lora_kernel_a), lora)
    assert statistics(norm) == before


def test_quantize_after_phases_gives_a_model_that_predicts():
    model = after_phases()
    x, _ = r.data()
    before = model.predict(x, verbose=0)
    norm = statistics(model.get_layer("head_bn"))
    for layer in r.leaves(model):
        if hasattr(layer, "kernel"):
            layer.quantize("int8")
    model.predict_function = None
    assert np.abs(model.predict(x, verbose=0) - before).max() < 0.05
    assert statistics(model.get_layer("head_bn")) == norm
    assert {mode.path for mode in bng.audit(model).modes} >= {"head_bn", "backbone/bn1"}
