"""The Keras guide to transfer learning: by hand, with forced inference, as phases, on features.

KERAS_BACKEND=jax python keras_guide.py (or tensorflow, torch; TF_USE_LEGACY_KERAS=1)
"""

import os
import time

if os.environ.get("TF_USE_LEGACY_KERAS") == "1":
    import tf_keras as keras
else:
    import keras
import _picture
import numpy as np
from sklearn.datasets import load_digits

import keras_bnguard as bng

images, digits = load_digits(return_X_y=True)
images, source = images.reshape(-1, 8, 8, 1).astype("float32") / 8 - 1, digits < 5
x, y = 0.5 - 0.5 * images[~source], digits[~source] - 5  # other digits, under other lighting
train, held_out = (x[:128], y[:128]), (x[128:640], y[128:640])  # whole batches compile once
layers, LOSS, accuracy = keras.layers, "sparse_categorical_crossentropy", {}
HEAD = FINE = 10  # epochs


def xception():
    h = layers.Conv2D(16, 3)(inputs := keras.Input((8, 8, 1)))
    h = layers.BatchNormalization(name="bn")(h)
    for filters in (32, 64):
        shortcut = layers.Conv2D(filters, 1, 2)(h)
        for _ in range(2):
            h = layers.SeparableConv2D(filters, 3, padding="same")(layers.ReLU()(h))
            h = layers.BatchNormalization()(h)
        h = layers.Add()([layers.MaxPooling2D(3, 2, "same")(h), shortcut])
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(h), name="base")


def fresh():
    keras.utils.set_random_seed(1)
    (base := xception()).set_weights(pretrained)
    h = layers.GaussianNoise(0.1, seed=1)(inputs := keras.Input((8, 8, 1)))  # augmentation
    h = layers.Dropout(0.2, seed=2)(base(h, training=False))
    return keras.Model(inputs, layers.Dense(5, "softmax", name="head")(h)), base


def fit(model, learning_rate, data, epochs, *callbacks):
    model.compile(keras.optimizers.Adam(learning_rate), LOSS, metrics=["accuracy"])
    # Keras 2 traces a step twice that builds its optimizer, and Dropout draws a seed per trace.
    model.optimizer.build(model.trainable_variables)
    started = time.process_time()
    model.fit(*data, 16, epochs, 0, callbacks=list(callbacks), shuffle=False)
    return time.process_time() - started


def kept(base, of=""):
    pairs = zip(base.weights, base.get_weights(), pretrained)
    same = [np.array_equal(a, b) for w, a, b in pairs if of in getattr(w, "path", w.name)]
    return f"{sum(same)} of {len(same)} {of or 'base'} arrays kept"


def report(name, model, extra, data=held_out):
    accuracy[name] = 100 * model.evaluate(*data, verbose=0)[1]
    print(f"{name:30s} {accuracy[name]:5.1f} %; {extra}")


keras.utils.set_random_seed(0)
h = layers.Dense(5, "softmax")((base := xception()).output)
fit(keras.Model(base.input, h), 1e-3, [part[source][:896] for part in (images, digits)], 5)
pretrained = base.get_weights()
model, base = fresh()  # 1. by hand: the head on a frozen base, unfreeze, compile, fine-tune
bng.force_inference(model)  # frozen BN and training=False: inference mode in the step
base.trainable = False
print("weights of a frozen BN that train:", len(base.get_layer("bn").trainable_weights))
slow = fit(model, 1e-2, train, HEAD)
report("head on the frozen base", model, kept(base))
after_head, base.trainable = model.get_weights(), True
fit(model, 1e-5, train, FINE)
report("fine-tuned, forced inference", model, kept(base, "moving"))
by_hand = model.get_weights()
model, base = fresh()  # 2. without forced inference; the callback only reports
model.set_weights(after_head)
fit(model, 1e-5, train, FINE, guard := bng.BNGuard(on_finding=lambda finding: None))
report("fine-tuned as the guide has it", model, kept(base, "moving"))
print("  findings:", ", ".join(f"{f.code} {f.name}" for f in guard.report.findings) or "none")
model, base = fresh()  # 3. the same two phases in one fit
plan = [bng.Phase("head", "head", 1e-2, HEAD), bng.Phase("all", "*", 1e-5, FINE)]
fit(model, 1e-2, train, HEAD + FINE, bng.PhaseScheduler(plan, "reset", verbose=0))
same = all(map(np.array_equal, model.get_weights(), by_hand))
report("two phases in one fit", model, "the same bits as by hand" if same else "OTHER WEIGHTS")
model.trainable = False  # 4. the base once, then a small model on its features
try:
    bng.precompute_features(model, train)
except bng.UnsupportedModelError as error:
    print("  refused:", str(error).split(":")[0])
f, ahead = (bng.precompute_features(base, data) for data in (train, held_out))
small = keras.Sequential([keras.Input(f.x.shape[1:]), layers.Dense(5, "softmax")])
fast = fit(small, 1e-2, (f.x, f.y), HEAD)
report("head on features", small, f"{slow / fast:.0f} times less CPU", (ahead.x, ahead.y))
_picture.bars(accuracy, "accuracy on 512 held-out digits, %")
