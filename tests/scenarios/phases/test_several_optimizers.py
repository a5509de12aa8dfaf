"""Models whose training step uses optimizers of its own, as a GAN."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.schedules import L, keras
from tests.builders.values import as_array

pytestmark = pytest.mark.skipif(
    r.BACKEND == "jax", reason="Keras hands one optimizer to a step on JAX"
)


class Gan(keras.Model):
    """A generator and a critic, each with its optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = network("generator", 6)
        self.critic = network("critic", 1)

    def compile(self, generator_optimizer: Any, critic_optimizer: Any, **settings: Any) -> None:
        super().compile(**settings)
        self.generator_optimizer = generator_optimizer
        self.critic_optimizer = critic_optimizer

    def call(self, x: Any, training: Any = None) -> Any:
        return self.critic(self.generator(x, training=training), training=training)

    def train_step(self, data: Any) -> Any:
        x = data[0] if isinstance(data, tuple) else data
        update(self, self.critic, self.critic_optimizer, x, 1.0)
        update(self, self.generator, self.generator_optimizer, x, -1.0)
        return {"done": 1.0}


def update(model: Any, part: Any, optimizer: Any, x: Any, sign: float) -> None:
    if r.BACKEND == "torch":
        import torch

        model.zero_grad()
        (sign * model(x, training=True).mean()).backward()
        variables = part.trainable_weights
        with torch.no_grad():
            if variables:
                optimizer.apply([v.value.grad for v in variables], variables)
        return
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = sign * tf.reduce_mean(model(x, training=True))
    variables = part.trainable_variables
    if variables:
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))


def network(name: str, units: int) -> Any:
    inputs = keras.Input((6,))
    x = L.Dense(8, name=f"{name}_dense")(inputs)
    x = L.BatchNormalization(name=f"{name}_bn")(x)
    return keras.Model(inputs, L.Dense(units, name=f"{name}_out")(x), name=name)


def gan(learning_rate: float = 0.01, optimizer: str = "SGD") -> Any:
    model = Gan()
    model(r.data()[0])
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 0.5, w.shape) for w in model.get_weights()])
    settings = {"jit_compile": False} if r.STACK == "k3-tf" else {}
    model.compile(
        r.optimizer(optimizer, learning_rate), r.optimizer(optimizer, learning_rate), **settings
    )
    return model


def train(model: Any, epochs: int, callbacks: Any = ()) -> List[bytes]:
    r.fit(model, epochs, callbacks)
    return [w.tobytes() for w in model.get_weights()]


def phases(first: Any, second: Any) -> List[bng.Phase]:
    common = {"batch_norm": "follow"}
    return [
        bng.Phase("critic", train="critic/*", learning_rate=first, epochs=1, **common),
        bng.Phase("both", train="*", learning_rate=second, epochs=1, **common),
    ]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_each_optimizer_gets_its_learning_rate_in_each_phase(optimizer):
    by_hand = gan(0.02, optimizer)
    # By hand: an optimizer knows all variables from the start.
    for each in (by_hand.generator_optimizer, by_hand.critic_optimizer):
        each.build(by_hand.trainable_variables)
    by_hand.generator.trainable = False
    recompiled(by_hand)
    train(by_hand, 1)
    by_hand.generator.trainable = True
    recompiled(by_hand)
    by_hand.generator_optimizer.learning_rate = 1e-3
    by_hand.critic_optimizer.learning_rate = 1e-4
    expected = train(by_hand, 1)

    ours = gan(0.5, optimizer)
    schedule = phases(
        {"generator_optimizer": 0.02, "critic_optimizer": 0.02},
        {"generator_optimizer": 1e-3, "critic_optimizer": 1e-4},
    )
    assert train(ours, 2, [r.scheduler(schedule)]) == expected
    assert float(as_array(ours.critic_optimizer.learning_rate)) == pytest.approx(1e-4)


def recompiled(model: Any) -> None:
    """Let a changed flag count, with the same optimizers."""
    settings = {"jit_compile": False} if r.STACK == "k3-tf" else {}
    model.compile(model.generator_optimizer, model.critic_optimizer, **settings)


@pytest.mark.parametrize(
    "learning_rate",
    [
        1e-3,
        bng.RelativeRate(0.1),
        {"generator_optimizer": 1e-3},
        {"generator_optimizer": 1e-3, "critic_optimizer": 1e-3, "other": 1e-3},
    ],
)
def test_a_learning_rate_that_does_not_reach_them_is_refused_with_their_names(learning_rate):
    model = gan()
    before = [w.tobytes() for w in model.get_weights()]
    with pytest.raises(bng.ScheduleError, match=r"generator_optimizer.*critic_optimizer|other"):
        train(model, 1, [r.scheduler([bng.Phase("all", train="*", learning_rate=learning_rate)])])
    assert [w.tobytes() for w in model.get_weights()] == before


