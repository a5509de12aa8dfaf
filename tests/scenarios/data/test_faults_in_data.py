"""Faults of data and batches in real `fit`s: each is found, with the right layers."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.guard.data_sampling import FROM_FIT
from keras_bnguard.records import TRAIN_START, SkipKind
from keras_bnguard.records.report import Severity
from tests.builders.containers import Base
from tests.builders.data_models import compiled, dense, flat, layers, on_top, trained_base
from tests.builders.harness import fit
from tests.stack import keras


def guard(data=None, **settings):
    return bng.BNGuard(data=data, **settings)


def still(base):
    base.trainable = False
    return base


# ------------------------------------------------------------- statistics too slow
def slow(rows=320):
    x, y = flat(rows)
    return 4 * x + 6, y


def test_a_short_run_at_a_slow_momentum_is_found_without_data():
    x, y = slow()
    run = fit(compiled(dense(momentum=0.99)), x, y, batch_size=32, epochs=2)
    assert "bn1" in run.layers("BNG301")
    assert run.finding("BNG301").evidence["initial_weight"]["bn1"] == pytest.approx(0.99**20)


def test_with_data_it_is_found_before_training_and_the_gap_afterwards():
    x, y = slow()
    model = compiled(dense(momentum=0.99))
    run = fit(model, x, y, guard=guard((x, y)), batch_size=32, epochs=2)
    assert run.finding("BNG301").moment == TRAIN_START
    assert "bn1" in run.layers("BNG301")
    assert run.layers("BNG506") == ["bn1", "bn2"]
    gap = run.finding("BNG506").evidence
    assert gap["inference"] > 1.5 * gap["training"]
    bng.recalibrate(model, x)
    assert "BNG506" not in bng.audit(model, (x, y)).codes


@pytest.mark.slow
def test_a_fine_tuning_that_ends_too_soon_is_still_converging():
    base = trained_base()
    for name in ("bn1", "bn2"):
        base.get_layer(name).momentum = 0.99
    x, y = flat(320)
    run = fit(on_top(base), 4 * x + 6, y, batch_size=32, epochs=3)
    assert {"BNG301", "BNG407"} & set(run.codes)
    assert "base/bn1" in [*run.layers("BNG301"), *run.layers("BNG407")]


# --------------------------------------------------------------------- input scale
def test_images_that_are_rescaled_twice():
    x, y = flat(128)
    run = fit(on_top(still(trained_base(1 / 255, 255.0))), x, y, guard=guard((x, y)))
    assert run.layers("BNG501") == ["base/bn1"]
    assert "rescaled twice, by base/rescaling" in run.finding("BNG501").message
    assert "BNG504" not in run.codes


@pytest.mark.slow
def test_images_that_are_not_rescaled():
    x, y = flat(128)
    run = fit(on_top(still(trained_base())), 255 * x, y, guard=guard((255 * x, y)))
    assert run.layers("BNG501") == ["base/bn1"]
    assert "not rescaled" in run.finding("BNG501").message


@pytest.mark.slow
def test_a_model_of_keras_applications_given_the_input_of_another():
    base = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    )
    rng = np.random.default_rng(0)
    images = (rng.uniform(0, 255, (40, 1, 1, 3)) + rng.normal(0, 30, (40, 32, 32, 3))).clip(0, 255)
    images = images.astype("float32")
    bng.recalibrate(base, images / 127.5 - 1)
    assert not bng.audit(base, images / 127.5 - 1, select="BNG501").findings
    report = bng.audit(base, images, select="BNG501")
    (finding,) = report.findings
    assert finding.layers == ("bn_Conv1",)
    assert "not rescaled" in finding.message
    assert "expects pixels from -1 to 1" in finding.message
    assert "mobilenet_v2.preprocess_input" in finding.fix


# -------------------------------------------------------------------- other domain
def test_frozen_statistics_of_another_domain():
    x, y = flat(128)
    other = 3 - 2 * x
    run = fit(on_top(still(trained_base())), other, y, guard=guard((other, y)))
    assert "base/bn1" in run.layers("BNG504")
    assert "BNG501" not in run.codes


# ------------------------------------------------------------------ order and size
def by_class():
    x, y = flat(256)
    order = np.argsort(y, kind="stable")
    return x[order], y[order]


def test_arrays_sorted_by_class_and_not_shuffled():
    x, y = by_class()
    run = fit(compiled(dense()), x, y, guard=guard((x, y)), batch_size=32, shuffle=False)
    assert run.layers("BNG505") == ["bn1", "bn2"]


class OneClassEach(Base):
    """A batch of 16 rows for each of eight digits."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        x, y = flat(256)
        return x[y == i][:16], y[y == i][:16]


def test_a_sequence_whose_batches_have_one_class_each():
    data = OneClassEach()
    run = fit(compiled(dense()), data, guard=guard(data), shuffle=False)
    assert run.layers("BNG505") == ["bn1", "bn2"]
    assert run.finding("BNG505").evidence["batches_of_one_label"] == len(data)


@pytest.mark.parametrize("with_data", [True, False])
def test_batches_of_a_few_rows(with_data):
    x, y = flat(32)
    run = fit(compiled(dense()), x, y, guard=guard((x, y) if with_data else None), batch_size=4)
    assert run.layers("BNG502") == ["bn1", "bn2"]
    assert run.finding("BNG502").severity is Severity.WARNING
    assert (run.finding("BNG502").moment == TRAIN_START) == with_data


