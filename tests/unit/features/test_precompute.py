"""`precompute_features`: runs the backbone once, and raises where features would differ later."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.models import layers
from tests.builders.values import as_array, statistics
from tests.stack import IS_KERAS3, keras

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(37, 6, 6, 3)).astype("float32")
LABELS = np.arange(37) % 3


def backbone(extra=None, training=None):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    bn = layers.BatchNormalization(name="bn")
    x = bn(x) if training is None else bn(x, training=training)
    x = extra(x) if extra is not None else x
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name="backbone")
    mean, variance = np.array([0.5, -1, 2, 0]), np.array([2.0, 0.5, 1, 3])
    model.get_layer("bn").set_weights([np.ones(4), np.zeros(4), mean, variance])
    model.trainable = False
    return model


def test_features_are_those_of_predict_in_the_order_of_the_data():
    model = backbone()
    features = bng.precompute_features(model, (IMAGES, LABELS), batch_size=8)
    assert features.x.shape == (37, 4)
    assert features.x.dtype == np.float32
    assert features.rows == 37
    np.testing.assert_allclose(features.x, model.predict(IMAGES, verbose=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(features.y, LABELS)
    assert features.sample_weight is None


def test_labels_and_weights_stay_with_rows_that_are_shuffled_at_every_pass():
    model, order = backbone(), np.random.default_rng(1)

    def batches():
        rows = order.permutation(37)
        for part in np.array_split(rows, 4):
            yield IMAGES[part], LABELS[part], part.astype("float32")

    features = bng.precompute_features(model, batches)
    rows = features.sample_weight.astype(int)
    assert sorted(rows) == list(range(37))
    assert list(rows) != list(range(37))
    np.testing.assert_array_equal(features.y, LABELS[rows])
    whole = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(features.x, whole[rows], rtol=1e-5, atol=1e-6)


def test_several_inputs_and_outputs_keep_their_names():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    x = layers.BatchNormalization(name="bn")(layers.Concatenate()([a, b]))
    model = keras.Model({"a": a, "b": b}, {"both": x, "half": layers.Dense(2)(x)})
    model.trainable = False
    data = {"a": np.ones((10, 3), "float32"), "b": np.zeros((10, 2), "float32")}
    features = bng.precompute_features(model, data, batch_size=4)
    assert {name: value.shape for name, value in features.x.items()} == {
        "both": (10, 5),
        "half": (10, 2),
    }
    assert features.y is None


def test_a_head_on_features_learns_what_it_learns_behind_the_backbone():
    model = backbone()
    head = layers.Dense(3, name="head")
    whole_input = keras.Input((6, 6, 3))
    whole = keras.Model(whole_input, head(model(whole_input)))
    start = [w.copy() for w in head.get_weights()]
    settings = {"batch_size": 37, "epochs": 5, "shuffle": False, "verbose": 0}
    whole.compile(keras.optimizers.SGD(0.1), "mse")
    target = np.eye(3, dtype="float32")[LABELS]
    whole.fit(IMAGES, target, **settings)
    trained = [w.copy() for w in head.get_weights()]
    features = bng.precompute_features(model, (IMAGES, target))
    head.set_weights(start)
    head_input = keras.Input((4,))
    head_model = keras.Model(head_input, head(head_input))
    head_model.compile(keras.optimizers.SGD(0.1), "mse")
    head_model.fit(features.x, features.y, **settings)
    for one, other in zip(trained, head.get_weights()):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_a_backbone_that_trains_is_refused():
    model = backbone()
    model.get_layer("conv").trainable = True
    model.trainable = True
    with pytest.raises(bng.UnsupportedModelError, match="conv, bn would train"):
        bng.precompute_features(model, IMAGES)


def test_a_trainable_bn_in_a_frozen_backbone_is_refused():
    model = backbone()
    model.get_layer("bn").trainable = True
    with pytest.raises(bng.UnsupportedModelError, match="bn"):
        bng.precompute_features(model, IMAGES)


def test_a_backbone_compiled_before_it_was_frozen_is_taken():
    model = backbone()
    model.trainable = True
    model.compile("sgd", "mse")
    model.trainable = False
    assert bng.precompute_features(model, IMAGES).rows == 37


@pytest.mark.parametrize("layer", ["Dropout", "GaussianNoise"])
def test_dropout_in_the_backbone_is_refused_unless_it_is_to_be_off(layer):
    model = backbone(getattr(layers, layer)(0.5, name="random"))
    states = [as_array(v).tobytes() for v in model.variables]
    with pytest.raises(bng.UnsupportedModelError, match=r"in training mode.*random"):
        bng.precompute_features(model, IMAGES)
    assert states == [as_array(v).tobytes() for v in model.variables]
    features = bng.precompute_features(model, IMAGES, inference_only=True)
    np.testing.assert_allclose(features.x, model.predict(IMAGES, verbose=0), rtol=1e-5, atol=1e-6)


class Noisy(layers.Layer):
    """Random in inference mode too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if IS_KERAS3:
            self.seeds = keras.random.SeedGenerator(1)

    def call(self, x):
        if IS_KERAS3:
            return x + keras.random.normal((1,), seed=self.seeds)
        import tensorflow as tf

        return x + tf.random.normal((1,))


class MinusBatchMean(layers.Layer):
    """Subtracts the mean of the batch in every mode."""

    def call(self, x):
        if IS_KERAS3:
            return x - keras.ops.mean(x, axis=0, keepdims=True)
        import tensorflow as tf

        return x - tf.reduce_mean(x, axis=0, keepdims=True)


def test_a_backbone_that_is_random_in_inference_is_refused_even_where_dropout_is_to_be_off():
    with pytest.raises(bng.UnsupportedModelError, match="called again"):
        bng.precompute_features(backbone(Noisy()), IMAGES, inference_only=True)


def test_a_backbone_that_mixes_rows_is_refused():
    with pytest.raises(bng.UnsupportedModelError, match="other rows"):
        bng.precompute_features(backbone(MinusBatchMean()), IMAGES)


def test_a_bn_called_with_training_true_is_refused_where_this_keras_updates_it():
    model = backbone(training=True)
    # No stack updates a frozen BN.
    assert bng.precompute_features(model, IMAGES).rows == 37
    model.get_layer("bn").trainable = True
    before = statistics(model.get_layer("bn"))
    with pytest.raises(bng.UnsupportedModelError, match="bn"):
        bng.precompute_features(model, IMAGES, inference_only=True)
    assert statistics(model.get_layer("bn")) == before


def test_data_of_another_shape_is_refused():
    with pytest.raises(bng.DataError, match="shape"):
        bng.precompute_features(backbone(), IMAGES[..., :2])
