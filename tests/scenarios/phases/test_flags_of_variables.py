"""A variable that does not train, whatever the flag of its layer, does not train in any phase."""

from __future__ import annotations

import pytest

import keras_bnguard as bng
from keras_bnguard.phases.checks import built_model
from keras_bnguard.phases.plan import make_plan
from tests.builders.models import BN, data, layers, sgd
from tests.builders.values import as_array
from tests.stack import BACKEND, IS_KERAS3, keras

ON_KERAS_3 = pytest.mark.skipif(not IS_KERAS3, reason="Keras 3 alone has LoRA and quantizes")
PHASES = [
    bng.Phase("head", train="head", epochs=1),
    bng.Phase("all", train="*", epochs=1),
    bng.Phase("head again", train="head", epochs=1),
    bng.Phase("all again", train="*", epochs=1),
]
HEAD = 5  # Four weights and a bias.
NORM = 8


class Scale(layers.Layer):
    """Has a weight that trains and one that never does."""

    def build(self, shape):
        self.trained = self.add_weight(name="trained", shape=(), initializer="ones")
        self.fixed = self.add_weight(name="fixed", shape=(), initializer="ones", trainable=False)
        self.built = True

    def call(self, x):
        return x * self.trained * self.fixed

    def compute_output_shape(self, shape):
        return shape


def net(middle):
    inputs = keras.Input((4,))
    x = BN(name="bn")(middle(inputs))
    return keras.Model(inputs, layers.Dense(1, name="head")(x))


def fit_in_phases(model, phases=PHASES):
    """Returns how many values train in each phase, as planned."""
    model.compile(sgd(), "mse")
    model.fit(*data(), epochs=len(phases), verbose=0, callbacks=[bng.PhaseScheduler(phases)])
    return planned(model, phases)


def planned(model, phases):
    return [each.parameters for each in make_plan(built_model(model), phases)]


def bits(variable):
    return as_array(variable).tobytes()


def values_of(weights):
    return sum(as_array(weight).size for weight in weights)


def dense_with_lora():
    dense = layers.Dense(4, name="dense")
    model = net(dense)
    dense.enable_lora(2)
    return model, dense


def freeze(model, where):
    """Freeze a layer, or the model around it, with Keras's own setter."""
    if where:
        (model if where == "model" else model.get_layer(where)).trainable = False


def test_a_weight_made_not_to_train_stays_so():
    model = net(Scale(name="scale"))
    assert fit_in_phases(model) == [HEAD, HEAD + NORM + 1] * 2
    scale = model.get_layer("scale")
    assert float(as_array(scale.fixed)) == 1.0
    assert float(as_array(scale.trained)) != 1.0
    assert [w.name.split("/")[-1].split(":")[0] for w in scale.trainable_weights] == ["trained"]


@ON_KERAS_3
@pytest.mark.parametrize("frozen", ["", "dense", "model"])
def test_the_kernel_below_lora_stays_as_it_is(frozen):
    model, dense = dense_with_lora()
    freeze(model, frozen)
    before, adapter = bits(dense._kernel), bits(dense.lora_kernel_b)
    lora = values_of([dense.lora_kernel_a, dense.lora_kernel_b, dense.bias])
    assert fit_in_phases(model) == [HEAD, HEAD + NORM + lora] * 2
    assert bits(dense._kernel) == before
    assert bits(dense.lora_kernel_b) != adapter
    assert not dense._kernel.trainable
    assert values_of(model.trainable_weights) == HEAD + NORM + lora


