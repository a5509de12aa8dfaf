"""Frozen against inference mode: YOLOv4's BN subclass, and an encoder under a classifier.

KERAS_BACKEND=jax python frozen_or_inference.py (or tensorflow, torch; TF_USE_LEGACY_KERAS=1)
"""

import os

if os.environ.get("TF_USE_LEGACY_KERAS") == "1":
    import tf_keras as keras
else:
    import keras
import _picture
import numpy as np
from sklearn.datasets import load_digits

import keras_bnguard as bng

images, digits = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16.0
train, held_out = (images[:160], digits[:160]), (images[325:1125], digits[325:1125])
layers, LOSS = keras.layers, "sparse_categorical_crossentropy"
tensor = keras.ops.convert_to_tensor if hasattr(keras, "ops") else keras.backend.constant


def yolo_norm(both):
    class YoloNorm(layers.BatchNormalization):  # frozen means inference mode
        def call(self, inputs, training=False):
            return super().call(inputs, both(training, self.trainable))

    return YoloNorm


def what_happens(norm, trainable):
    keras.utils.set_random_seed(0)
    bn = norm(trainable=trainable, moving_mean_initializer="ones")
    model = keras.Sequential([keras.Input((8, 8, 1)), bn, layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    before = bn.get_weights()[2]  # the moving mean
    try:
        model.fit(images[:64], digits[:64], verbose=0)
    except Exception as error:
        return type(error).__name__
    return "unchanged" if np.array_equal(before, bn.get_weights()[2]) else "updated"


def encoder(inputs):
    """Eight convolutions with BN and two poolings: 19 layers with the input."""
    h = inputs
    for filters, pool in ((8, 0), (8, 1), (16, 0), (16, 1), (16, 0), (16, 0), (32, 0), (32, 0)):
        h = layers.Conv2D(filters, 3, padding="same", activation="relu")(h)
        h = layers.BatchNormalization()(h)
        h = layers.MaxPooling2D()(h) if pool else h
    return h


def fit(name, model, learning_rate, epochs):
    model.compile(keras.optimizers.Adam(learning_rate), LOSS, metrics=["accuracy"])
    model.fit(*train, 16, epochs, 0)
    accuracy[name] = 100 * model.evaluate(*held_out, verbose=0)[1]
    now = [layer.get_weights() for layer in model.layers[0:19]]
    changed = sum(len(b) == 4 and not np.array_equal(a[3], b[3]) for a, b in zip(now, pretrained))
    print(f"{name:32s} {accuracy[name]:5.1f} %; {changed} of 8 BN updated")


def counts(model):
    return f"{model.count_params():,} params, {bng.audit(model).weights.trainable:,} train in fit"


norms = {
    "Keras's built-in BN": layers.BatchNormalization,
    "YOLOv4's, with tensors": yolo_norm(lambda a, b: tensor(a, "bool") & b),
    "YOLOv4's, in Python": yolo_norm(lambda a, b: bool(a) and b),
}
for name, norm in norms.items():
    print(f"{name:22s} trainable {what_happens(norm, True)}, frozen {what_happens(norm, False)}")
accuracy = {}
keras.utils.set_random_seed(1)
h = code = encoder(inputs := keras.Input((8, 8, 1)))
for filters in (16, 8):
    h = layers.Conv2D(filters, 3, padding="same", activation="relu")(layers.UpSampling2D()(h))
autoencoder = keras.Model(inputs, layers.Conv2D(1, 3, padding="same")(h))
autoencoder.compile("adam", "mse")
autoencoder.fit(images[325:], images[325:], 32, 4, 0)
pretrained = [layer.get_weights() for layer in autoencoder.layers[0:19]]
model = keras.Model(inputs, layers.Dense(10, "softmax")(layers.Flatten()(code)))
model.compile("adam", LOSS)
print("trainable:             ", counts(model))
for layer in model.layers[0:19]:
    layer.trainable = False
print("frozen after compile:  ", counts(model))
fit("encoder frozen", model, 1e-3, 20)
print("compiled again:        ", counts(model))
after_head = model.get_weights()
for layer in model.layers[0:19]:
    layer.trainable = True
fit("unfrozen", model, 1e-4, 5)
model.set_weights(after_head)
bng.force_inference(model, layers="batch_norm*")  # everything trains except the statistics
fit("unfrozen, BN forced", model, 1e-4, 5)
_picture.bars(accuracy, "accuracy on 800 held-out digits, %")
