"""Styles of pipelines beside those of pipelines.py: many models, saved and loaded ones, threads.

python styles.py FILE: prints what training printed, saves all weights to FILE, and is ended by a
signal whose handler chooses the exit code.
"""

import os
import signal
import sys
import tempfile
import threading
import warnings
import weakref

import numpy as np

STACK = os.environ["BNGUARD_STACK"]
if STACK == "k2":
    from tensorflow import keras
elif STACK == "tfk":
    import tf_keras as keras
else:
    import keras

X = np.random.default_rng(3).normal(1.0, 2.0, (48, 6)).astype("float32")
Y = X[:, :1].copy()
FIT = {"verbose": 0, "shuffle": False}
saved = {}


def made(name, learning_rate=0.01):
    layers = [
        keras.layers.Input((6,)),
        keras.layers.Dense(5, name=f"{name}_dense"),
        keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn"),
        keras.layers.Dense(1, name=f"{name}_out"),
    ]
    model = keras.Sequential(layers, name=name)
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    return model


def keep(model, name=None):
    saved.update({f"{name or model.name}/{i}": v for i, v in enumerate(model.get_weights())})


def show(history):
    print({key: [float(v).hex() for v in value] for key, value in sorted(history.history.items())})


def search():
    """As a tuner does: a new model for every choice, the old ones dropped."""
    models = []
    for learning_rate in (0.1, 0.01):
        model = made(f"lr_{learning_rate}".replace(".", "_"), learning_rate)
        stop = keras.callbacks.EarlyStopping(patience=1)
        show(model.fit(X, Y, validation_split=0.25, callbacks=[stop], **FIT))
        keep(model)
        models.append(weakref.ref(model))


def folds():
    whole = made("whole")
    weights = whole.get_weights()
    for fold in range(1):
        model = keras.models.clone_model(whole)
        model.compile("adam", "mse")
        model.set_weights(weights)
        inside = np.arange(48) % 2 != fold
        show(model.fit(X[inside], Y[inside], validation_data=(X[~inside], Y[~inside]), **FIT))
        keep(model, f"fold{fold}")


def saved_midway():
    """A model that is loaded goes on as it was compiled, also inside a fit."""
    model = made("midway")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.keras")
        model.save(path)
        loaded = []
        load = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: loaded.append(keras.models.load_model(path))
        )
        show(model.fit(X, Y, callbacks=[load], **FIT))
    show(loaded[0].fit(X, Y, **FIT))
    keep(model)
    keep(loaded[0], "loaded")
    print(sorted(name for name in vars(model) if "bng" in name))


def threads():
    models = [made(f"thread{i}") for i in range(2)]
    work = [threading.Thread(target=model.fit, args=(X, Y), kwargs=FIT) for model in models]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    for model in models:
        keep(model)


class OwnFit(keras.Model):
    def __init__(self):
        super().__init__(name="own_fit")
        self.bn = keras.layers.BatchNormalization(name="bn")
        self.out = keras.layers.Dense(1)

    def call(self, inputs, training=None):
        return self.out(self.bn(inputs, training=training))

    def fit(self, data, times=1, **more):
        return [super(OwnFit, self).fit(data[0], data[1], **more) for _ in range(times)]


def own_fit():
    model = OwnFit()
    model.compile("sgd", "mse")
    for history in model.fit((X, Y), times=2, **FIT):
        show(history)
    keep(model)


def left():
    """A fit that is left by an exception, which is caught, and a fit after it."""

    class Full(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise OSError("disk full")

    model = made("left")
    try:
        model.fit(X, Y, callbacks=[Full()], **FIT)
    except OSError as error:
        print(error)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        show(model.fit(X, Y, **FIT))
    keep(model)


def ended(number, frame):
    print("ended by", number)
    np.savez(sys.argv[1], **saved)
    sys.exit(9)


keras.utils.set_random_seed(7)
for train in (search, folds, saved_midway, threads, own_fit, left):
    print(train.__name__)
    train()
cells = [
    "model = made('cells')",
    "model.get_layer('cells_bn').trainable = False",
    "model.fit(X, Y)",
]
for number, cell in enumerate(cells):  # As a notebook runs them.
    if number == 2 and STACK == "k3-jax":
        break
    exec(compile(cell.replace("(X, Y)", "(X, Y, **FIT)"), f"<cell {number}>", "exec"))
signal.signal(signal.SIGTERM, ended)
os.kill(os.getpid(), signal.SIGTERM)
