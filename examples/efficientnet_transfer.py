"""EfficientNet-style transfer that stalls: frozen BN on shifted data, and flags after compile.

KERAS_BACKEND=jax python efficientnet_transfer.py (or tensorflow, torch; TF_USE_LEGACY_KERAS=1)
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
images, source = images.reshape(-1, 8, 8, 1).astype("float32") / 16.0, digits < 5
x, y = 1.0 - 0.5 * images[~source], np.eye(5, dtype="float32")[digits[~source] - 5]
train, held_out = (x[:160], y[:160]), (x[200:712], y[200:712])  # other digits, other lighting
layers, f1 = keras.layers, {}


def macro_f1():
    if keras.__name__ == "keras" and keras.__version__ < "3":
        import tensorflow_addons as tfa

        return tfa.metrics.F1Score(num_classes=5, average="macro", name="f1")
    return keras.metrics.F1Score(average="macro", name="f1")


def norm(h, activation=None):
    h = layers.BatchNormalization(momentum=0.9)(h)  # as in EfficientNetV2
    return layers.Activation(activation or "linear")(h)


def efficientnet():
    h = norm(layers.Conv2D(16, 3, padding="same")(inputs := keras.Input((8, 8, 1))), "swish")
    for filters, stride in ((16, 1), (24, 2)):
        wide = norm(layers.Conv2D(32, 1)(h), "swish")
        wide = norm(layers.DepthwiseConv2D(3, stride, "same")(wide), "swish")
        squeezed = layers.Dense(8, "swish")(layers.GlobalAveragePooling2D(keepdims=True)(wide))
        wide = layers.Multiply()([wide, layers.Dense(32, "sigmoid")(squeezed)])
        narrow = norm(layers.Conv2D(filters, 1)(wide))
        h = layers.Add()([h, narrow]) if stride == 1 else narrow
    return keras.Model(inputs, norm(layers.Conv2D(64, 1)(h), "swish"), name="base")


def classifier(weights=None, norms_train=False):
    keras.utils.set_random_seed(1)
    base = efficientnet()
    h = layers.GlobalAveragePooling2D()(base(inputs := keras.Input((8, 8, 1))))
    h = layers.Dropout(0.2)(layers.BatchNormalization(momentum=0.9)(h))
    model = keras.Model(inputs, layers.Dense(5, "softmax", name="head")(h))
    base.set_weights(pretrained)
    if weights:
        model.set_weights(weights)
    for layer in base.layers:
        layer.trainable = norms_train and isinstance(layer, layers.BatchNormalization)
    model.compile(keras.optimizers.Adam(3e-3), "categorical_crossentropy", metrics=[macro_f1()])
    return model, base


def step(name, model):
    guard = bng.BNGuard(on_finding=lambda finding: None)
    try:
        model.fit(*train, 16, 10, 0, callbacks=[guard])
        f1[name] = 100 * model.evaluate(*held_out, verbose=0)[1]
        score = f"F1 {f1[name]:5.1f} %"
    except Exception as error:
        score = f"fit raised {type(error).__name__}"
    weights = guard.report.weights
    codes = "".join(f"; {f.code} {f.name}" for f in guard.report.findings)
    print(f"{name:30s} {score}; {weights.trainable:,} of {weights.total:,} weights trained{codes}")


keras.utils.set_random_seed(0)
base = efficientnet()
h = layers.GlobalAveragePooling2D()(base.output)
whole = keras.Model(base.input, layers.Dense(5, "softmax")(h))
whole.compile("adam", "sparse_categorical_crossentropy")
whole.fit(images[source][:896], digits[source][:896], 32, 4, 0)  # the pretraining
pretrained = base.get_weights()

model, base = classifier()
step("base frozen in a loop", model)
stalled = model.get_weights()
for layer in base.layers:  # flags that no compile has seen
    layer.trainable = isinstance(layer, layers.BatchNormalization)
step("BN unfrozen, not compiled", model)
model, base = classifier(stalled, norms_train=True)
step("BN unfrozen and compiled", model)
model, base = classifier(norms_train=True)
print(bng.advise(model, train, epochs=10, batch_size=16, layers="base/*", steps=30, folds=2))
model, base = classifier()
bng.recalibrate(model, train[0], layers="base/*")
step("base recalibrated and frozen", model)
_picture.bars(f1, "macro F1 on 512 held-out digits, %")
