"""BNG406: pretrained statistics of a live BN moved far from where they started."""

from __future__ import annotations

from typing import Iterable, List, Optional

from keras_bnguard.drift import MAX_LOG_VARIANCE_RATIO, MAX_MEAN_SHIFT
from keras_bnguard.records import Facts, Movement, NormLayer
from keras_bnguard.rules.base import (
    COMPILE_AGAIN,
    Hit,
    Rule,
    count,
    freeze_code,
    indent,
    norms_of,
    some,
    stack_of,
)


class StatisticsDrifted(Rule):
    """The trained statistics of a live BN moved far from where they started.

    What it checks:
        Live BN that carried trained statistics at train begin, in a run whose optimizer had
        taken no step before.

    Why it matters:
        Moving statistics are an average over the whole pretraining. Thawed BN replaces them
        by those of the last few hundred batches. When they move this far, the input of every
        layer after them is not what it was trained on.

    How it decides:
        mean shift: average over channels of |mean_t - mean_0| / sqrt(variance_0 + epsilon),
        above 1.0 standard deviation; or
        log variance ratio: average over channels of
        |log((variance_t + epsilon) / (variance_0 + epsilon))|, above 2.303, a factor of 10.
        Provisional: correct fine-tuning moves inputs by 0.1 to 0.25 standard deviations and
        by 0.3 to 0.6 in log variance.

    Example:
        backbone.trainable = True                # BN with it
        model.compile(optimizer, "mse")
        model.fit(x, y, batch_size=4)

    Fix:
        Freeze the BN again, or use a lower learning rate and larger batches. If your data
        really are that different, recalibrate before you train.

    Known limits:
        Not certain: a large step is right where the data are very different. Silent in
        training from scratch, in a run that goes on from an earlier one, and where the
        statistics were assigned (recalibration) rather than trained.

    Source:
        keras issue 20285, keras-io issue 653. The two measures are those of the drift
        history in the report.
    """

    code = "BNG406"
    name = "statistics-drifted"
    severity = "warning"
    needs = ("R",)
    certain = False
    asked = "moved"

    def check(self, facts: Facts) -> Iterable[Hit]:
        run = facts.run
        if run is None or run.optimizer_started > 0:
            return
        hit = [movement for movement in run.movements if _drifted(movement)]
        if not hit:
            return
        hit.sort(key=lambda m: (m.mean_shift, m.log_variance_ratio), reverse=True)
        paths = tuple(movement.path for movement in hit)
        shift = max(movement.mean_shift for movement in hit)
        ratio = max(movement.log_variance_ratio for movement in hit)
        known = norms_of(facts)
        norms = [known[path] for path in paths if path in known]
        yield Hit(
            layers=paths,
            message=(
                f"{count(len(hit), 'live BN layer')} far from the statistics they started with "
                f"after {count(run.steps, 'step')}: {some(paths)}. Largest mean shift {shift:.3g} "
                f"standard deviations (limit {MAX_MEAN_SHIFT:g}), largest log variance ratio "
                f"{ratio:.3g} (limit {MAX_LOG_VARIANCE_RATIO:g}). {stack_of(facts)} uses the "
                "moved values in predict."
            ),
            fix=(
                "load the pretrained weights again, freeze the BN and compile:\n"
                f"{_freeze(facts, norms)}\n"
                "or, if your data really differ that much, before training:\n"
                "    bng.recalibrate(model, data)"
            ),
            evidence={
                "mean_shift": {m.path: m.mean_shift for m in hit},
                "log_variance_ratio": {m.path: m.log_variance_ratio for m in hit},
                "limits": (MAX_MEAN_SHIFT, MAX_LOG_VARIANCE_RATIO),
            },
        )

    def cannot_look(self, facts: Facts) -> Optional[str]:
        if facts.run is not None and facts.run.steps < 1:
            return "no training step ran yet"
        return None


def _drifted(movement: Movement) -> bool:
    far = (
        movement.mean_shift > MAX_MEAN_SHIFT or movement.log_variance_ratio > MAX_LOG_VARIANCE_RATIO
    )
    return (
        far
        and movement.expected == "train"
        and movement.moved
        and movement.ran != "inference"
        and not movement.started_at_default
        and not movement.nonfinite
    )


def _freeze(facts: Facts, norms: List[NormLayer]) -> str:
    if facts.inventory is None or not norms:
        return indent(COMPILE_AGAIN)
    return freeze_code(facts.inventory, norms)
