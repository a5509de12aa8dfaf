"""BNG103, 104, 401 and 406 are silent where statistics are new or were trained here."""

from __future__ import annotations

from typing import Any

import numpy as np

import keras_bnguard as bng
from tests.builders.harness import fit
from tests.builders.pipelines import (
    AroundBackbone,
    L,
    StillBackbone,
    backbone,
    compiled,
    nested,
    norms,
    plain,
    recompiled,
    rows,
)
from tests.stack import keras

PROVENANCE = {"BNG103", "BNG104", "BNG401", "BNG406", "BNG606"}


def far_rows(n: int = 128) -> Any:
    x, y = rows(n)
    return x * 40.0 + 100.0, y


def no_provenance_finding(run: Any) -> None:
    assert not PROVENANCE & set(run.codes), [str(f) for f in run.guard.report.findings]


def flat_model(base: Any) -> Any:
    """The layers of a backbone, then a head with a BN of its own, in one graph."""
    x = L.Dense(6, name="new_dense")(base.output)
    x = L.BatchNormalization(name="new_bn", momentum=0.5)(x)
    return keras.Model(base.input, L.Dense(1, activation="sigmoid", name="head")(x), name="flat")


def test_from_scratch_over_several_fits_and_compiles() -> None:
    model = compiled(plain(momentum=0.9))
    x, y = far_rows()
    no_provenance_finding(fit(model, x[:32], y[:32]))
    no_provenance_finding(fit(model, x, y, epochs=2))
    no_provenance_finding(fit(recompiled(model), x, y, epochs=4))


def test_every_fold_starts_again_from_the_same_weights() -> None:
    model = compiled(plain(momentum=0.5))
    start = model.get_weights()
    x, y = far_rows()
    for fold in range(3):
        model.set_weights(start)
        no_provenance_finding(fit(recompiled(model), x * (1 + fold), y))


def test_the_best_weights_restored_between_two_fits() -> None:
    model = compiled(plain(momentum=0.5))
    x, y = far_rows()
    stop = keras.callbacks.EarlyStopping("loss", patience=0, restore_best_weights=True, mode="max")
    no_provenance_finding(fit(model, x, y, epochs=3, after=[stop]))
    no_provenance_finding(fit(recompiled(model), x * 3.0, y))


def test_a_head_of_its_own_on_frozen_layers_is_trained_again() -> None:
    base = backbone()
    base.trainable = False
    model = compiled(flat_model(base))
    for layer in base.layers:
        layer.trainable = False
    model = recompiled(model)
    no_provenance_finding(fit(model, *rows(64)))
    no_provenance_finding(fit(recompiled(model), *rows(64)))


def test_a_fresh_head_in_the_sub_model_of_a_trained_backbone() -> None:
    base = backbone()
    for layer in base.layers:
        layer.trainable = False
    embedding = flat_model(base)
    inputs = keras.Input(base.input_shape[1:])
    outer = keras.Model(inputs, L.Dense(1, activation="sigmoid")(embedding(inputs)))
    no_provenance_finding(fit(compiled(outer), *rows(64), epochs=2))


def test_a_fresh_bn_between_trained_ones_that_trains_from_the_first_step() -> None:
    base = backbone(units=(8, 8, 8))
    middle = base.get_layer("bn2")
    middle.moving_mean.assign(np.zeros(8, "float32"))
    middle.moving_variance.assign(np.ones(8, "float32"))
    no_provenance_finding(fit(compiled(nested(base, head_bn=True)), *rows(64)))


def test_gamma_that_starts_at_zero_is_not_loaded() -> None:
    no_provenance_finding(fit(compiled(plain(gamma_initializer="zeros")), *rows()))


def test_a_subclassed_model_that_calls_its_base_in_inference_mode_in_every_phase() -> None:
    model = compiled(StillBackbone(backbone(), name="still"))
    model.base.trainable = False
    no_provenance_finding(fit(recompiled(model), *rows(64)))
    model.base.trainable = True
    no_provenance_finding(fit(compiled(model, 1e-5), *rows(64)))


def test_models_that_train_shared_layers_in_turn() -> None:
    shared = backbone(trained=False)
    one, two = (compiled(AroundBackbone(shared, name=name)) for name in ("one", "two"))
    x, y = far_rows()
    for _ in range(3):
        no_provenance_finding(fit(one, x, y))
        no_provenance_finding(fit(two, x, y))


def test_an_audit_between_two_fits_changes_nothing() -> None:
    model = compiled(plain(momentum=0.9))
    x, y = far_rows()
    bng.audit(model)
    no_provenance_finding(fit(model, x, y))
    bng.audit(model)
    no_provenance_finding(fit(recompiled(model), x, y, epochs=3))
    assert all(np.isfinite(np.array(norm.get_weights()[2])).all() for norm in norms(model))
