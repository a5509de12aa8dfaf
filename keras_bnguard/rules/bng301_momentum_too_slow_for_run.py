"""BNG301: the run is too short for the momentum, so the start values stay in the statistics."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from keras_bnguard.records import (
    DataFacts,
    EmaBias,
    Inventory,
    NormLayer,
    RunFacts,
    Severity,
    SkipKind,
    SkipReason,
)
from keras_bnguard.rules.base import AT_THE_END, Rule, Violation
from keras_bnguard.rules.predicates import (
    does_not_fit,
    inputs_by_path,
    learning_norms,
    misfit_after,
    norms_of,
    recalibrates,
    uses_batch_at_inference,
)
from keras_bnguard.rules.text import (
    after_line,
    before_line,
    compile_again,
    count,
    indent,
    recalibrate_code,
    setting,
    some,
)
from keras_bnguard.rules.thresholds import MAX_INITIAL_WEIGHT, MIN_STEPS

MAX_SHIFT = 0.5
MAX_LOG_VARIANCE = 1.8


class MomentumTooSlowForRun(Rule):
    """The run ends before the moving statistics have left their start values.

    What it checks:
        Trainable BN, by momentum and number of steps: with your data before the first step, and
        without it when training is over.

    Why it matters:
        After n steps momentum ** n of the start value is still in the moving statistics:
        0.74 of it after 30 steps at 0.99. Training seems fine, for it uses batch
        statistics; `evaluate` and `predict` use statistics of nothing that was ever seen.

    How it decides:
        left = momentum ** steps above 0.05, and what is left does harm: over channels, the
        median distance from the average of the batches alone is above 0.5 standard deviations
        or 1.8 in log variance. At the end of training the average follows from (m - left m0) /
        (1 - left); before the first step it is taken from your data and the present weights.

    Example:
        model.fit(x, y, epochs=2)                # 2 x 10 steps, momentum 0.99

    Fix:
        Recompute the statistics after training, or use a lower momentum for short runs.

    Known limits:
        Silent where `bng.Recalibrate` is a callback of the same `fit`.
        The updates of every `fit` of the model that was observed count together. Under
        `bnguard run` the last `fit` decides for all of them.
        Not certain: elsewhere a run that is only the first of many is reported too early. Silent
        where the start values fit the data, in runs of fewer than 10 steps, which are trials of
        the code, in custom training loops, for momentum 1.0, and for BN that a graph calls with
        `training=True` where Keras obeys it in `predict`.

    Source:
        keras issues 7265, 10666 and 12851. Measured: train 0.97, evaluate 0.54 on the same
        rows after 20 steps at 0.99; 0.99 after recalibration.
    """

    code = "BNG301"
    name = "momentum-too-slow-for-run"
    severity = Severity.WARNING
    certain = False
    evaluated_at = AT_THE_END
    over_all_fits = True

    def check(
        self,
        inventory: Inventory,
        fit_settings: Mapping[str, Any],
        run: Optional[RunFacts] = None,
        data: Optional[DataFacts] = None,
    ) -> Iterable[Violation]:
        violation = dict(
            _at_end(inventory, run, data)
            if run is not None and run.ema_biases is not None
            else _before(inventory, run, data, fit_settings)
        )
        steps = _steps(run, fit_settings)
        if not violation or steps < MIN_STEPS or recalibrates(fit_settings):
            return
        known = norms_of(inventory)
        norms = [known[path] for path in violation]
        left = max(part[0] for part in violation.values())
        momentum = max(norm.momentum or 0.0 for norm in norms)
        yield Violation(
            layers=tuple(violation),
            message=(
                f"{count(steps, 'step')} at momentum {momentum:g} leave {100 * left:.0f} % of the "
                "start values in the moving statistics of "
                f"{count(len(violation), 'trainable BN layer')}: {some(tuple(violation))}. That "
                f"puts them up to {_largest(violation, 1):.2g} standard deviations (limit "
                f"{MAX_SHIFT:g}) and {_largest(violation, 2):.2g} in log variance (limit "
                f"{MAX_LOG_VARIANCE:g}) off; {inventory.stack} uses them in evaluate and predict. "
                f"Longer training cures it too: {_needed(momentum)} updates in all leave 5 %."
            ),
            fix=(
                f"let them follow faster, {_momentum(steps):g} for such a run, "
                f"{before_line(inventory)}:\n"
                + _momentum_code(inventory, tuple(violation), _momentum(steps))
                + f"\nor recompute the statistics when training is over, {after_line(inventory)} "
                "(or by bng.Recalibrate among the callbacks of fit):\n"
                + recalibrate_code(inventory)
            ),
            evidence={
                "initial_weight": {path: part[0] for path, part in violation.items()},
                "mean_shift": {path: part[1] for path, part in violation.items()},
                "log_variance_ratio": {path: part[2] for path, part in violation.items()},
                "limits": (MAX_INITIAL_WEIGHT, MAX_SHIFT, MAX_LOG_VARIANCE),
            },
        )

    def skip_reason(
        self,
        inventory: Inventory,
        fit_settings: Mapping[str, Any],
        run: Optional[RunFacts] = None,
        data: Optional[DataFacts] = None,
    ) -> Optional[SkipReason]:
        if not learning_norms(inventory, run) or (run is not None and run.ema_biases is not None):
            return None
        if _planned(fit_settings) is None:
            return SkipReason(
                SkipKind.TOO_EARLY, "the number of steps is not known before training is over"
            )
        if not inputs_by_path(data):
            return SkipReason(
                SkipKind.MISSING_FACT, "needs batches of your data, or the end of training"
            )
        return None


def _at_end(
    inventory: Inventory, run: RunFacts, data: Optional[DataFacts]
) -> Iterable[Tuple[str, Tuple[float, float, float]]]:
    """path -> (remaining weight, shift, log variance), from the statistics alone."""
    now = inputs_by_path(data)
    for norm, ema_bias in learning_biases(inventory, run):
        if norm.path in now and not does_not_fit(now[norm.path]):
            continue  # They fit the data all the same.
        if start_does_harm(ema_bias):
            yield (
                norm.path,
                (ema_bias.initial_weight, ema_bias.start_shift, ema_bias.start_log_variance),
            )


def learning_biases(inventory: Inventory, run: RunFacts) -> List[Tuple[NormLayer, EmaBias]]:
    """Trainable BN whose statistics changed, with the EMA bias of each."""
    biases = {bias.path: bias for bias in run.ema_biases or ()}
    changed = {change.path for change in run.statistics_changes if change.changed}
    return [
        (norm, biases[norm.path])
        for norm in learning_norms(inventory, run)
        if norm.path in biases
        and norm.path in changed
        and not uses_batch_at_inference(norm, inventory)
    ]


def start_does_harm(ema_bias: EmaBias) -> bool:
    """So much of the start values is left that the statistics are off."""
    off = (ema_bias.start_shift, ema_bias.start_log_variance)
    return (
        ema_bias.initial_weight > MAX_INITIAL_WEIGHT
        and all(math.isfinite(part) for part in off)
        and (off[0] > MAX_SHIFT or off[1] > MAX_LOG_VARIANCE)
    )


def _before(
    inventory: Inventory,
    run: Optional[RunFacts],
    data: Optional[DataFacts],
    fit_settings: Mapping[str, Any],
) -> Iterable[Tuple[str, Tuple[float, float, float]]]:
    """The same before the first step, from the data and the present weights."""
    steps = _planned(fit_settings)
    inputs = inputs_by_path(data)
    if steps is None:
        return
    for norm in learning_norms(inventory, run):
        item = inputs.get(norm.path)
        if item is None or norm.momentum is None or not 0.0 < norm.momentum < 1.0:
            continue
        if uses_batch_at_inference(norm, inventory):
            continue
        left = norm.momentum ** (steps * item.calls)
        if left <= MAX_INITIAL_WEIGHT:
            continue
        shift, ratio = misfit_after(item, left, norm.epsilon or 0.0)
        if shift > MAX_SHIFT or ratio > MAX_LOG_VARIANCE:
            yield norm.path, (left, shift, ratio)


def _planned(fit_settings: Mapping[str, Any]) -> Optional[int]:
    """Training steps of the whole `fit`, None where Keras does not know them."""
    epochs, steps = fit_settings.get("epochs"), fit_settings.get("steps")
    return int(epochs) * int(steps) if epochs and steps else None


def _steps(run: Optional[RunFacts], fit_settings: Mapping[str, Any]) -> int:
    if run is not None and run.ema_biases is not None:
        return run.steps
    return _planned(fit_settings) or 0


def _momentum(steps: int) -> float:
    """The momentum that leaves 5 % of the start after so many steps, rounded down."""
    fitting: float = math.floor(100 * MAX_INITIAL_WEIGHT ** (1 / max(steps, 1))) / 100
    return max(0.5, fitting)


def _needed(momentum: float) -> int:
    """Updates after which 5 % of the start are left."""
    return math.ceil(math.log(MAX_INITIAL_WEIGHT) / math.log(momentum))


def _largest(violation: Dict[str, Tuple[float, float, float]], part: int) -> float:
    return max(values[part] for values in violation.values())


def _momentum_code(inventory: Inventory, paths: Sequence[str], momentum: float) -> str:
    norms = [inventory.norm(path) for path in paths]
    lines = setting(inventory, norms, f"momentum = {momentum:g}")
    return indent("\n".join([*lines, *compile_again(inventory)]))
