"""The training set is the validation set, and the two disagree: which mode is each in?

KERAS_BACKEND=jax python train_equals_validation.py (or tensorflow, torch; TF_USE_LEGACY_KERAS=1)
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
source, two = digits < 8, digits >= 8
x, y = 1.0 - 0.5 * images[two][:96], digits[two][:96] - 8  # two new classes, other lighting
layers, LOSS = keras.layers, "sparse_categorical_crossentropy"


def resnet():
    """Bottlenecks as in ResNet50, in two stages of one instead of 3, 4, 6, 3; 9 BN, not 53."""
    h = conv(inputs := keras.Input((8, 8, 1)), 16, 3)
    for stage, filters in enumerate((8, 16)):
        stride = 1 + (stage > 0)
        after = conv(h, filters * 4, 1, stride, relu=False)
        h = conv(conv(h, filters, 1, stride), filters, 3)
        h = layers.ReLU()(layers.Add()([conv(h, filters * 4, 1, relu=False), after]))
    return inputs, layers.GlobalAveragePooling2D()(h)


def conv(h, filters, size, stride=1, relu=True):
    h = layers.Conv2D(filters, size, stride, "same", use_bias=False)(h)
    h = layers.BatchNormalization()(h)  # momentum 0.99, the default
    return layers.ReLU()(h) if relu else h


def fine_tune(forced=None):
    """From the pretrained weights, with the training set as validation set."""
    keras.utils.set_random_seed(1)
    inputs, features = resnet()
    keras.Model(inputs, features).set_weights(pretrained)
    model = keras.Model(inputs, layers.Dense(2, "softmax")(features))
    model.compile(keras.optimizers.Adam(1e-3), LOSS, metrics=["accuracy"])
    if forced:
        bng.force_inference(model, layers=forced)
    fit = model.fit(x, y, 16, 10, 0, validation_data=(x, y))
    return model, fit.history


def report(name, model):
    gap = bng.mode_gap(model, (x, y), batch_size=16)
    _, evaluated = model.evaluate(x, y, verbose=0)
    learning, inference = gap.training["accuracy"], gap.inference["accuracy"]
    print(
        f"{name:17s} phase 1: {100 * learning:5.1f} %, phase 0: {100 * inference:5.1f} %, "
        f"evaluate: {100 * evaluated:5.1f} %, loss {gap.gap():+.2f} from mode alone"
    )


keras.utils.set_random_seed(0)
inputs, features = resnet()
whole = keras.Model(inputs, layers.Dense(8, "softmax")(features))
whole.compile("adam", LOSS)
whole.fit(images[source][:1440], digits[source][:1440], 32, 3, 0)  # the pretraining
pretrained = keras.Model(inputs, features).get_weights()

model, as_is = fine_tune()
last = {name: 100 * values[-1] for name, values in as_is.items()}
print(f"fit reports accuracy {last['accuracy']:.1f} %, val_accuracy {last['val_accuracy']:.1f} %")
report("as it is", model)
steps = model.optimizer.iterations
print(f"  0.99 ** {int(steps)} = {0.99 ** int(steps):.2f} of the old statistics are still in")
result = bng.recalibrate(model, x, batch_size=16)
report("recalibrated", model)
result.undo()
report("undone", model)
model, forced = fine_tune(forced="*")
report("forced inference", model)
curves = {"training, as it is": as_is["accuracy"], "validation": as_is["val_accuracy"]}
curves.update(
    {"training, forced": forced["accuracy"], "validation, forced": forced["val_accuracy"]}
)
percent = {name: 100 * np.array(values) for name, values in curves.items()}
_picture.lines(percent, "epoch", "accuracy on the same 96 images, %")
