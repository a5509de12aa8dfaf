"""Each limit of a rule, from both sides: the last value without a finding, the first with one.

The values are written out, so that a limit cannot change without this table.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import pytest

from keras_bnguard.records import (
    TRAIN_START,
    AssignedWeights,
    Averaging,
    BatchDependence,
    Facts,
    OutsideChange,
)
from keras_bnguard.rules import BY_CODE
from tests.builders.facts import (
    adam,
    changed,
    ema_bias,
    facts,
    gap,
    labels,
    layer,
    norm,
    past,
    reached,
    run,
    sampled,
    trainable_change,
    violations,
)


def ended(steps: int = 400, **bias: float) -> Facts:
    """A run that is over, with one BN that trained."""
    biases = (ema_bias("bn", **bias),)
    known = run(changed("bn"), steps=steps, ended=True, ema_biases=biases)
    return facts(norm("bn"), run=known, fit_settings={"epochs": 2, "steps": 10})


def from_start(**bias: float) -> Facts:
    return ended(**{"initial_weight": 0.5, **bias})


def frozen(rows: int = 512, **item: float) -> Facts:
    """A frozen BN, and what reaches it."""
    data = sampled(reached("base/bn", **item), rows=rows)
    return facts(norm("base/bn", trainable=False), data=data)


def one_of(others: int) -> Facts:
    """One BN whose statistics do not fit, among so many that do."""
    items = [reached(f"base/bn{i}", first=False) for i in range(others)]
    items.append(reached("base/off", first=False, mean_shift=9.0))
    norms = [norm(item.path, trainable=False) for item in items]
    return facts(*norms, data=sampled(*items))


def in_order(ratio: float = 0.0, batches: int = 16) -> Facts:
    found = labels(within_batch_variance_ratio=ratio, single_class_batches=1)
    return facts(norm("bn"), data=sampled(labels=found, full_rows=10**9, batches=batches))


def alike(ratio: float) -> Facts:
    item = reached("bn", within_batch_variance_ratio=ratio)
    return facts(norm("bn"), data=sampled(item, full_rows=10**9))


def of_gap(training: float, inference: float, **settings: Any) -> Facts:
    settings = {"standard_error": 0.0, **settings}
    return facts(norm("bn"), data=sampled(gap=gap(training, inference, **settings)))


def dependent(difference: float, forced: float = 0.0) -> Facts:
    found = BatchDependence(difference=difference, difference_forced=forced)
    return facts(norm("bn"), data=sampled(batch_dependence=found))


def frozen_for_another(steps: int) -> Facts:
    changes = (trainable_change("bn", set_for="gan"),)
    known = run(trainable_changes=changes, unmoved=("bn",), unmoved_steps=steps)
    return facts(norm("bn"), run=known)


def assigned(distance: float) -> Facts:
    found = AssignedWeights(TRAIN_START, ("bn",), distance=distance)
    return facts(norm("bn"), run=run(assigned=found))


def averaged(distance: float) -> Facts:
    found = Averaging("Adam(use_ema=True)", assigned=True, distance=distance)
    return facts(norm("bn"), run=run(changed("bn"), ended=True, averaging=found))


def unfrozen(learning_rate: float, head: float = 1.0, adaptive: bool = True) -> Facts:
    flags = [layer("base/conv", 1, trainable=False)]
    before = past(norm("base/bn"), layers=flags, head_learning_rate=head)
    return facts(
        norm("base/bn"),
        layers=[layer("base/conv", 1)],
        run=run(before=before, phase_steps=1),
        optimizer=adam(learning_rate=learning_rate, adaptive=adaptive),
    )


def boundary(first: float, last: float, after: float) -> Facts:
    before = past(
        layers=[layer("conv", 1, trainable=False)], first_loss=first, loss=last, loss_function="mse"
    )
    known = run(before=before, losses=(after,), loss_function="mse")
    return facts(layers=[layer("conv", 1)], run=known)


class Limit(NamedTuple):
    code: str
    name: str
    made: Callable[[Any], Facts]
    passes: Any
    fires: Any


LIMITS = [
    Limit("BNG110", "MIN_STEPS", frozen_for_another, 4, 5),
    Limit("BNG301", "MAX_SHIFT", lambda x: from_start(start_shift=x), 0.5, 0.501),
    Limit("BNG301", "MAX_LOG_VARIANCE", lambda x: from_start(start_log_variance=x), 1.8, 1.801),
    Limit(
        "BNG301",
        "MAX_INITIAL_WEIGHT",
        lambda x: ended(initial_weight=x, start_shift=9),
        0.05,
        0.051,
    ),
    Limit("BNG301", "MIN_STEPS", lambda x: ended(x, initial_weight=0.5, start_shift=9), 9, 10),
    Limit("BNG302", "LOW", lambda x: facts(norm("bn", momentum=x)), 0.5, 0.499),
    Limit("BNG302", "HIGH", lambda x: facts(norm("bn", momentum=x)), 0.99989, 0.9999),
    Limit("BNG302", "MAX_EPSILON", lambda x: facts(norm("bn", epsilon=x)), 0.1, 0.101),
    Limit(
        "BNG406",
        "MAX_DISTANCE",
        lambda x: facts(norm("bn"), run=run(changed("bn", distance=x))),
        0.1,
        0.101,
    ),
    Limit("BNG407", "MAX_SHIFT", lambda x: ended(shift=x), 0.5, 0.501),
    Limit("BNG407", "MAX_LOG_VARIANCE", lambda x: ended(log_variance=x), 0.7, 0.701),
    Limit("BNG407", "MIN_STEPS", lambda x: ended(x, shift=9.0), 9, 10),
    Limit(
        "BNG408",
        "MIN_CHANGE",
        lambda x: facts(norm("bn"), run=run(outside=OutsideChange({"bn": x}))),
        0.0999,
        0.1,
    ),
    Limit("BNG501", "MAX_SCALE", lambda x: frozen(variance_ratio=x), 100.0, 100.1),
    Limit("BNG501", "1 / MAX_SCALE", lambda x: frozen(variance_ratio=x), 0.01, 0.0099),
    # An input whose scale is off is left to BNG501.
    Limit("BNG504", "MAX_SCALE", lambda x: frozen(variance_ratio=x, mean_shift=9), 100.1, 100.0),
    Limit("BNG504", "MAX_MEAN_SHIFT", lambda x: frozen(mean_shift=x), 0.6, 0.601),
    Limit("BNG504", "MAX_LOG_VARIANCE_RATIO", lambda x: frozen(log_variance_ratio=x), 1.0, 1.001),
    Limit("BNG504", "MIN_ROWS", lambda x: frozen(x, mean_shift=9), 63, 64),
    Limit("BNG504", "MIN_SHARE", one_of, 10, 9),
    Limit("BNG505", "MAX_LABELS_WITHIN", in_order, 0.5, 0.499),
    Limit("BNG505", "MAX_WITHIN", alike, 0.6, 0.599),
    Limit("BNG505", "MIN_BATCHES", lambda x: in_order(batches=x), 7, 8),
    Limit("BNG506", "MAX_RATIO", lambda x: of_gap(1.0, x), 1.5, 1.501),
    Limit("BNG506", "MIN_GAP", lambda x: of_gap(0.0, x), 0.1, 0.101),
    Limit("BNG506", "MIN_ERRORS", lambda x: of_gap(0.0, x, standard_error=1.0), 3.0, 3.01),
    Limit("BNG506", "MIN_ACCURACY", lambda x: of_gap(0.1, 2, accuracy=(0.9, x)), 0.881, 0.879),
    Limit("BNG506", "MIN_VALUES", lambda x: of_gap(0.1, 2, values=x), 7.9, 8.0),
    Limit("BNG507", "MAX_DIFFERENCE", dependent, 1e-3, 1.01e-3),
    Limit("BNG507", "TIMES_FORCED", lambda x: dependent(x, 0.01), 0.1, 0.101),
    Limit("BNG603", "MIN_DISTANCE", averaged, 0.049, 0.05),
    Limit("BNG609", "MIN_DISTANCE", assigned, 0.049, 0.05),
    Limit("BNG606", "FACTOR", lambda x: unfrozen(x, 1e-3), 1e-4, 1.01e-4),
    Limit("BNG606", "MAX_ADAPTIVE", lambda x: unfrozen(x, 1e-9), 1e-3, 1.01e-3),
    # A tenth of a head's learning rate below these is no limit.
    Limit("BNG606", "LOW_ADAPTIVE", lambda x: unfrozen(9e-4, x), 0.99e-4, 1e-4),
    Limit("BNG606", "LOW", lambda x: unfrozen(9e-4, x, adaptive=False), 0.99e-3, 1.01e-3),
    Limit("BNG606", "_ROUNDING", lambda x: unfrozen(x, 1e-3), 1.0000009e-4, 1.0000011e-4),
    Limit("BNG608", "RATIO", lambda x: boundary(1.5, 1.0, x), 2.0, 2.01),
    Limit("BNG608", "SHARE", lambda x: boundary(11.0, 1.0, x), 6.0, 6.01),
    Limit("BNG608", "FLOOR", lambda x: boundary(1.1e-4, 1e-4, x), 1.1e-3, 1.11e-3),
]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{limit.code}-{limit.name}")
def test_a_rule_is_silent_at_its_limit_and_fires_beyond_it(limit):
    rule = BY_CODE[limit.code]
    assert not violations(rule, limit.made(limit.passes))
    assert violations(rule, limit.made(limit.fires))
