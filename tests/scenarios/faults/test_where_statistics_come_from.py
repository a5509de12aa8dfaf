"""BNG103, 104, 401 and 406: statistics of a pretraining in this process count as loaded ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.builders.harness import fit
from tests.builders.pipelines import (
    AroundBackbone,
    L,
    StillBackbone,
    backbone,
    compiled,
    nested,
    plain,
    recompiled,
    rows,
)


def trained_here(units: Any = (8, 8)) -> Any:
    """A backbone that another model has trained in this process."""
    base = backbone(units=units, trained=False)
    for norm in base.layers:
        if isinstance(norm, L.BatchNormalization):
            norm.momentum = 0.5
    fit(compiled(nested(base)), *rows(160))
    return base


def test_a_pretraining_here_that_drifts_in_another_model() -> None:
    base = trained_here()
    x, y = rows(64)
    run = fit(compiled(nested(base, head_bn=True)), x * 30.0 + 50.0, y)
    assert {"backbone/bn1", "backbone/bn2"} >= set(run.layers("BNG406")) != set()
    base.trainable = False
    assert "BNG406" not in fit(compiled(nested(base, head_bn=True)), x, y).codes


def test_bn_of_a_pretraining_here_among_frozen_layers() -> None:
    base = trained_here((8, 8, 8))
    for layer in base.layers:
        layer.trainable = isinstance(layer, L.BatchNormalization)
    run = fit(compiled(nested(base)), *rows())
    assert run.layers("BNG103") == ["backbone/bn1", "backbone/bn2", "backbone/bn3"]
    base.trainable = False
    assert "BNG103" not in fit(compiled(nested(base)), *rows()).codes


def test_a_frozen_phase_makes_the_models_own_training_a_pretraining() -> None:
    model = compiled(nested(backbone(trained=False), head_bn=True))
    fit(model, *rows(160))
    model.get_layer("backbone").trainable = False
    fit(recompiled(model), *rows())
    model.get_layer("backbone").trainable = True
    run = fit(recompiled(model), *rows())
    assert run.layers("BNG104") == ["backbone/bn1", "backbone/bn2"]


def test_a_subclassed_model_that_unfreezes_its_base() -> None:
    """How `call` uses the base is known from the first step on."""
    for kind, found in ((AroundBackbone, ["base/bn1", "base/bn2"]), (StillBackbone, [])):
        base = backbone("base")
        model = compiled(kind(base, name="net"))
        base.trainable = False
        fit(recompiled(model), *rows())
        base.trainable = True
        assert fit(recompiled(model), *rows()).layers("BNG104") == found


def test_gamma_that_was_loaded_while_the_statistics_were_not() -> None:
    model = plain()
    bn = model.get_layer("bn")
    bn.gamma.assign(np.linspace(0.5, 1.5, 8).astype("float32"))
    assert fit(compiled(model), *rows()).layers("BNG401") == ["bn"]
    whole = plain()
    whole.set_weights([np.full_like(w, 0.5) for w in model.get_weights()])
    assert "BNG401" not in fit(compiled(whole), *rows()).codes