@pytest.mark.slow
def test_batches_of_one_row_are_an_error():
    x, y = flat(8)
    run = fit(compiled(dense()), x, y, batch_size=1)
    assert run.finding("BNG502").severity is Severity.ERROR


def test_a_last_batch_of_one_row():
    x, y = flat(65)
    run = fit(compiled(dense()), x, y, guard=guard((x, y)), batch_size=32)
    assert run.layers("BNG503") == ["bn1", "bn2"]
    evidence = run.finding("BNG503").evidence
    assert (evidence["last_rows"], evidence["batch_rows"]) == (1, 32)


# ---------------------------------------------------------------- output and batch
class Wired(keras.Model):
    def __init__(self, value, **kwargs):
        super().__init__(**kwargs)
        self.value = value
        self.one, self.bn = layers.Dense(8), layers.BatchNormalization(name="bn", momentum=0.5)
        self.late = layers.BatchNormalization(name="late", momentum=0.5)
        self.out = layers.Dense(10, activation="softmax")

    def call(self, x, training=None):
        x = self.bn(self.one(x), training=self.value if self.value else training)
        return self.out(self.late(x, training=training))


def test_a_bn_that_is_wired_to_training_mode():
    x, y = flat(64)
    model = compiled(Wired(True))
    fit(model, x, y)
    (finding,) = bng.audit(model, (x, y), select="BNG507").findings
    assert finding.layers == ("bn",)
    right = compiled(Wired(None))
    fit(right, x, y)
    assert not bng.audit(right, (x, y), select="BNG507").findings


def test_enable_warnings_measures_on_the_arrays_of_fit():
    x, y = flat(128)
    model = on_top(still(trained_base(1 / 255, 255.0)))
    bng.enable_warnings()
    try:
        with pytest.warns(bng.BNGuardWarning, match="BNG501"):
            model.fit(x, y, batch_size=32, verbose=0)
    finally:
        bng.disable_warnings()


# --------------------------------------------------------------------- skipped
class NoCall(keras.Model):
    """A custom step only."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = dense()

    def train_step(self, *args):
        raise NotImplementedError


def skipped(report):
    """Code -> the outcome of each rule that was skipped."""
    return {outcome.code: outcome for outcome in report.skipped}


def not_built():
    return keras.Sequential([layers.Dense(3), layers.BatchNormalization()])


@pytest.mark.parametrize(
    ("code", "kind", "make"),
    [
        ("BNG501", SkipKind.NOT_MEASURED, lambda x, y: (not_built(), x)),
        ("BNG501", SkipKind.NOT_MEASURED, lambda x, y: (NoCall(), x)),
        ("BNG501", SkipKind.NOT_MEASURED, lambda x, y: (compiled(dense()), x[:, :5])),
        ("BNG501", SkipKind.MISSING_FACT, lambda x, y: (compiled(dense()), iter([(x, y)]))),
        ("BNG501", SkipKind.MISSING_FACT, lambda x, y: (compiled(dense()), [])),
        ("BNG506", SkipKind.NOT_MEASURED, lambda x, y: (dense(), (x, y))),
        ("BNG506", SkipKind.NOT_MEASURED, lambda x, y: (compiled(dense()), x)),
    ],
    ids=["not-built", "no-call", "other-shape", "read-once", "no-batch", "no-loss", "no-labels"],
)
def test_what_cannot_be_run_is_skipped_and_never_raises(code, kind, make):
    report = bng.audit(*make(*flat(64)))
    assert skipped(report)[code].skip_kind is kind
    assert skipped(report)[code].reason
    assert not [f for f in report.findings if f.code.startswith("BNG5")]


def test_a_generator_is_left_to_training_and_the_report_names_what_to_pass():
    x, y = flat(64)
    guard = bng.BNGuard(data=FROM_FIT)
    batches = ((x[i : i + 32], y[i : i + 32]) for i in 100 * [0, 32])
    compiled(dense()).fit(batches, steps_per_epoch=2, shuffle=False, verbose=0, callbacks=[guard])
    outcome = skipped(guard.report)["BNG504"]
    assert outcome.skip_kind is SkipKind.MISSING_FACT
    assert "BNGuard(data=" in outcome.reason, "what to pass instead"


def test_a_loss_that_cannot_be_computed_is_skipped():
    def broken(y_true, y_pred):
        raise RuntimeError("mine")

    model = dense()
    model.compile("sgd", broken)
    x, y = flat(64)
    outcome = skipped(bng.audit(model, (x, y)))["BNG506"]
    assert outcome.skip_kind is SkipKind.NOT_MEASURED
    assert "RuntimeError: mine" in outcome.reason, "the user's own error is shown"


def test_masked_steps_are_left_out_of_what_is_measured():
    inputs = keras.Input((6, 3))
    hidden = layers.Masking(name="mask")(inputs)
    hidden = layers.BatchNormalization(name="bn", momentum=0.5)(hidden)
    hidden = layers.GlobalAveragePooling1D()(hidden)
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(3.0, 1.0, (64, 6, 3)).astype("float32")
    x[:, 2:] = 0.0
    bng.recalibrate(model, x)
    mean = model.get_layer("bn").get_weights()[2]
    np.testing.assert_allclose(mean, x[:, :2].mean((0, 1)), rtol=1e-4)
    model.get_layer("bn").trainable = False
    assert "BNG504" not in bng.audit(model, x).codes
