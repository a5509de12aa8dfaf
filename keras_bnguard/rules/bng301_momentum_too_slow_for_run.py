"""BNG301: the run is too short for the momentum, so the start values stay in the statistics."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from keras_bnguard.records import EmaBias, Facts, NormLayer, Severity
from keras_bnguard.rules.base import (
    AT_THE_END,
    Rule,
    Violation,
    count,
    indent,
    norms_of,
    some,
    stack_of,
)
from keras_bnguard.rules.thresholds import (
    MAX_START_LEFT,
    does_not_fit,
    live,
    measured,
    misfit_after,
    put_right,
)

MAX_SHIFT = 0.5
MAX_LOG_VARIANCE = 1.8
MIN_STEPS = 10
"""Nobody expects a trained model of fewer: such a run is a trial of the code."""


class MomentumTooSlowForRun(Rule):
    """The run ends before the moving statistics have left their start values.

    What it checks:
        Live BN, by momentum and number of steps: with your data before the first step, and
        without it when training is over.

    Why it matters:
        After n steps momentum ** n of the start value is still in the moving statistics:
        0.74 of it after 30 steps at 0.99. Training looks fine, for it normalises by the
        batch; `evaluate` and `predict` use statistics of nothing that was ever seen.

    How it decides:
        left = momentum ** steps above 0.05, and what is left does harm: over channels, the
        median distance from the average of the batches alone is above 0.5 standard deviations
        or 1.8 in log variance. At train end the average follows from (m - left m0) / (1 - left);
        before the first step it is taken from your data and the present weights.

    Example:
        model.fit(x, y, epochs=2)                # 2 x 10 steps, momentum 0.99

    Fix:
        Recompute the statistics after training, or use a lower momentum for short runs.

    Known limits:
        Silent where `bng.Recalibrate` is a callback of the same `fit`.
        Not certain: a run that is only the first of many is told too early. Silent where the
        start values fit the data, in runs of fewer than 10 steps, which are trials of the code,
        in loops of your own, and for momentum 1.0.

    Source:
        keras issues 7265, 10666 and 12851. Measured: train 0.97, evaluate 0.54 on the same
        rows after 20 steps at 0.99; 0.99 after recalibration.
    """

    code = "BNG301"
    name = "momentum-too-slow-for-run"
    severity = Severity.WARNING
    needs = ("A", "H")
    certain = False
    evaluated_at = AT_THE_END

    def check(self, facts: Facts) -> Iterable[Violation]:
        violation = dict(_at_end(facts) if _is_over(facts) else _before(facts))
        if not violation or _steps(facts) < MIN_STEPS or put_right(facts):
            return
        known = norms_of(facts)
        norms = [known[path] for path in violation]
        left = max(part[0] for part in violation.values())
        momentum = max(norm.momentum or 0.0 for norm in norms)
        steps = _steps(facts)
        yield Violation(
            layers=tuple(violation),
            message=(
                f"{count(steps, 'step')} at momentum {momentum:g} leave {100 * left:.0f} % of the "
                f"start values in the moving statistics of {count(len(violation), 'live BN layer')}: "
                f"{some(tuple(violation))}. That puts them up to {_largest(violation, 1):.2g} standard "
                f"deviations (limit {MAX_SHIFT:g}) and {_largest(violation, 2):.2g} in log variance "
                f"(limit {MAX_LOG_VARIANCE:g}) off; {stack_of(facts)} uses them in evaluate and "
                "predict."
            ),
            fix=(
                "recompute the statistics when training is over:\n"
                + indent("bng.recalibrate(model, x_train)")
                + f"\nor let them follow faster, {_momentum(steps):g} for such a run:\n"
                + indent(f"keras.layers.BatchNormalization(momentum={_momentum(steps):g})")
            ),
            evidence={
                "initial_weight": {path: part[0] for path, part in violation.items()},
                "mean_shift": {path: part[1] for path, part in violation.items()},
                "log_variance_ratio": {path: part[2] for path, part in violation.items()},
                "limits": (MAX_START_LEFT, MAX_SHIFT, MAX_LOG_VARIANCE),
            },
        )

    def skip_reason(self, facts: Facts) -> Optional[str]:
        if facts.fit_settings is None or not live(facts) or _is_over(facts):
            return None
        if _planned(facts.fit_settings) is None:
            return "the number of steps is not known before training is over"
        if not measured(facts):
            return "needs P, or the end of training"
        return None


def _is_over(facts: Facts) -> bool:
    return facts.run is not None and facts.run.ema_biases is not None


def _at_end(facts: Facts) -> Iterable[Tuple[str, Tuple[float, float, float]]]:
    """path -> (left, shift, log variance), from the statistics alone."""
    now = measured(facts)
    for norm, ema_bias in ema_biases_of_trainable(facts):
        if norm.path in now and not does_not_fit(now[norm.path]):
            continue  # They fit the data all the same.
        if start_does_harm(ema_bias):
            yield (
                norm.path,
                (ema_bias.initial_weight, ema_bias.start_shift, ema_bias.start_log_variance),
            )


def ema_biases_of_trainable(facts: Facts) -> List[Tuple[NormLayer, EmaBias]]:
    """Live BN that moved, with how far they are behind."""
    run = facts.run
    ema_biases = (
        {ema_bias.path: ema_bias for ema_bias in (run.ema_biases or ())} if run is not None else {}
    )
    changed = {m.path for m in run.statistics_changes if m.changed} if run is not None else set()
    return [
        (n, ema_biases[n.path]) for n in live(facts) if n.path in ema_biases and n.path in changed
    ]


def start_does_harm(ema_bias: EmaBias) -> bool:
    """So much of the start values is left that the statistics are off."""
    off = (ema_bias.start_shift, ema_bias.start_log_variance)
    return (
        ema_bias.initial_weight > MAX_START_LEFT
        and all(math.isfinite(part) for part in off)
        and (off[0] > MAX_SHIFT or off[1] > MAX_LOG_VARIANCE)
    )


def _before(facts: Facts) -> Iterable[Tuple[str, Tuple[float, float, float]]]:
    """The same before the first step, from the data and the present weights."""
    steps = _planned(facts.fit_settings or {})
    inputs = measured(facts)
    if steps is None:
        return
    for norm in live(facts):
        item = inputs.get(norm.path)
        if item is None or norm.momentum is None or not 0.0 < norm.momentum < 1.0:
            continue
        left = norm.momentum ** (steps * item.calls)
        if left <= MAX_START_LEFT:
            continue
        shift, ratio = misfit_after(item, left, norm.epsilon or 0.0)
        if shift > MAX_SHIFT or ratio > MAX_LOG_VARIANCE:
            yield norm.path, (left, shift, ratio)


def _planned(hyper: Mapping[str, Any]) -> Optional[int]:
    """Training steps of the whole `fit`, None where Keras does not know them."""
    epochs, steps = hyper.get("epochs"), hyper.get("steps")
    return int(epochs) * int(steps) if epochs and steps else None


def _steps(facts: Facts) -> int:
    run = facts.run
    if run is not None and _is_over(facts):
        return run.steps
    return _planned(facts.fit_settings or {}) or 0


def _momentum(steps: int) -> float:
    """The momentum that leaves 5 % of the start after so many steps, rounded down."""
    fitting: float = math.floor(100 * MAX_START_LEFT ** (1 / max(steps, 1))) / 100
    return max(0.5, fitting)


def _largest(violation: Dict[str, Tuple[float, float, float]], part: int) -> float:
    return max(values[part] for values in violation.values())
