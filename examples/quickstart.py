"""The transfer-learning recipe of the Keras guide on real digits, as it is and repaired.

pip install 'keras_bnguard[demo]'
KERAS_BACKEND=torch python quickstart.py     # Keras 3 on tensorflow, jax or torch
TF_USE_LEGACY_KERAS=1 python quickstart.py   # Keras 2 as the package tf_keras
"""

import os

if os.environ.get("TF_USE_LEGACY_KERAS") == "1":
    import tf_keras as keras
else:
    import keras
from sklearn.datasets import load_digits

import keras_bnguard as bng

images, digits = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16.0
source = digits < 5
x, y = 1.0 - 0.5 * images[~source], digits[~source] - 5  # other digits, under other lighting
train, held_out = slice(120), slice(120, 620)
layers, LOSS = keras.layers, "sparse_categorical_crossentropy"


def backbone():
    inputs = outputs = keras.Input((8, 8, 1))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        outputs = layers.Conv2D(filters, 3, stride, "same", use_bias=False)(outputs)
        outputs = layers.ReLU()(layers.BatchNormalization()(outputs))
    return keras.Model(inputs, outputs, name="base")


def with_head(base, **call):
    x = layers.GlobalAveragePooling2D()(base(inputs := keras.Input((8, 8, 1)), **call))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


def fit(model, learning_rate, x, y, epochs, callbacks=()):
    model.compile(keras.optimizers.Adam(learning_rate), LOSS, metrics=["accuracy"])
    model.fit(x, y, batch_size=8, epochs=epochs, callbacks=list(callbacks), verbose=0)


def report(finding):
    print(f"  {finding.code} {finding.name}: {finding.repaired or 'not repaired'}")


keras.utils.set_random_seed(0)
fit(with_head(pretrained := backbone()), 1e-3, images[source], digits[source], epochs=3)
for fix in (False, True):
    keras.utils.set_random_seed(1)
    (base := backbone()).set_weights(pretrained.get_weights())
    base.trainable = False  # 1. train the head on the frozen base
    model = with_head(base, training=False)
    fit(model, 1e-2, x[train], y[train], epochs=10)
    base.trainable = True  # 2. unfreeze, compile again at a low learning rate, fine-tune
    print(f"BNGuard(fix={fix})")
    fit(model, 1e-4, x[train], y[train], 5, [bng.BNGuard(fix=fix, on_finding=report)])
    _, accuracy = model.evaluate(x[held_out], y[held_out], verbose=0)
    print(f"  {100 * accuracy:.1f} % on held-out digits")