@pytest.mark.parametrize("setting", [{"warmup": 2}, {"layer_decay": 0.5}])
def test_what_acts_on_one_optimizer_alone_is_refused(setting):
    both = {"generator_optimizer": 1e-3, "critic_optimizer": 1e-3}
    phase = bng.Phase("all", train="*", learning_rate=both, **setting)
    with pytest.raises(bng.ScheduleError, match="'all'"):
        train(gan(), 1, [r.scheduler([phase])])


def test_phases_without_a_learning_rate_leave_theirs_as_they_are():
    model = gan(0.01)
    train(model, 2, [r.scheduler(phases(None, None))])
    assert float(as_array(model.generator_optimizer.learning_rate)) == pytest.approx(0.01)


def test_an_optimizer_that_cannot_be_found_is_reported_after_the_first_epoch():
    model = gan()
    hidden = {"generator": model.generator_optimizer, "critic": model.critic_optimizer}
    object.__delattr__(model, "generator_optimizer")
    object.__delattr__(model, "critic_optimizer")
    type(model).generator_optimizer = property(lambda self: hidden["generator"])
    type(model).critic_optimizer = property(lambda self: hidden["critic"])
    try:
        schedule = [bng.Phase("all", train="*", learning_rate=1e-3, batch_norm="follow")]
        with pytest.warns(bng.BNGuardWarning, match="took no step"):
            train(model, 1, [r.scheduler(schedule)])
    finally:
        del type(model).generator_optimizer, type(model).critic_optimizer


def test_the_learning_rates_of_several_optimizers_are_written_as_yaml():
    both = {"generator_optimizer": 1e-3, "critic_optimizer": 1e-4}
    schedule = bng.PhaseScheduler(phases(both, None), verbose=0)
    again = bng.PhaseScheduler.from_yaml(schedule.to_yaml())
    assert again.phases == schedule.phases


# ------------------------------------------------------------------- going on
class Ends(keras.callbacks.Callback):
    """Keeps the weights after an epoch, as a file would, and ends the run there."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch, self.weights = epoch, []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == self._epoch:
            self.weights = r.weights(self.model)
            self.model.stop_training = True


def three_epochs() -> List[bng.Phase]:
    first = {"generator_optimizer": 0.02, "critic_optimizer": 0.03}
    second = {"generator_optimizer": 1e-3, "critic_optimizer": 2e-3}
    schedule = phases(first, second)
    return [schedule[0], bng.Phase("both", "*", learning_rate=second, batch_norm="follow")]


def further(model: Any) -> Any:
    found = []
    for each in (model.generator_optimizer, model.critic_optimizer):
        variables = each.variables
        found += [as_array(v) for v in (variables() if callable(variables) else variables)]
        found.append(as_array(each.learning_rate))
    return found


@pytest.mark.filterwarnings("ignore:training ended in phase")
@pytest.mark.parametrize("stops", [0, 1, 2])
@pytest.mark.parametrize("optimizer", ["Adam"] + ([] if r.IS_KERAS3 else ["legacy"]))
def test_a_resumed_run_has_the_state_of_every_optimizer(tmp_path, optimizer, stops):
    whole = one_of(optimizer)
    train(whole, 4, [r.scheduler(three_epochs())])
    stopped, ends = one_of(optimizer), Ends(stops)
    train(stopped, 4, [r.scheduler(three_epochs(), state=tmp_path), ends])
    again = one_of(optimizer)
    again.set_weights(ends.weights)
    r.fit(again, 4, [r.scheduler(three_epochs(), state=tmp_path)], initial_epoch=stops + 1)
    assert r.same(r.weights(whole), r.weights(again))
    assert r.same(further(whole), further(again))


def one_of(optimizer: str) -> Any:
    if optimizer != "legacy":
        return gan(0.5, optimizer)
    model = gan(0.5)
    family = keras.optimizers.legacy
    model.compile(family.Adam(0.5), family.Adam(0.5))
    return model


@pytest.mark.filterwarnings("ignore:training ended in phase")
def test_a_state_of_other_optimizers_is_refused_by_their_names(tmp_path):
    ends = Ends(0)
    train(gan(), 4, [r.scheduler(three_epochs(), state=tmp_path), ends])
    other = gan(optimizer="Adam")
    other.set_weights(ends.weights)
    with pytest.raises(bng.ScheduleError, match=r"generator_optimizer, critic_optimizer.*Compile"):
        r.fit(other, 4, [r.scheduler(three_epochs(), state=tmp_path)], initial_epoch=1)
    assert r.same(r.weights(other), ends.weights)
