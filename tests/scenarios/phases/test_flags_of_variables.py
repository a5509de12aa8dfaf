"""A variable that does not train, whatever the flag of its layer, does not train in any phase."""

from __future__ import annotations

import pytest

import keras_bnguard as bng
from tests.builders.models import BN, data, layers, sgd
from tests.builders.values import as_array
from tests.stack import IS_KERAS3, keras


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


def fit_in_phases(model):
    model.compile(sgd(), "mse")
    phases = [
        bng.Phase("head", train="head", epochs=1),
        bng.Phase("all", train="*", epochs=1),
        bng.Phase("head again", train="head", epochs=1),
        bng.Phase("all again", train="*", epochs=1),
    ]
    model.fit(*data(), epochs=4, verbose=0, callbacks=[bng.PhaseScheduler(phases)])


def test_a_weight_made_not_to_train_stays_so():
    model = net(Scale(name="scale"))
    fit_in_phases(model)
    scale = model.get_layer("scale")
    assert float(as_array(scale.fixed)) == 1.0
    assert float(as_array(scale.trained)) != 1.0
    assert [w.name.split("/")[-1].split(":")[0] for w in scale.trainable_weights] == ["trained"]


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 3 alone has LoRA")
@pytest.mark.parametrize("started_frozen", [False, True])
def test_the_kernel_below_lora_stays_as_it_is(started_frozen):
    dense = layers.Dense(4, name="dense")
    model = net(dense)
    dense.enable_lora(2)
    if started_frozen:
        dense.trainable = False
        dense._kernel.trainable = False
    before = as_array(dense._kernel).tobytes()
    adapters = as_array(dense.lora_kernel_b).tobytes()
    fit_in_phases(model)
    assert as_array(dense._kernel).tobytes() == before
    assert as_array(dense.lora_kernel_b).tobytes() != adapters
    assert not dense._kernel.trainable


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 3 alone quantizes layers")
def test_an_int8_kernel_stays_as_it_is():
    dense = layers.Dense(4, name="dense")
    model = net(dense)
    dense.quantize("int8")
    before = as_array(dense._kernel).tobytes()
    fit_in_phases(model)
    assert as_array(dense._kernel).tobytes() == before
    assert not dense._kernel.trainable
