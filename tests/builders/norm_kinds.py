"""Kinds of BN that users write; the package has a list of none of them."""

from __future__ import annotations

import numpy as np

from tests.builders.models import BN, layers
from tests.stack import BACKEND, IS_KERAS3, STACK, keras


class KeywordsOnly(BN):
    def call(self, inputs, **kwargs):
        return super().call(inputs, **kwargs)


class StarArguments(BN):
    def call(self, inputs, *args, **kwargs):
        return super().call(inputs, *args, **kwargs)


class AlwaysTraining(BN):
    def call(self, inputs):
        return super().call(inputs, training=True)


class AlwaysTrainingThoughAsked(BN):
    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


class AlwaysTrainingKeywords(BN):
    def call(self, inputs, **kwargs):
        kwargs["training"] = True
        return super().call(inputs, **kwargs)


class DefaultTrue(BN):
    def call(self, inputs, training=True):
        return super().call(inputs, training=training)


class KeywordOnlyTraining(BN):
    def call(self, inputs, *, training=None):
        return super().call(inputs, training=training)


class WithMask(BN):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training)


class OtherName(BN):
    """Keras does not know this parameter, so its default counts, in `predict` too."""

    def call(self, inputs, is_training=True):
        return super().call(inputs, training=is_training)


class TextMode(BN):
    def call(self, inputs, mode="train"):
        return super().call(inputs, training=mode == "train")


class OwnCallMethod(BN):
    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)


class OwnCallMethodTrains(BN):
    """Passes True at each call, whatever it gets."""

    def __call__(self, inputs, **kwargs):
        kwargs["training"] = True
        return super().__call__(inputs, **kwargs)


def mean_and_variance(x, axes):
    if IS_KERAS3:
        return keras.ops.mean(x, axis=axes), keras.ops.var(x, axis=axes)
    import tensorflow as tf

    return tf.nn.moments(x, axes)


def square_root(x):
    return keras.ops.sqrt(x) if IS_KERAS3 else x**0.5


class OwnMomentum(BN):
    """Updates its statistics itself, with the right switch."""

    def call(self, inputs, training=None):
        if training and self.trainable:
            mean, variance = mean_and_variance(inputs, [0])
            self.moving_mean.assign(self.moving_mean * 0.5 + mean * 0.5)
            self.moving_variance.assign(self.moving_variance * 0.5 + variance * 0.5)
        return super().call(inputs, training=False)


class UpdatesAlways(BN):
    """Normalises with its statistics, and updates them at every call."""

    def call(self, inputs, training=None):
        mean, _ = mean_and_variance(inputs, [0])
        self.moving_mean.assign(self.moving_mean * 0.5 + mean * 0.5)
        return super().call(inputs, training=training)


class MomentsByHand(BN):
    """Keeps its statistics, and normalises with those of the batch."""

    def call(self, inputs, training=None):
        mean, variance = mean_and_variance(inputs, [0])
        return (inputs - mean) / square_root(variance + 1e-3)


class SwitchInAttribute(BN):
    use_batch = True

    def call(self, inputs, training=None):
        return super().call(inputs, training=self.use_batch)


class NoNorm(layers.Layer):
    """No BN of Keras, with moving statistics of its own."""

    def build(self, shape):
        width = (int(shape[-1]),)
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=width, trainable=False, initializer="zeros"
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=width, trainable=False, initializer="ones"
        )
        self.built = True

    def call(self, x, training=None):
        mean, variance = self.moving_mean, self.moving_variance
        if training:
            mean, variance = mean_and_variance(x, [0])
            self.moving_mean.assign(self.moving_mean * 0.5 + mean * 0.5)
        return (x - mean) / square_root(variance + 1e-3)

    def compute_output_shape(self, shape):
        return shape


