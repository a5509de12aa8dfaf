"""BNG110 is silent where a flag was set for another model on purpose, or for none."""

from __future__ import annotations

from typing import Any

from tests.builders.harness import fit
from tests.builders.pipelines import backbone, compiled, nested, rows
from tests.stack import keras


def no_finding(run: Any) -> None:
    assert "BNG110" not in run.codes, run.finding("BNG110")


def test_a_classifier_that_becomes_the_frozen_base_of_another_model() -> None:
    base = compiled(backbone(trained=False), loss="mse")
    x, y = rows(96)
    no_finding(fit(base, x, x))
    base.trainable = False
    no_finding(fit(compiled(nested(base)), x, y))


def test_a_base_that_was_compiled_and_never_trained() -> None:
    base = compiled(backbone())
    base.trainable = False
    no_finding(fit(compiled(nested(base)), *rows(96)))


def test_the_other_model_is_frozen_again_before_each_compile() -> None:
    base = compiled(backbone(trained=False), loss="mse")
    base.trainable = False
    outer = compiled(nested(base))
    x, y = rows(96)
    no_finding(fit(outer, x, y))
    base.trainable = True
    no_finding(fit(compiled(base, loss="mse"), x, x))


def test_a_model_that_is_frozen_after_compile_without_another_one() -> None:
    model = compiled(nested(backbone()))
    model.get_layer("backbone").trainable = False
    no_finding(fit(model, *rows(96)))


def test_layers_that_the_loss_does_not_reach() -> None:
    base = backbone()
    inputs = keras.Input(base.input_shape[1:])
    used, unused = keras.layers.Dense(1)(inputs), base(inputs)
    model = keras.Model(inputs, [used, unused])
    model.compile("sgd", loss=["mse", None])
    x, y = rows(96)
    no_finding(fit(model, x, [y, x]))


def test_a_discriminator_that_was_frozen_before_its_own_compile() -> None:
    judge = backbone(trained=False)
    judge.trainable = False
    both = compiled(nested(judge))
    compiled(judge, loss="mse")
    x, y = rows(96)
    no_finding(fit(both, x, y))
