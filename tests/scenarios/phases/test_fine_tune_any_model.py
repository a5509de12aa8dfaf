"""`PhaseScheduler.fine_tune(model)` finds the head of any model; so does a selector's error."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.errors import SelectorError
from tests.builders.values import at
from tests.stack import STACK, keras

layers = keras.layers
SHAPE = (16, 16, 3)


def with_statistics(model):
    """The model, with other statistics than a new one has: those of a pretrained network."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if hasattr(layer, "moving_mean"):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def backbone():
    inputs = x = keras.Input(SHAPE)
    for i in range(3):
        x = layers.Conv2D(8, 3, strides=2, padding="same", name=f"conv{i}")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"bn{i}")(x))
    outputs = layers.GlobalAveragePooling2D()(x)
    return with_statistics(keras.Model(inputs, outputs, name="pretrained"))


def functional():
    inputs = keras.Input(SHAPE)
    x = layers.BatchNormalization(name="new_norm")(backbone()(inputs))
    return keras.Model(inputs, layers.Dense(1, name="classes")(x))


def in_one_graph():
    base = backbone()
    return keras.Model(base.input, layers.Dense(1, name="predictions")(base.output))


def sequential():
    parts = [
        keras.Input(SHAPE),
        backbone(),
        layers.Dense(4, name="fc1"),
        layers.Dense(1, name="fc2"),
    ]
    return keras.Sequential(parts)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.base = backbone()
        self.classifier = layers.Dense(1, name="classifier")

    def call(self, x, training=None):
        return self.classifier(self.base(x, training=training))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, *SHAPE), "float32"))
    return model


def nested():
    """A pretrained network inside a model inside a model, and a head that is one, too."""
    parts = [keras.Input(SHAPE), layers.Rescaling(1.0), backbone()]
    encoder = keras.Sequential(parts, name="encoder")
    features = keras.Input((8,))
    x = layers.BatchNormalization(name="norm")(layers.Dense(4, name="dense")(features))
    top = keras.Model(features, layers.Dense(1, name="out")(x), name="top")
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, top(encoder(inputs)))


def u_net():
    """A pretrained encoder, and a new decoder joined to it by skips, in one graph."""
    inputs = x = keras.Input(SHAPE)
    skips = []
    for i in range(3):
        x = layers.Conv2D(8, 3, strides=2 if i else 1, padding="same", name=f"down{i}")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"down_bn{i}")(x))
        skips.append(x)
    with_statistics(keras.Model(inputs, x))
    for i in (1, 0):
        x = layers.Concatenate()([layers.UpSampling2D()(x), skips[i]])
        x = layers.Conv2D(8, 3, padding="same", name=f"up{i}")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"up_bn{i}")(x))
    return keras.Model(inputs, layers.Conv2D(1, 1, name="mask")(x))


def two_heads():
    base = backbone()
    x = layers.Dense(4, name="hidden")(base.output)
    outputs = [layers.Dense(1, name="one")(base.output), layers.Dense(1, name="other")(x)]
    return keras.Model(base.input, outputs)


def two_inputs():
    image, table = keras.Input(SHAPE), keras.Input((5,))
    x = layers.BatchNormalization(name="table_norm")(layers.Dense(4, name="table")(table))
    x = layers.Concatenate()([backbone()(image), x])
    return keras.Model([image, table], layers.Dense(1, name="classes")(x))


def recurrent():
    inputs = keras.Input((6, 4))
    x = layers.LSTM(16, return_sequences=True)(inputs)
    x = layers.LSTM(8)(layers.BatchNormalization()(x))
    base = with_statistics(keras.Model(inputs, x, name="pretrained"))
    series = keras.Input((6, 4))
    return keras.Model(series, layers.Dense(1, name="classes")(base(series)))


def torch_module():
    import torch

    parts = [torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.AdaptiveAvgPool2d(1)]
    parts[1].running_mean.fill_(0.5)
    module = torch.nn.Sequential(*parts, torch.nn.Flatten())
    wrapped = layers.TorchModuleWrapper(module, name="pretrained")
    model = keras.Sequential([keras.Input((3, 16, 16)), wrapped, layers.Dense(1, name="classes")])
    model(np.zeros((1, 3, 16, 16), "float32"))
    return model


HEADS = {
    functional: ["new_norm", "classes"],
    in_one_graph: ["predictions"],
    sequential: ["fc1", "fc2"],
    subclassed: ["classifier"],
    nested: ["top/dense", "top/norm", "top/out"],
    u_net: ["up1", "up_bn1", "up0", "up_bn0", "mask"],
    two_heads: ["hidden", "one", "other"],
    two_inputs: ["table", "table_norm", "classes"],
    recurrent: ["classes"],
    **({torch_module: ["classes"]} if STACK == "k3-torch" else {}),
}
SHAPES = {two_inputs: [SHAPE, (5,)], recurrent: [(6, 4)], torch_module: [(3, 16, 16)]}
each_model = pytest.mark.parametrize("make", HEADS, ids=lambda make: make.__name__)


@each_model
def test_its_first_phase_trains_the_head_and_nothing_else(make):
    model = make()
    model.compile("sgd", "mse")
    first, second = bng.PhaseScheduler.fine_tune(model, head_epochs=1, base_lr=0.1).phases
    assert sorted(first.train) == sorted(HEADS[make])
    assert set(first.train) < set(second.train)
    schedule = bng.PhaseScheduler([first], verbose=0)
    before = [w.copy() for w in model.get_weights()]
    inside = {id(v) for path in HEADS[make] for v in at(model, path).weights}
    x = inputs_of(make)
    y = model.predict(x, verbose=0)
    y = [one + 1 for one in y] if isinstance(y, list) else y + 1
    model.fit(x, y, batch_size=4, epochs=1, verbose=0, callbacks=[schedule])
    changed = 0
    for variable, old, new in zip(model.weights, before, model.get_weights()):
        assert id(variable) in inside or np.array_equal(old, new)
        changed += not np.array_equal(old, new)
    assert changed


def inputs_of(make):
    rng = np.random.default_rng(1)
    found = [rng.normal(size=(8, *shape)).astype("float32") for shape in SHAPES.get(make, [SHAPE])]
    return found if len(found) > 1 else found[0]


def test_a_model_without_a_head_is_refused():
    with pytest.raises(bng.ScheduleError, match="is the whole model 'pretrained'"):
        bng.PhaseScheduler.fine_tune(backbone())


@each_model
def test_a_selector_that_matches_nothing_is_answered_with_the_layers_of_the_head(make):
    model = make()
    schedule = bng.PhaseScheduler([bng.Phase("first", train="head*", learning_rate=0.1)])
    with pytest.raises(SelectorError) as error:
        schedule.plan(model)
    assert all(path in str(error.value) for path in HEADS[make])
    assert "PhaseScheduler.fine_tune(model)" in str(error.value)