class Inside(layers.Layer):
    """BN inside a layer of the user's."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.bn = BN(name="bn")

    def build(self, shape):
        self.bn.build(shape)
        self.built = True

    def call(self, x, training=None):
        return self.bn(x, training=training) * 2.0

    def compute_output_shape(self, shape):
        return shape


class InsideWithoutArgument(Inside):
    def call(self, x):
        return self.bn(x)


class InsideTraining(Inside):
    def call(self, x, training=None):
        return self.bn(x, training=True)


class CallsCall(Inside):
    """Calls `bn.call` and not `bn`."""

    def call(self, x, training=None):
        return self.bn.call(x, training=training)


class KeptCall(Inside):
    """Keeps the bound `call` from its first call on, so that nothing can be put around it."""

    def build(self, shape):
        super().build(shape)
        self.kept = [lambda x, bn=self.bn: type(bn).call(bn, x, training=True)]

    def call(self, x, training=None):
        return self.kept[0](x)


class MadeInBuild(Inside):
    def __init__(self, **kwargs):
        layers.Layer.__init__(self, **kwargs)

    def build(self, shape):
        self.bn = BN(name="bn")
        super().build(shape)


class Fold(Inside):
    """Calls its BN for the statistics, and normalises with moments of the batch itself."""

    def call(self, x, training=None):
        self.bn(x, training=training)
        mean, variance = mean_and_variance(x, [0])
        if not training:
            mean, variance = self.bn.moving_mean, self.bn.moving_variance
        return (x - mean) / square_root(variance + 1e-3)


class FoldedDense(Fold):
    """Folds into a kernel, as quantised layers do."""

    def build(self, shape):
        self.kernel = self.add_weight(name="kernel", shape=(int(shape[-1]), int(shape[-1])))
        super().build(shape)

    def call(self, x, training=None):
        product = keras.ops.matmul(x, self.kernel) if IS_KERAS3 else x @ self.kernel
        self.bn(product, training=training)
        mean, variance = mean_and_variance(product, [0])
        if not training:
            mean, variance = self.bn.moving_mean, self.bn.moving_variance
        scale = 1.0 / square_root(variance + 1e-3)
        folded = self.kernel * scale
        whole = keras.ops.matmul(x, folded) if IS_KERAS3 else x @ folded
        return whole - mean * scale


class WithDropout(Inside):
    """A block with Dropout: random, and no fault."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drop = layers.Dropout(0.5, seed=3)

    def call(self, x, training=None):
        return self.drop(self.bn(x, training=training), training=training)


def in_graph(layer):
    inputs = keras.Input((4,))
    x = layer(layers.Dense(5)(inputs))
    return keras.Model(inputs, layers.Dense(1)(x))


def called(norm, **how):
    inputs = keras.Input((4,))
    x = norm(layers.Dense(5)(inputs), **how)
    return keras.Model(inputs, layers.Dense(1)(x))


def shared():
    inputs = keras.Input((4,))
    norm = BN(name="bn")
    return keras.Model(inputs, layers.Dense(1)(layers.Add()([norm(inputs), norm(inputs * 2.0)])))


def nested_twice():
    inner_in = keras.Input((5,))
    inner = keras.Model(inner_in, BN(name="bn")(layers.Dense(5)(inner_in)), name="inner")
    middle_in = keras.Input((5,))
    middle = keras.Model(middle_in, inner(middle_in), name="middle")
    return in_graph(middle)


def sequential():
    return keras.Sequential([keras.Input((4,)), layers.Dense(5), BN(name="bn"), layers.Dense(1)])


class Subclassed(keras.Model):
    written = None

    def __init__(self):
        super().__init__()
        self.one, self.bn, self.two = layers.Dense(5), BN(name="bn"), layers.Dense(1)

    def call(self, x, training=None):
        return self.two(self.bn(self.one(x), training=self.written or training))


class SubclassedTraining(Subclassed):
    written = True


def built(cls):
    model = cls()
    model(np.zeros((2, 4), np.float32))
    return model


def recurrent():
    inputs = keras.Input((4,))
    x = layers.Reshape((2, 2))(inputs)
    x = layers.TimeDistributed(BN(name="bn"))(x)
    return keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x)))


def image():
    inputs = keras.Input((4,))
    x = layers.Conv2D(3, 1)(layers.Reshape((2, 2, 1))(inputs))
    x = BN(name="bn")(x)
    return keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x)))


