"""What a transition changes, what it keeps, and when it comes."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.registry import backend_for
from tests.builders import schedules as r
from tests.builders.schedules import IS_KERAS3, ON_TF, STACK, keras


class Pretends(keras.callbacks.Callback):
    """Puts chosen values into the logs, before the callbacks after it see them."""

    def __init__(self, **values: List[float]) -> None:
        super().__init__()
        self._values = values

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name, values in self._values.items():
            logs[name] = values[epoch]


def names_of(phases: Any, epochs: int, **values: List[float]) -> List[str]:
    schedule = r.scheduler(phases)
    r.fit(r.compiled(r.transfer(), "SGD"), epochs, [Pretends(**values), schedule])
    return [row["phase"] for row in schedule.history]


def test_each_phase_is_judged_by_its_own_best():
    phases = [
        bng.Phase("a", train="head*", until=bng.Plateau("score", patience=2, min_delta=0.1)),
        bng.Phase("b", train="*", until=bng.Plateau("score", patience=2, min_delta=0.1)),
    ]
    values = [0.5, 0.55, 0.58, 0.1, 0.3, 0.5, 0.5, 0.5, 0.9, 0.9]
    assert names_of(phases, 10, score=values) == ["a"] * 3 + ["b"] * 5


def test_a_threshold_and_a_function_end_phases():
    phases = [
        bng.Phase("a", train="head*", until=bng.Threshold("err", 0.2)),
        bng.Phase("b", train="*", until=lambda epochs, logs: logs["err"] > 0.4),
        bng.Phase("c", train="head*", epochs=1),
    ]
    assert names_of(phases, 9, err=[0.3, 0.2, 0.1, 0.5, 0.1, 0.1]) == ["a", "a", "b", "b", "c"]


def test_the_best_weights_of_a_phase_come_back_when_it_ends():
    phases = [
        bng.Phase("a", train="head*", until=bng.Plateau("err", patience=2), restore_best=True),
        bng.Phase("b", train="*", until=bng.Plateau("err", patience=1), restore_best=True),
    ]
    ends = r.At(end=lambda model, epoch: r.weights(model))
    begins = r.At(begin=lambda model, epoch: r.weights(model))
    model = r.compiled(r.transfer(), "SGD")
    values = Pretends(err=[3.0, 1.0, 2.0, 2.0, 0.5, 0.6])
    r.fit(model, 9, [ends, values, r.scheduler(phases), begins])
    assert len(ends.seen) == 6
    assert r.same(begins.seen[4], ends.seen[1])
    assert r.same(r.weights(model), ends.seen[4])


def test_flags_of_leaves_change_and_containers_stay_trainable():
    model = r.compiled(r.transfer())
    seen = r.At(begin=lambda model, epoch: r.trainable_names(model))
    r.fit(model, 2, [r.scheduler(r.head_then_all(1, 1)), seen])
    assert seen.seen[0] == ["head_bn", "head_dense", "head_out"]
    assert len(seen.seen[1]) == 7
    assert model.trainable
    assert model.get_layer("backbone").trainable


@pytest.mark.skipif(STACK == "k3-torch", reason="torch runs eagerly: it traces nothing")
def test_a_transition_costs_one_trace():
    def runs(callbacks: Any, trains: Any) -> List[int]:
        model = r.transfer()
        r.freeze(model, trains)
        r.compiled(model, "SGD")
        count = r.CountsTraces.runs
        at_end = r.At(end=lambda model, epoch: r.CountsTraces.runs)
        r.fit(model, 4, [*callbacks, at_end])
        return list(np.diff([count, *at_end.seen]))

    plain = runs([], r.everything)
    more = {"layer_decay": 0.5, "warmup": 2}
    ours = runs([r.scheduler(r.head_then_all(2, 2, **more))], r.head_only)
    assert plain[1:] == [0, 0, 0]
    assert ours[1] == ours[3] == 0
    assert ours[0] <= plain[0]
    assert ours[2] <= plain[0]


@pytest.mark.parametrize("state", ["carry", "reset"])
def test_the_learning_rate_of_each_phase_is_set(state):
    phases = [
        bng.Phase("a", train="head*", learning_rate=1e-2, epochs=1),
        bng.Phase("b", train="*", learning_rate=bng.RelativeRate(0.5), epochs=1),
        bng.Phase("c", train="head*", epochs=1),
    ]
    seen = r.At(begin=lambda model, epoch: r.learning_rate(model))
    model = r.compiled(r.transfer(), "SGD", 0.7)
    r.fit(model, 3, [r.scheduler(phases, optimizer_state=state), seen])
    assert seen.seen == pytest.approx([1e-2, 5e-3, 5e-3])


class Halves(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule as users write them: in no registry, with no config."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def __call__(self, step: Any) -> Any:
        if IS_KERAS3:
            return self.learning_rate * 0.5 ** (keras.ops.cast(step, "float32") / r.STEPS)
        import tensorflow as tf

        return self.learning_rate * 0.5 ** (tf.cast(step, tf.float32) / r.STEPS)

    if not IS_KERAS3:  # Keras 2 asks a schedule for its config in any `compile`.

        def get_config(self) -> Any:
            return {"learning_rate": self.learning_rate}


@pytest.mark.parametrize("kind", ["plain", "scaled"] + ([] if IS_KERAS3 else ["legacy"]))
def test_a_learning_rate_of_any_kind_follows_one_of_any_other(kind):
    """A schedule begins with its phase, goes on in one without a learning rate, and can be left."""
    phases = [
        bng.Phase("a", train="head*", learning_rate=Halves(1e-1), epochs=1),
        bng.Phase("b", train="*", epochs=1),
        bng.Phase("c", train="*", learning_rate=bng.RelativeRate(0.1), epochs=1),
        bng.Phase("d", train="*", learning_rate=Halves(1e-1), epochs=1),
        bng.Phase("e", train="*", learning_rate=1e-7, warmup=2),
    ]
    family = keras.optimizers.legacy if kind == "legacy" else keras.optimizers
    optimizer = family.SGD(0.5)
    if kind == "scaled":
        home = keras.optimizers if IS_KERAS3 else keras.mixed_precision
        optimizer = home.LossScaleOptimizer(optimizer, initial_scale=8.0)
    model = r.transfer()
    model.compile(optimizer, "binary_crossentropy", run_eagerly=kind == "scaled")
    seen = r.At(
        begin=lambda model, epoch: (
            backend_for(model).optimizer.learning_rate_now(model),
            r.weights(model),
        ),
        end=lambda model, epoch: (0.0, r.weights(model)),
    )
    r.fit(model, 5, [r.scheduler(phases), seen])
    learning_rates = [now for now, _ in seen.seen[::2]]
    # The last one is warming up from the first batch on, and begins at the one it rises to.
    assert learning_rates == pytest.approx([1e-1, 5e-2, 2.5e-3, 1e-1, 1e-7])
    changed = [float(np.abs(seen.seen[i][1][-1] - seen.seen[i + 1][1][-1]).max()) for i in (6, 8)]
    assert changed[0] > 1e-4
    assert changed[1] < 1e-6


def test_a_model_saved_under_a_later_schedule_loads_with_that_schedule(tmp_path):
    decay = keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.5)
    phases = [
        bng.Phase("a", train="*", learning_rate=1e-2, epochs=1),
        bng.Phase("b", train="*", learning_rate=decay),
    ]
    inputs = keras.Input((6,))
    model = keras.Model(inputs, r.L.Dense(1, activation="sigmoid")(inputs))
    r.fit(r.compiled(model, "SGD"), 2, [r.scheduler(phases)])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras").optimizer
    assert type(loaded._learning_rate) is type(decay)
    assert loaded._learning_rate.get_config() == decay.get_config()


def test_a_warm_up_rises_linearly_also_over_an_epoch_end():
    learning_rates = []

    class Reads(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            learning_rates.append(r.learning_rate(self.model))

    phases = [
        bng.Phase("a", train="head*", learning_rate=0.4, epochs=1, warmup=2),
        bng.Phase("b", train="*", learning_rate=0.1, epochs=2, warmup=5),
    ]
    r.fit(r.compiled(r.transfer(), "SGD"), 3, [r.scheduler(phases), Reads()])
    expected = [0.2, 0.4, 0.4, 0.02, 0.04, 0.06, 0.08, 0.1, 0.1]
    assert learning_rates == pytest.approx(expected)


def test_a_warm_up_steers_the_steps_themselves():
    """The same weights as a hand-written loop of one-step fits with those learning_rates."""
    phases = [bng.Phase("a", train="*", learning_rate=0.1, epochs=1, warmup=3, batch_norm="follow")]
    one = r.compiled(r.transfer(), "SGD", 0.1)
    r.fit(one, 1, [r.scheduler(phases)])
    many = r.compiled(r.transfer(), "SGD", 0.1)
    x, y = r.data()
    for k in range(3):
        backend_for(many).optimizer.set_learning_rate(many, 0.1 * min(1.0, (k + 1) / 3))
        many.fit(x[8 * k : 8 * k + 8], y[8 * k : 8 * k + 8], batch_size=8, shuffle=False, verbose=0)
    assert r.same(r.weights(one), r.weights(many))


@pytest.mark.skipif(not ON_TF, reason="distribution strategies are TensorFlow's")
def test_under_a_distribution_strategy():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = r.compiled(r.transfer())
    seen = r.At(begin=lambda model, epoch: r.trainable_names(model))
    r.fit(model, 2, [r.scheduler(r.head_then_all(1, 1, layer_decay=0.5)), seen])
    assert len(seen.seen[1]) == 7


def test_evaluate_and_predict_leave_the_model_alone():
    model = r.compiled(r.transfer())
    x, y = r.data()
    schedule = r.scheduler(r.head_then_all())
    model.evaluate(x, y, verbose=0, callbacks=[schedule])
    model.predict(x, verbose=0, callbacks=[schedule])
    assert len(r.trainable_names(model)) == 7
    assert schedule.phase is None


def test_validation_inside_fit_sees_the_phase():
    model = r.compiled(r.transfer())
    schedule = r.scheduler(r.head_then_all(1, 1))
    done = r.fit(model, 2, [schedule], validation_data=r.data())
    assert len(done.history["val_loss"]) == 2


def test_a_value_that_is_there_every_other_epoch_counts_when_it_is():
    phases = [
        bng.Phase("a", train="head*", until=bng.Plateau("val_loss", patience=1, min_delta=100.0)),
        bng.Phase("b", train="*"),
    ]
    schedule = r.scheduler(phases)
    r.fit(r.compiled(r.transfer()), 6, [schedule], validation_data=r.data(), validation_freq=2)
    assert [row["phase"] for row in schedule.history] == ["a"] * 4 + ["b"] * 2


def test_an_exception_inside_fit_leaves_a_model_the_next_scheduled_fit_puts_right():
    model = r.compiled(r.transfer(), "SGD")

    def fails(model: Any, epoch: int) -> None:
        raise RuntimeError("of the user")

    phases = r.head_then_all(1, 1)
    with pytest.raises(RuntimeError, match="of the user"):
        r.fit(model, 2, [r.scheduler(phases), r.At(end=fails)])
    r.fit(model, 2, [r.scheduler(phases)])
    assert "_bng_step" not in model.__dict__
