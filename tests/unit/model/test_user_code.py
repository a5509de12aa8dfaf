"""Names, arguments of `compile` and ways to layers, as they are written into fixes."""

import pytest

import keras_bnguard as bng
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.model.user_code import read_user_code
from tests.builders.models import backbone, data, transfer
from tests.stack import IS_KERAS3, STACK, keras

layers = keras.layers


def own_loss(y, y_pred):
    return (y - y_pred) ** 2


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        ({"loss": "mse"}, 'loss="mse"'),
        ({"loss": "mse", "metrics": ["mae"]}, 'loss="mse", metrics=["mae"]'),
        ({"loss": own_loss}, "loss=own_loss"),
        (
            {"loss": keras.losses.BinaryCrossentropy(from_logits=True), "run_eagerly": True},
            "loss=keras.losses.BinaryCrossentropy(from_logits=True), run_eagerly=True",
        ),
        ({"loss": {"out": "mse"}}, 'loss={"out": "mse"}'),
        ({"loss": lambda y, y_pred: (y - y_pred) ** 2}, None),
    ],
)
def test_arguments_of_compile(settings, written):
    net = transfer()
    net.compile("sgd", **settings)
    found = read_user_code(backend_for(net), net)
    assert (found.model, found.compile_arguments) == ("net", written)
    if written is not None:
        names = {"keras": keras, "own_loss": own_loss, "net": net}
        exec(f"net.compile('sgd', {written})", names)


def test_jit_compile_is_written_where_it_is_not_what_keras_takes_by_default():
    net = transfer()
    net.compile("sgd", "mse", jit_compile=True)
    by_default = STACK == "k3-jax"
    written = read_user_code(backend_for(net), net).compile_arguments
    assert written == 'loss="mse"' + ("" if by_default else ", jit_compile=True")


def test_what_keras_does_not_keep_is_not_written():
    net = transfer()
    net.compile("sgd", keras.losses.Huber(delta=2.0))
    written = read_user_code(backend_for(net), net).compile_arguments
    assert written == (None if IS_KERAS3 else "loss=keras.losses.Huber(delta=2.0)")


def test_a_compile_of_the_users_own_is_not_written():
    class Own(keras.Model):
        def compile(self, other, loss):
            super().compile(optimizer=other, loss=loss)

    net = Own()
    net.compile("sgd", "mse")
    assert read_user_code(backend_for(net), net).compile_arguments is None


def test_names_of_the_data_of_fit_also_where_a_part_of_it_validates():
    pixels, answers = data()
    network = transfer()
    network.compile("sgd", "mse")
    guard = bng.BNGuard(select="BNG301", on_finding="log")
    for split in (0.0, 0.25):
        network.fit(pixels, answers, verbose=0, validation_split=split, callbacks=[guard])
        inside = guard._run.trackers.snapshot.inventory.user_code
        assert (inside.model, inside.x, inside.y) == ("network", "pixels", "answers")
        assert "test_user_code.py:" in inside.line


class Parts(keras.Model):
    def __init__(self, base):
        super().__init__()
        self.base = base
        self.blocks = [layers.BatchNormalization(name="twin") for _ in range(2)]
        self.wrapped = layers.TimeDistributed(layers.BatchNormalization(name="inner"), name="td")

    def call(self, x, training=None):
        x = self.base(x, training=training)
        for block in self.blocks:
            x = block(x, training=training)
        return self.wrapped(x[:, None], training=training)


def test_a_way_to_every_bn_runs_and_ends_at_that_bn():
    model = Parts(backbone())
    model(data()[0])
    snapshot = take_snapshot(model)
    ways = {norm.path: norm.access for norm in snapshot.inventory.norms}
    assert len(ways) == 4
    for handle in snapshot.handles:
        way = ways[handle.path]
        assert way is not None
        assert eval(f"model{way}", {"model": model}) is handle.layer
        assert "._" not in way
    assert any(way.endswith(".layer") for way in ways.values())
