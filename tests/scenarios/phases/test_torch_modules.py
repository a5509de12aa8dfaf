"""BN of torch modules inside a Keras model: phases keep and restore its buffers."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.models import BN, layers
from tests.stack import BACKEND, keras

pytestmark = pytest.mark.skipif(BACKEND != "torch", reason="TorchModuleWrapper is of torch")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 4)).astype("float32")
Y = RNG.normal(size=(32, 1)).astype("float32")


def net() -> Any:
    import torch

    keras.utils.set_random_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    wrapper = layers.TorchModuleWrapper(module, name="module")
    model = keras.Sequential([wrapper, BN(name="bn"), layers.Dense(1, name="head")])
    model(X)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def state(model: Any) -> List[bytes]:
    norm = model.layers[0].module[1]
    mine = [norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.weight]
    found = [tensor.detach().cpu().numpy().tobytes() for tensor in mine]
    return found + [value.tobytes() for value in model.layers[1].get_weights()]


SCORES = [3.0, 1.0, 2.0, 2.0, 0.0]


class Score(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["score"] = SCORES[epoch]


class Recorder(keras.callbacks.Callback):
    """Bits at the end of each epoch, and at the start of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: Dict[int, List[bytes]] = {}
        self.starts: Dict[int, List[bytes]] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.starts[epoch] = state(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.ends[epoch] = state(self.model)


def phases() -> List[bng.Phase]:
    until = bng.Plateau("score", patience=2, mode="min")
    train = bng.Phase("all", train="*", until=until, restore_best=True, batch_norm="train")
    return [train, bng.Phase("head", train="head", epochs=1)]


def fit(model: Any, first: int, last: int, scheduler: bng.PhaseScheduler) -> Recorder:
    recorder = Recorder()
    callbacks = [Score(), scheduler, recorder]
    model.fit(X, Y, 8, last, initial_epoch=first, verbose=0, callbacks=callbacks)
    return recorder


def test_the_best_epoch_comes_back_with_the_statistics_of_torch():
    recorder = fit(net(), 0, 5, bng.PhaseScheduler(phases()))
    assert recorder.starts[4] == recorder.ends[1]
    assert not set(recorder.ends[3]) & set(recorder.ends[1])


@pytest.mark.filterwarnings("ignore:training ended in phase")
def test_a_resumed_run_brings_the_statistics_of_torch_back(tmp_path):
    model = net()
    first = fit(model, 0, 3, bng.PhaseScheduler(phases(), state=tmp_path / "state"))
    model.save_weights(tmp_path / "a.weights.h5")
    again = net()
    again.load_weights(tmp_path / "a.weights.h5")
    second = fit(again, 3, 5, bng.PhaseScheduler(phases(), state=tmp_path / "state"))
    assert second.starts[4] == first.ends[1]


def test_a_schedule_that_had_ended_changes_no_statistics():
    model = net()
    scheduler = bng.PhaseScheduler([bng.Phase("all", train="*", epochs=1, batch_norm="train")])
    model.fit(X, Y, 8, 1, verbose=0, callbacks=[scheduler])
    before = state(model)
    model.fit(X, Y, 8, 2, initial_epoch=1, verbose=0, callbacks=[scheduler])
    assert state(model) == before
