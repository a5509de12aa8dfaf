"""Training in many styles, as people write it: right ones first, then ones with a fault.

python pipelines.py FILE: prints what training printed and saves all weights to FILE.
"""

import argparse
import os
import sys

import numpy as np

STACK = os.environ["BNGUARD_STACK"]
if STACK == "k2":
    from tensorflow import keras
elif STACK == "tfk":
    import tf_keras as keras
else:
    import keras

parser = argparse.ArgumentParser()
parser.add_argument("weights")
parser.add_argument("--report", default="the script's own")
args = parser.parse_args()

rng = np.random.default_rng(3)
X = rng.normal(1.0, 2.0, (48, 6)).astype("float32")
Y = X[:, :1].copy()
saved = {}


def layers(name, *more):
    return [
        keras.layers.Input((6,)),
        keras.layers.Dense(5, name=f"{name}_dense"),
        keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn"),
        *more,
        keras.layers.Dense(1, name=f"{name}_out"),
    ]


def sequential(name, *more):
    return keras.Sequential(layers(name, *more), name=name)


def keep(model):
    for i, value in enumerate(model.get_weights()):
        saved[f"{model.name}/{i}"] = value


def show(history):
    print({key: [float(v).hex() for v in value] for key, value in sorted(history.history.items())})


def functional():
    x = inputs = keras.Input((6,))
    for layer in layers("functional")[1:]:
        x = layer(x)
    model = keras.Model(inputs, x, name="functional")
    model.compile("adam", "mse", metrics=["mae"])
    show(model.fit(X, Y, 16, 2, 0, shuffle=False, validation_data=(X, Y)))
    keep(model)


class Stepping(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(5)
        self.bn = keras.layers.BatchNormalization(name="bn")
        self.out = keras.layers.Dense(1)

    def call(self, inputs, training=None):
        return self.out(self.bn(self.dense(inputs), training=training))

    def train_step(self, *arguments):
        return super().train_step(*arguments)


def subclassed():
    model = Stepping(name="subclassed")
    model.compile("sgd", "mse")
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(e))
    show(model.fit(X, Y, epochs=2, verbose=0, shuffle=False, callbacks=callback))
    print(seen)
    keep(model)


def two_fits():
    model = sequential("two_fits")
    model.compile("sgd", "mse")
    show(model.fit(X, Y, verbose=0, shuffle=False))
    model.get_layer("two_fits_bn").trainable = False
    model.compile("sgd", "mse")
    show(model.fit(X, Y, verbose=0, shuffle=False))
    keep(model)


def on_batch():
    model = sequential("on_batch")
    model.compile("sgd", "mse")
    for _ in range(6):
        print(float(np.ravel(model.train_on_batch(X, Y))[0]).hex())
    keep(model)


def gan():
    """The discriminator is compiled trainable, and frozen in the model that trains the other."""
    generator = keras.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.Dense(6, name="g_dense"),
            keras.layers.BatchNormalization(name="g_bn"),
        ],
        name="generator",
    )
    discriminator = sequential("discriminator")
    discriminator.compile("sgd", "mse")
    # Keras 3 reads flags when a step is made, so the first one comes before they are changed.
    discriminator.train_on_batch(X, np.ones((48, 1), "float32"))
    noise = rng.normal(size=(48, 3)).astype("float32")
    inputs = keras.Input((3,))
    combined = keras.Model(inputs, discriminator(generator(inputs)), name="combined")
    ones = np.ones((48, 1), "float32")
    discriminator.trainable = False
    combined.compile("sgd", "mse")
    for _ in range(4):
        discriminator.trainable = True
        discriminator.train_on_batch(X, ones)
        discriminator.trainable = False
        combined.train_on_batch(noise, ones)
    keep(combined)


def custom_loop(name, training):
    model = sequential(name)
    optimizer = keras.optimizers.SGD(0.01)
    if STACK in ("k2", "tfk", "k3-tf"):
        import tensorflow as tf

        def plain(x, y):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(x, training=training) - y))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables))
            return loss

        for step in (plain, tf.function(plain)):
            for _ in range(4):
                print(float(step(X, Y)).hex())
    elif STACK == "k3-jax":
        import jax

        optimizer.build(model.trainable_variables)

        def loss_of(weights, state, x, y):
            out, state = model.stateless_call(weights, state, x, training=training)
            return ((out - y) ** 2).mean(), state

        @jax.jit
        def step(weights, state, optimizer_state, x, y):
            grad = jax.value_and_grad(loss_of, has_aux=True)
            (loss, state), gradients = grad(weights, state, x, y)
            weights, optimizer_state = optimizer.stateless_apply(
                optimizer_state, gradients, weights
            )
            return loss, weights, state, optimizer_state

        weights = [v.value for v in model.trainable_variables]
        state = [v.value for v in model.non_trainable_variables]
        optimizer_state = [v.value for v in optimizer.variables]
        for _ in range(4):
            loss, weights, state, optimizer_state = step(weights, state, optimizer_state, X, Y)
            print(float(loss).hex())
        for lists in (
            (model.trainable_variables, weights),
            (model.non_trainable_variables, state),
            (optimizer.variables, optimizer_state),
        ):
            for variable, value in zip(*lists):
                variable.assign(value)
    else:
        import torch

        x, y = (keras.ops.convert_to_tensor(each) for each in (X, Y))  # On the model's device.
        own = [v.value for v in model.trainable_variables]
        adam = torch.optim.SGD(model.parameters() if training else own, 0.01)
        for _ in range(4):
            loss = ((model(x, training=training) - y) ** 2).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            print(float(loss.detach()).hex())
    keep(model)


def frozen_late():
    model = sequential("frozen_late")
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0, shuffle=False)
    model.get_layer("frozen_late_bn").trainable = False  # the fault
    try:
        show(model.fit(X, Y, verbose=0, shuffle=False))
        keep(model)
    except ValueError as error:  # JAX will not; the model cannot be used any more.
        print(type(error).__name__)


def frozen_parent():
    base = sequential("base")
    base.trainable = False
    base.get_layer("base_bn").trainable = True  # trainable under a frozen parent
    x = inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(1)(base(x)), name="frozen_parent")
    model.compile("sgd", "mse")
    for _ in range(3):
        model.train_on_batch(X, Y)
    keep(model)


def recipe():
    base = sequential("trunk")
    base.set_weights([value + 0.5 for value in base.get_weights()])
    x = inputs = keras.Input((6,))
    x = base(x, training=False)  # the recipe
    model = keras.Model(inputs, keras.layers.Dense(1)(x), name="recipe")
    model.compile("sgd", "mse")
    show(model.fit(X, Y, verbose=0, shuffle=False))  # the recipe trains
    keep(model)


keras.utils.set_random_seed(7)
for train in (functional, subclassed, two_fits, on_batch, gan):
    print(train.__name__)
    train()
custom_loop("custom_loop", True)
custom_loop("custom_loop_inference", False)
frozen_late()
frozen_parent()
recipe()
print(sys.argv[2:], sys.path[0] == os.path.dirname(os.path.realpath(__file__)), __name__)
np.savez(args.weights, **saved)
sys.exit(3)
