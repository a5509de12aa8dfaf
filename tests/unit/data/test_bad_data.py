"""Data and numbers that cannot be right: one clear error of ours, and nothing has changed."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.models import BN, layers
from tests.builders.values import same, weights
from tests.stack import BACKEND, IS_KERAS3, keras

X = np.random.default_rng(0).normal(2.0, 3.0, (40, 6)).astype("float32")
Y = X[:, :1]
FUNCTIONS = {
    "recalibrate": bng.recalibrate,
    "mode_gap": bng.mode_gap,
    "advise": bng.advise,
    "precompute_features": bng.precompute_features,
}


def net():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(1)(BN(name="bn", momentum=0.5)(inputs)), name="net")
    model.compile("sgd", "mse")
    return model


def for_function(name):
    model = net()
    model.fit(X, Y, epochs=1, batch_size=20, verbose=0)
    model.trainable = name != "precompute_features"
    return model


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_data_is_an_error_that_names_what_was_expected(name):
    call, model = FUNCTIONS[name], for_function(name)
    before = weights(model)
    for data, expected in [
        ((X[:, :5], Y), r"takes batches of shape \(None, 6\), the data gives"),
        ((X.astype("U3"), Y), "takes numbers of float32, the data has dtype"),
        ((np.full(X.shape, None, object), Y), "dtype object"),
        ((X, Y[:20]), "x has 40, y has 20 rows"),
        (X[:0], "gave no batch"),
        (iter([X]), "can be read only once"),
    ]:
        with pytest.raises(bng.DataError, match=expected):
            call(model, data)
    for settings in ({"batch_size": 0}, {"max_batches": 0}, {"batch_size": 2.5}):
        key = next(iter(settings))
        with pytest.raises(bng.SettingError, match=f"{key}=.*expected a whole number"):
            call(model, (X, Y), **settings)
    assert same(before, weights(model))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_model_without_variables_is_refused(name):
    model = keras.Sequential([layers.Dense(3), BN(), layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(bng.UnsupportedModelError, match=f"{name} runs the model.*not built yet"):
        FUNCTIONS[name](model, (X, Y))


def test_inputs_are_matched_by_name():
    a, b = keras.Input((6,), name="a"), keras.Input((2,), name="b")
    both = layers.Concatenate()([BN(name="bn")(a), b])
    model = keras.Model({"b": b, "a": a}, layers.Dense(1)(both))
    bng.recalibrate(model, {"b": X[:, :2], "a": X})
    with pytest.raises(bng.DataError, match="'b' is missing"):
        bng.recalibrate(model, {"a": X})
    with pytest.raises(bng.DataError, match="for input 'b' gives"):
        bng.recalibrate(model, {"a": X, "b": X})


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("mode", ["one-pass", "sequential"])
def test_recalibrate_refuses_moments_that_are_no_numbers(value, mode):
    model = net()
    before, broken = weights(model), X.copy()
    broken[3, 2] = value
    with pytest.raises(bng.DataError, match="reaches bn has NaN or infinite moments"):
        bng.recalibrate(model, broken, mode=mode)
    assert same(before, weights(model))


@pytest.mark.parametrize("mode", ["one-pass", "sequential"])
def test_recalibrate_refuses_the_variance_of_a_single_value(mode):
    model = net()
    before = weights(model)
    with pytest.raises(bng.DataError, match="one value a channel reaches bn"):
        bng.recalibrate(model, X[:1], mode=mode)
    assert same(before, weights(model))
    assert bng.recalibrate(model, X[:2], mode=mode).values == {"bn": 2.0}


def test_audit_reports_that_data_are_all_nan():
    report = bng.audit(net(), (X * np.nan, Y))
    skipped = {outcome.code: outcome.reason for outcome in report.skipped}
    assert "no value of the data is a number" in skipped["BNG504"]


class Cell(layers.Layer):
    """A recurrent cell with BN in it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state_size = self.output_size = 4
        self.dense, self.bn = layers.Dense(4), BN(name="bn")

    def build(self, shape):
        self.dense.build((None, shape[-1]))
        self.bn.build((None, 4))
        self.built = True

    def call(self, x, states, training=None):
        output = self.bn(self.dense(x) + states[0], training=training)
        return output, [output]


def test_a_recurrent_cell_is_no_place_to_recalibrate():
    inputs = keras.Input((3, 2))
    x = layers.RNN(Cell(name="cell"), name="rnn")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(BN(name="after")(x)))
    series = X.reshape(40, 3, 2)
    with pytest.raises(bng.UnsupportedModelError, match="bn runs inside the cell of a recurrent"):
        bng.recalibrate(model, series)
    assert bng.recalibrate(model, series, layers="after").paths == ("after",)


def test_data_without_end_needs_a_limit():
    if BACKEND == "tensorflow":
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices(X).batch(10).repeat()
    elif IS_KERAS3 and hasattr(keras.utils.PyDataset, "num_batches"):

        class Endless(keras.utils.PyDataset):
            num_batches = None

            def __getitem__(self, i):
                return X[:10], Y[:10]

        data = Endless()
    for call in (bng.recalibrate, bng.Recalibrate):
        with pytest.raises(bng.DataError, match=r"never ends.*max_batches"):
            call(*((net(), data) if call is bng.recalibrate else (data,)))
    assert bng.recalibrate(net(), data, max_batches=3).values == {"bn": 30.0}


def test_ragged_and_sparse_batches_are_refused_with_what_to_pass():
    class Ragged:
        row_splits = ()
        shape, dtype = (2, None), "float32"

    with pytest.raises(bng.DataError, match=r"has no rows of one shape\. Pass dense batches"):
        bng.recalibrate(net(), [(Ragged(), Y)])


def test_a_wrapped_model_is_refused_by_name():
    class DistributedDataParallel:
        module = net()

    with pytest.raises(bng.UnsupportedModelError, match=r"pass the model in it, model\.module"):
        bng.recalibrate(DistributedDataParallel(), X)


def test_labels_of_one_axis_beside_outputs_of_two_are_compared_row_by_row():
    model = net()
    model.fit(X, Y[:, 0], epochs=2, batch_size=20, verbose=0)
    wanted = model.evaluate(X, Y[:, 0], batch_size=40, verbose=0)
    gap = bng.mode_gap(model, (X, Y[:, 0]), batch_size=40)
    np.testing.assert_allclose(gap.inference["loss"], wanted, rtol=1e-5)
    flat = bng.advise(model, (X, Y[:, 0]), folds=2, n_repeats=1, steps=2, epochs=1)
    column = bng.advise(model, (X, Y), folds=2, n_repeats=1, steps=2, epochs=1)
    np.testing.assert_allclose(
        [s.loss for s in flat.scores], [s.loss for s in column.scores], rtol=1e-4
    )
