"""The same rows in every form that `fit` takes, shuffled with a seed where it can be."""

from __future__ import annotations

import inspect

import numpy as np

from tests.stack import BACKEND, IS_KERAS3, keras

RNG = np.random.default_rng(5)
X = (RNG.normal(size=(56, 6)) * 2 + 1).astype("float32")
Y = (X[:, :1] > 1).astype("float32")

Base = keras.utils.PyDataset if IS_KERAS3 else keras.utils.Sequence


class Indexed(Base):
    """Draws noise from a generator of its own and from NumPy's global one."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(3)

    def __len__(self):
        return 7

    def __getitem__(self, i):
        noise = self.rng.normal(size=(8, 6)) + np.random.normal(size=(8, 6))
        return X[8 * i : 8 * i + 8] + 0.1 * noise.astype("float32"), Y[8 * i : 8 * i + 8]


def batches():
    rng = np.random.default_rng(4)
    for i in rng.permutation(7):
        yield X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]


def tf_data(augment=False):
    import tensorflow as tf

    shift = keras.layers.GaussianNoise(0.5)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).cache().shuffle(56, seed=7).batch(8)
    if augment:
        dataset = dataset.map(lambda x, y: (shift(x, training=True), y))
    return dataset.prefetch(2)


def loader():
    import torch

    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    generator = torch.Generator().manual_seed(9)
    return torch.utils.data.DataLoader(pairs, batch_size=8, shuffle=True, generator=generator)


def unseeded_loader():
    import torch

    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    return torch.utils.data.DataLoader(pairs, batch_size=8, shuffle=True)


CONTAINERS = {
    "arrays": lambda: (X, Y),
    "indexed": Indexed,
    "generator": batches,
    "function": lambda: batches,
    "list": lambda: list(batches()),
}
if BACKEND == "tensorflow":
    CONTAINERS.update({"tf.data": tf_data, "tf.data with noise": lambda: tf_data(augment=True)})
if BACKEND == "torch":
    CONTAINERS.update({"loader": loader, "unseeded loader": unseeded_loader})


def fit(model, data, **settings):
    """`fit` on any of the containers."""
    settings.setdefault("verbose", 0)
    if isinstance(data, tuple):
        return model.fit(data[0], data[1], batch_size=8, **settings)
    if callable(data) and not isinstance(data, Base):
        data = data()
    if isinstance(data, list):
        data = (batch for batch in data)
    settings["shuffle"] = False
    if inspect.isgenerator(data):
        settings["steps_per_epoch"] = 7
    return model.fit(data, **settings)