FORCED = {
    "keras": lambda: in_graph(BN(name="bn")),
    "no_affine": lambda: in_graph(BN(name="bn", center=False, scale=False)),
    "momentum_0": lambda: in_graph(BN(name="bn", momentum=0.0)),
    "zero_gamma": lambda: in_graph(BN(name="bn", gamma_initializer="zeros")),
    "keywords": lambda: in_graph(KeywordsOnly(name="bn")),
    "star": lambda: in_graph(StarArguments(name="bn")),
    "default_true": lambda: in_graph(DefaultTrue(name="bn")),
    "keyword_only": lambda: in_graph(KeywordOnlyTraining(name="bn")),
    "mask": lambda: in_graph(WithMask(name="bn")),
    "own_call_method": lambda: in_graph(OwnCallMethod(name="bn")),
    "own_call_method_trains": lambda: in_graph(OwnCallMethodTrains(name="bn")),
    "own_momentum": lambda: in_graph(OwnMomentum(name="bn")),
    "no_norm": lambda: in_graph(NoNorm(name="bn")),
    "inside": lambda: in_graph(Inside(name="inside")),
    "inside_without_argument": lambda: in_graph(InsideWithoutArgument(name="inside")),
    "inside_training": lambda: in_graph(InsideTraining(name="inside")),
    "calls_call": lambda: in_graph(CallsCall(name="inside")),
    "made_in_build": lambda: in_graph(MadeInBuild(name="inside")),
    "written_true": lambda: called(BN(name="bn"), training=True),
    "shared": shared,
    "nested_twice": nested_twice,
    "sequential": sequential,
    "subclassed": lambda: built(Subclassed),
    "subclassed_training": lambda: built(SubclassedTraining),
    "time_distributed": recurrent,
    "image": image,
}
"""These run in inference mode: the same bits, and the outputs of `predict`."""

REFUSED = {
    "always_training": lambda: in_graph(AlwaysTraining(name="bn")),
    "always_training_though_asked": lambda: in_graph(AlwaysTrainingThoughAsked(name="bn")),
    "always_training_keywords": lambda: in_graph(AlwaysTrainingKeywords(name="bn")),
    "other_name": lambda: in_graph(OtherName(name="bn")),
    "text_mode": lambda: in_graph(TextMode(name="bn")),
    "updates_always": lambda: in_graph(UpdatesAlways(name="bn")),
    "moments_by_hand": lambda: in_graph(MomentsByHand(name="bn")),
    "switch_in_attribute": lambda: in_graph(SwitchInAttribute(name="bn")),
    "kept_call": lambda: in_graph(KeptCall(name="inside")),
    "fold": lambda: in_graph(Fold(name="inside")),
    "folded_dense": lambda: in_graph(FoldedDense(name="inside")),
}
"""These cannot: the error names the BN."""

if BACKEND == "tensorflow":
    FORCED["synchronized"] = lambda: in_graph(BN(name="bn", synchronized=True))
if not IS_KERAS3:
    FORCED["renorm"] = lambda: in_graph(BN(name="bn", renorm=True))
    FORCED["tensor"] = lambda: called(BN(name="bn"), training=_true_tensor())
if STACK == "k2":

    def _v1(**settings):
        import tensorflow as tf

        return in_graph(tf.compat.v1.keras.layers.BatchNormalization(name="bn", **settings))

    FORCED["v1"] = _v1
    FORCED["v1_not_fused"] = lambda: _v1(fused=False)


def _true_tensor():
    import tensorflow as tf

    return tf.constant(True)


if BACKEND == "torch":

    def _torch(momentum=0.1):
        import torch

        module = torch.nn.Sequential(
            torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3, momentum=momentum)
        )
        return keras.Sequential(
            [keras.Input((4,)), layers.TorchModuleWrapper(module, name="bn"), layers.Dense(1)]
        )

    FORCED["torch_module"] = _torch
    FORCED["torch_cumulative"] = lambda: _torch(None)
