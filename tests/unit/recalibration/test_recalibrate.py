"""`recalibrate`: exact population statistics, and how they are undone."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.values import (
    as_array,
    optimizer_state,
    random_state,
    same,
    seed_states,
    weights,
)
from tests.stack import BACKEND, keras

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(50, 8)) * 3 + 5).astype("float32")
IMAGES = (RNG.normal(size=(40, 6, 6, 3)) * 2 + 1).astype("float32")


def dense_model():
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(6, name="first")(inputs)
    hidden = keras.layers.BatchNormalization(name="bn")(hidden)
    return keras.Model(inputs, keras.layers.Dense(1)(hidden))


def conv_model(depth=3):
    inputs = keras.Input((6, 6, 3))
    hidden = inputs
    for i in range(depth):
        hidden = keras.layers.Conv2D(4, 3, padding="same", name=f"conv{i}")(hidden)
        hidden = keras.layers.BatchNormalization(name=f"bn{i}")(hidden)
        hidden = keras.layers.ReLU()(hidden)
        hidden = keras.layers.Dropout(0.5)(hidden)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(hidden))


@pytest.mark.parametrize("mode", ["one-pass", "sequential"])
def test_statistics_are_those_of_the_pooled_activations(mode):
    model = dense_model()
    kernel, bias = model.get_layer("first").get_weights()
    pooled = X @ kernel + bias
    result = bng.recalibrate(model, X, mode=mode, batch_size=16)
    mean, variance = model.get_layer("bn").get_weights()[2:]
    np.testing.assert_allclose(mean, pooled.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(variance, pooled.var(0), rtol=1e-5)
    assert result.paths == ("bn",)
    assert result.values == {"bn": 50.0}


def test_batches_of_different_size_count_by_their_rows():
    model = dense_model()
    bng.recalibrate(model, X, batch_size=50)
    whole = model.get_layer("bn").get_weights()
    bng.recalibrate(model, [(X[:7], None), (X[7:], None)])
    for a, b in zip(whole, model.get_layer("bn").get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_one_pass_agrees_with_the_formula_of_precise_bn():
    """Population mean and second moment, averaged over equal batches (fvcore's formula)."""
    model = dense_model()
    kernel, bias = model.get_layer("first").get_weights()
    batches = [X[:25] @ kernel + bias, X[25:] @ kernel + bias]
    mean = np.mean([b.mean(0) for b in batches], axis=0)
    square = np.mean([b.var(0) + b.mean(0) ** 2 for b in batches], axis=0)
    bng.recalibrate(model, X, batch_size=25)
    found_mean, found_variance = model.get_layer("bn").get_weights()[2:]
    np.testing.assert_allclose(found_mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found_variance, square - mean**2, rtol=1e-4)


def test_sequential_is_exact_for_the_inference_that_follows():
    model = conv_model()
    bng.recalibrate(model, IMAGES, mode="sequential", batch_size=8)
    for i in range(3):
        upto = keras.Model(model.inputs, model.get_layer(f"conv{i}").output)
        seen = upto.predict(IMAGES, verbose=0)
        mean, variance = model.get_layer(f"bn{i}").get_weights()[2:]
        np.testing.assert_allclose(mean, seen.mean((0, 1, 2)), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(variance, seen.var((0, 1, 2)), rtol=1e-3)


def test_nothing_but_the_chosen_statistics_changes_and_undo_restores_every_bit():
    model = conv_model()
    before = weights(model)
    result = bng.recalibrate(model, IMAGES)
    changed = [not np.array_equal(a, b) for a, b in zip(before, weights(model))]
    assert sum(changed) == 6
    result.undo()
    assert same(before, weights(model))
    result.undo()
    assert same(before, weights(model))


def test_a_frozen_bn_is_recalibrated_only_where_it_is_named():
    model = conv_model()
    model.get_layer("bn1").trainable = False
    assert bng.recalibrate(model, IMAGES).paths == ("bn0", "bn2")
    assert bng.recalibrate(model, IMAGES, layers="bn1").paths == ("bn1",)


def test_random_states_stay_where_they_were():
    model = conv_model()
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    bng.recalibrate(model, IMAGES)
    assert np.random.random() == expected


def test_masked_steps_do_not_count():
    inputs = keras.Input((5, 2))
    masked = keras.layers.Masking()(inputs)
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="bn")(masked))
    x = np.zeros((4, 5, 2), "float32")
    x[:, :2] = RNG.normal(size=(4, 2, 2)) + 3
    bng.recalibrate(model, x)
    mean, variance = model.get_layer("bn").get_weights()[2:]
    np.testing.assert_allclose(mean, x[:, :2].mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(variance, x[:, :2].var((0, 1)), rtol=1e-3)


def test_statistics_of_another_domain_are_measured_and_repaired():
    """Shifted across the deciding plane: the weights would do, the statistics do not."""
    plane = RNG.normal(size=(8, 1))

    def labelled(rows, mean, scale):
        unit = RNG.normal(size=(rows, 8))
        return (unit * scale + mean).astype("float32"), (unit @ plane > 0).astype("float32")

    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
    model.fit(*labelled(640, 0, 1), epochs=12, batch_size=32, verbose=0)
    rows, labels = labelled(320, 3 * plane.T, 1)
    stale = model.evaluate(rows, labels, verbose=0)[1]
    gap = bng.mode_gap(model, (rows, labels))
    bng.recalibrate(model, rows)
    fresh = model.evaluate(rows, labels, verbose=0)[1]
    assert gap.gap("loss") > 0.1
    assert fresh > stale + 0.1


def test_a_mode_gap_changes_nothing_and_is_zero_without_bn():
    model = conv_model()
    model.compile("sgd", "mse")
    before = weights(model)
    target = np.zeros((40, 4), "float32")
    result = bng.mode_gap(model, (IMAGES, target))
    assert same(before, weights(model))
    assert result.rows == 40
    assert "BN inference" in str(result)
    plain = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    plain.compile("sgd", "mse")
    assert bng.mode_gap(plain, (X, np.zeros((50, 2), "float32"))).gap() == 0.0


def test_a_forced_bn_is_in_inference_mode_in_both_halves_of_a_mode_gap():
    model = dense_model()
    model.compile("sgd", "mse")
    data = (X, X[:, :1])
    assert bng.mode_gap(model, data).gap() != 0.0
    bng.force_inference(model, layers="bn")
    assert bng.mode_gap(model, data).gap() == 0.0


def test_bad_input_gets_one_clear_error():
    model = dense_model()
    with pytest.raises(bng.SettingError, match="one-pass"):
        bng.recalibrate(model, X, mode="quick")
    with pytest.raises(bng.DataError, match="only once"):
        bng.recalibrate(model, iter([X]))
    with pytest.raises(bng.DataError, match=r"\(None, 8\)"):
        bng.recalibrate(model, X[:, :5])
    with pytest.raises(bng.SelectorError, match="Nearest: bn"):
        bng.recalibrate(model, X, layers="bm")
    model.compile("sgd", "mse")
    with pytest.raises(bng.DataError, match="labels"):
        bng.mode_gap(model, X)


def test_after_an_error_everything_is_restored():
    model = dense_model()
    before = weights(model)
    with pytest.raises(ZeroDivisionError):
        bng.recalibrate(model, lambda: ((X[: 10 // (2 - i)], None) for i in range(4)))
    assert same(before, weights(model))


@pytest.mark.skipif(BACKEND != "torch", reason="torch modules exist on torch alone")
def test_torch_modules_are_recalibrated_too():
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.BatchNorm1d(6))
    model = keras.Sequential([keras.Input((8,)), keras.layers.TorchModuleWrapper(module)])
    bng.recalibrate(model, X)
    with torch.no_grad():
        pooled = module[0](keras.ops.convert_to_tensor(X)).cpu().numpy()
    mean, variance = module[1].running_mean.cpu().numpy(), module[1].running_var.cpu().numpy()
    np.testing.assert_allclose(mean, pooled.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, pooled.var(0), rtol=1e-4)


@pytest.mark.skipif(BACKEND != "torch", reason="fvcore's update_bn_stats is for torch modules")
@pytest.mark.parametrize("sizes", [(25, 25), (40, 10)])
def test_one_pass_agrees_with_the_running_average_of_update_bn_stats(sizes):
    """fvcore sets momentum to 1 and averages what each batch leaves in the buffers: the mean,
    and the variance with the mean's square, each batch by its size. The buffers hold torch's
    unbiased variance, which is taken back to the biased one that Keras stores."""
    import torch

    linear, norm = torch.nn.Linear(8, 6), torch.nn.BatchNorm1d(6, momentum=1.0)
    pieces, start = [], 0
    with torch.no_grad():
        for size in sizes:
            norm(linear(torch.as_tensor(X[start : start + size])))
            mean, variance = norm.running_mean.numpy().copy(), norm.running_var.numpy()
            pieces.append((size, mean, variance * (size - 1) / size + mean**2))
            start += size
    total = sum(sizes)
    mean = sum(size * part for size, part, _ in pieces) / total
    square = sum(size * part for size, _, part in pieces) / total
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(6), keras.layers.BatchNormalization()]
    )
    model.layers[0].set_weights([linear.weight.detach().numpy().T, linear.bias.detach().numpy()])
    edges = np.cumsum([0, *sizes])
    bng.recalibrate(model, [(X[a:b], None) for a, b in zip(edges, edges[1:])])
    found_mean, found_variance = model.layers[1].get_weights()[2:]
    np.testing.assert_allclose(found_mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found_variance, square - mean**2, rtol=1e-4)


def two_outputs(loss_weights=None):
    inputs = keras.Input((8,))
    hidden = keras.layers.BatchNormalization(name="bn")(inputs)
    outputs = [keras.layers.Dense(1, name=name)(hidden) for name in ("one", "two")]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"one": "mse", "two": "mae"}, loss_weights=loss_weights)
    return model