@ON_KERAS_3
@pytest.mark.parametrize("kind", ["embedding", "einsum", "conv"])
def test_the_weights_below_lora_of_other_layers_stay_as_they_are(kind):
    layer, shape = {
        "embedding": (lambda: layers.Embedding(5, 4), (3,)),
        "einsum": (lambda: layers.EinsumDense("ab,bc->ac", output_shape=4), (4,)),
        "conv": (lambda: layers.Conv1D(4, 1), (3, 4)),
    }[kind]
    inputs = keras.Input(shape)
    below = layer()
    x = below(inputs)
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    model = keras.Model(inputs, layers.Dense(1, name="head")(BN(name="bn")(x)))
    below.enable_lora(2)
    below.trainable = False
    base = below._embeddings if kind == "embedding" else below._kernel
    trained = [w for w in below._trainable_variables if w is not base]
    norm = 2 * model.get_layer("bn").gamma.shape[0]
    head = values_of(model.get_layer("head").weights)
    assert planned(model, PHASES[:2]) == [head, head + norm + values_of(trained)]


@ON_KERAS_3
def test_lora_that_came_between_two_runs_counts():
    dense = layers.Dense(4, name="dense")
    model = net(dense)
    fit_in_phases(model, PHASES[:1])
    assert not dense.trainable
    dense.enable_lora(2)
    before = bits(dense._kernel)
    fit_in_phases(model, PHASES[:2])
    assert bits(dense._kernel) == before


@ON_KERAS_3
def test_a_kernel_that_the_user_made_train_with_lora_trains_in_later_phases():
    model, dense = dense_with_lora()
    dense._kernel.trainable = True
    before = bits(dense._kernel)
    fit_in_phases(model)
    assert bits(dense._kernel) != before
    assert dense._kernel.trainable


@ON_KERAS_3
def test_a_variable_that_the_user_froze_stays_as_it_is():
    dense = layers.Dense(4, name="dense")
    model = net(dense)
    dense.kernel.trainable = False
    before, bias = bits(dense.kernel), bits(dense.bias)
    assert fit_in_phases(model) == [HEAD, HEAD + NORM + 4] * 2
    assert bits(dense.kernel) == before
    assert bits(dense.bias) != bias


@pytest.mark.skipif(BACKEND != "torch", reason="`requires_grad` is of torch")
def test_a_parameter_that_the_user_froze_in_torch_stays_as_it_is():
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    wrapper = layers.TorchModuleWrapper(module, name="module")
    model = keras.Sequential([wrapper, BN(name="bn"), layers.Dense(1, name="head")])
    model(data()[0])
    module[0].weight.requires_grad = False
    before, second = module[0].weight.clone(), module[1].weight.clone()
    assert fit_in_phases(model) == [HEAD, HEAD + NORM + 4 + 16 + 4] * 2
    assert torch.equal(module[0].weight, before)
    assert not torch.equal(module[1].weight, second)


@ON_KERAS_3
def test_an_int8_kernel_stays_as_it_is():
    dense = layers.Dense(4, name="dense")
    model = net(dense)
    dense.quantize("int8")
    before = bits(dense._kernel)
    assert fit_in_phases(model) == [HEAD, HEAD + NORM + 4] * 2
    assert bits(dense._kernel) == before
    assert not dense._kernel.trainable


@ON_KERAS_3
def test_a_repair_leaves_the_kernel_below_lora_as_it_is():
    model, dense = dense_with_lora()
    before = bits(dense._kernel)
    model.compile(sgd(), "mse")
    model.fit(*data(), epochs=1, verbose=0)
    dense.trainable = False
    guard = bng.BNGuard(verbose=0, fix=True)
    with pytest.warns(bng.BNGuardWarning, match="BNG101"):
        model.fit(*data(), epochs=1, verbose=0, callbacks=[guard])
    assert bits(dense._kernel) == before
    assert not dense._kernel.trainable


@ON_KERAS_3
def test_forced_inference_leaves_flags_of_variables_as_they_are():
    model, dense = dense_with_lora()
    before = bits(dense._kernel)
    model.compile(sgd(), "mse")
    with bng.force_inference(model):
        model.fit(*data(), epochs=1, verbose=0)
    assert bits(dense._kernel) == before
    assert not dense._kernel.trainable
    assert dense.lora_kernel_a.trainable
