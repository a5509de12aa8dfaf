"""Two processes of torch train: `spawn` starts them itself, otherwise torchrun has."""

import os
import sys

import keras
import numpy as np
import torch


def train(rank: int, port: str) -> None:
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", port)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = keras.layers.BatchNormalization(name="bn")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile("sgd", "mse")
    x = np.random.default_rng(rank).normal(3.0, 2.0, (32, 4)).astype("float32")
    model.fit(x, x[:, :1], verbose=0)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[1] == "spawn":
        torch.multiprocessing.spawn(train, (sys.argv[2],), nprocs=2)
    else:
        train(int(os.environ["RANK"]), "0")
    sys.exit(int(sys.argv[3]))