def test_the_loss_of_a_mode_gap_is_the_compiled_one_with_its_weights():
    weights = {"one": 0.25, "two": 3.0}
    model = two_outputs(weights)
    targets = {"one": X[:, :1], "two": X[:, 1:2]}
    gap = bng.mode_gap(model, (X, targets), batch_size=50)
    one, two = (np.asarray(part) for part in model.predict(X, verbose=0))
    expected = 0.25 * np.mean((one - X[:, :1]) ** 2) + 3.0 * np.mean(np.abs(two - X[:, 1:2]))
    assert gap.inference["loss"] == pytest.approx(float(expected), rel=1e-4)


def test_a_mode_gap_leaves_metrics_optimizer_and_seeds_as_they_were():
    model = conv_model()
    model.compile(keras.optimizers.Adam(1e-3), "mse", metrics=["mae"])
    target = np.zeros((40, 4), "float32")
    model.fit(IMAGES, target, verbose=0)

    def everything():
        metrics = [as_array(v) for m in model.metrics for v in m.variables]
        return [weights(model), metrics, optimizer_state(model), seed_states(model)]

    before, drawn = everything(), random_state()
    keras.utils.set_random_seed(4)
    expected = random_state()
    keras.utils.set_random_seed(4)
    bng.mode_gap(model, (IMAGES, target))
    assert random_state() == expected
    after = everything()
    assert same(before[0], after[0])
    assert same(before[1], after[1])
    assert before[2:] == after[2:]
    assert drawn != expected


def test_bn_forced_in_the_step_run_in_inference_mode_on_both_sides_of_a_mode_gap():
    model = conv_model(depth=1)
    model.compile("sgd", "mse")
    target = np.zeros((40, 4), "float32")
    assert bng.mode_gap(model, (IMAGES, target)).gap() != 0.0
    with bng.force_inference(model, "*"):
        assert bng.mode_gap(model, (IMAGES, target)).gap() == 0.0
    model.get_layer("bn0").trainable = False
    model.compile("sgd", "mse")
    assert bng.mode_gap(model, (IMAGES, target)).gap() == 0.0
