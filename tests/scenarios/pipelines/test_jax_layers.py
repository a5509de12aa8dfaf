"""BN inside `JaxLayer` and `FlaxLayer`: BNG702 sees it, and its statistics are watched."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.harness import fit
from tests.stack import STACK, keras

pytestmark = pytest.mark.skipif(STACK != "k3-jax", reason="JaxLayer runs on JAX")

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(64, 4)) * 2 + 3).astype("float32")
Y = X[:, :1]


def flax_layer():
    """A dense layer and a BatchNorm of flax.linen."""
    import jax
    from flax import linen

    class Block(linen.Module):
        @linen.compact
        def __call__(self, x, training=False):
            x = linen.Dense(5)(x)
            return linen.BatchNorm(use_running_average=not training, momentum=0.9)(x)

    def run(module, inputs, training):
        return module(inputs, training=bool(training))

    # Without variables, Keras 3.15 asks TensorFlow where it is, which is not installed here.
    variables = Block().init(jax.random.key(0), X[:1])
    return keras.layers.FlaxLayer(Block(), method=run, variables=variables, name="block")


def jax_layer():
    """The same by hand: state goes in, the new state comes out."""
    import jax.numpy as jnp

    def run(params, state, inputs, training):
        norm_state = state["norm"]
        mean = jnp.mean(inputs, 0) if training else norm_state["mean"]
        var = jnp.var(inputs, 0) if training else norm_state["var"]
        if training:
            state = {
                "norm": {
                    "mean": 0.9 * norm_state["mean"] + 0.1 * mean,
                    "var": 0.9 * norm_state["var"] + 0.1 * var,
                }
            }
        return params["scale"] * (inputs - mean) / jnp.sqrt(var + 1e-3), state

    start = {"norm": {"mean": np.zeros(4, "float32"), "var": np.ones(4, "float32")}}
    scale = {"scale": np.ones(4, "float32")}
    return keras.layers.JaxLayer(run, params=scale, state=start, name="block")


def model_around(layer):
    inputs = keras.Input((4,))
    hidden = keras.layers.BatchNormalization(name="bn")(layer(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("make", [flax_layer, jax_layer])
def test_it_is_reported_and_its_statistics_are_checked(make):
    model = model_around(make())
    run = fit(model, X, Y, guard=bng.BNGuard(on_finding="log"), epochs=2)
    assert run.codes == ("BNG702",)
    (path,) = run.layers("BNG702")
    assert path.startswith("block")
    drift = run.guard.report.drift[-1].mean_shift
    assert set(drift) == {path, "bn"}
    assert drift[path] > 0.1
    finding = run.finding("BNG702")
    assert finding.evidence["mode_unseen"] == (path,)
    assert bng.recalibrate(model, X).paths == ("bn",)


def test_a_frozen_one_is_still_updated_and_that_is_reported():
    layer = flax_layer()
    model = model_around(layer)
    layer.trainable = False
    model.compile("sgd", "mse")
    run = fit(model, X, Y, guard=bng.BNGuard(on_finding="log"), epochs=2)
    assert {"BNG404", "BNG702"} <= set(run.codes)
    assert run.layers("BNG404") == run.layers("BNG702")
