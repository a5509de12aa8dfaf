"""BNG406: pretrained statistics of a trainable BN drifted."""

from __future__ import annotations

from typing import Iterable, Optional

from keras_bnguard.records import (
    ExpectedMode,
    Inventory,
    NormLayer,
    Provenance,
    RunFacts,
    RunMode,
    Severity,
    SkipReason,
    StatisticsChange,
)
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.predicates import no_step_yet, norms_of
from keras_bnguard.rules.text import before_line, count, freeze_code, recalibrate_code, some
from keras_bnguard.statistics.drift import MAX_DISTANCE


class StatisticsDrifted(Rule):
    """The trained statistics of a trainable BN drifted far from where they started.

    What it checks:
        Trainable BN that carried loaded statistics at the start of training, in a run whose
        optimizer had taken no step before. Loaded are those of a file, of an assignment, or of
        a pretraining in this process that another model or a frozen phase followed.

    Why it matters:
        Moving statistics are an average over the whole pretraining. Unfrozen BN replaces them
        by those of the last few hundred batches. When they change this much, the input of every
        layer after them is not what it was trained on.

    How it decides:
        The Bhattacharyya distance between the normal distributions that the statistics now
        and at the start stand for, with s = variance + epsilon:
        (mean_t - mean_0)^2 / (4 (s_t + s_0)) + log((s_t + s_0) / (2 sqrt(s_t s_0))) / 2,
        average over channels, above 0.1. That is a shift by 0.9 standard deviations, or a
        variance that is 4 times as large or small, or less of both. In an experiment on five
        nets (docs/statistics.md) statistics 0.06 away alone cost every net more than five
        points of accuracy, and correct fine-tuning stayed below 0.03.

    Example:
        backbone.trainable = True                # BN with it
        model.compile(optimizer, "mse")
        model.fit(x, y, batch_size=4)

    Fix:
        Freeze the BN again, or use a lower learning rate and larger batches. If your data
        really are that different, recalibrate before you train.

    Known limits:
        Not certain: a large step is right where the data are very different; `bng.advise`
        measures whether it is. Silent in training from scratch, also over several fits and
        compiles, in a run that goes on from an earlier one, where statistics changed while
        nothing was observed, and where they were assigned (recalibration) rather than trained.
        Statistics that forward passes in training mode made before the first `fit` count as
        loaded.

    Source:
        keras issue 20285, keras-io issue 653. Bhattacharyya 1943; Kailath, IEEE Trans. Comm.
        Tech. 15(1), 1967. The distance is that of the drift history in the report.
    """

    code = "BNG406"
    name = "statistics-drifted"
    severity = Severity.WARNING
    certain = False
    evaluated_at = ON_CHANGE
    consequence_of = ("BNG201", "BNG102", "BNG103", "BNG104", "BNG501", "BNG606", "BNG101")

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        if run.optimizer_started > 0:
            return
        known = norms_of(inventory)
        violation = [
            statistics_change
            for statistics_change in run.statistics_changes
            if _drifted(statistics_change, known.get(statistics_change.path))
        ]
        if not violation:
            return
        violation.sort(key=lambda m: m.distance, reverse=True)
        paths = tuple(statistics_change.path for statistics_change in violation)
        shift = max(statistics_change.mean_shift for statistics_change in violation)
        ratio = max(statistics_change.log_variance_ratio for statistics_change in violation)
        containers = {known[path].container for path in paths if path in known}
        norms = [
            norm
            for norm in inventory.norms
            if norm.path in paths
            or (norm.container in containers and norm.trainable and norm.pretrained)
        ]
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'trainable BN layer')} far from the statistics they "
                f"started with after {count(run.steps, 'step')}: {some(paths)}. Largest distance "
                f"{violation[0].distance:.3g} (limit {MAX_DISTANCE:g}), mean shift up to "
                f"{shift:.3g} standard deviations, log variance ratio up to {ratio:.3g}. "
                f"{inventory.stack} uses the changed values in predict."
            ),
            fix=(
                "load the pretrained weights again, freeze the BN and compile, "
                f"{before_line(inventory)}:\n"
                f"{freeze_code(inventory, norms)}\n"
                "or, if your data really differ that much, take their statistics "
                f"{before_line(inventory)}:\n"
                f"{recalibrate_code(inventory)}\n"
                "bng.advise(model, (x, y)) measures which is right"
            ),
            evidence={
                "distance": {m.path: m.distance for m in violation},
                "mean_shift": {m.path: m.mean_shift for m in violation},
                "log_variance_ratio": {m.path: m.log_variance_ratio for m in violation},
                "limit": MAX_DISTANCE,
            },
        )

    def skip_reason(self, run: RunFacts) -> Optional[SkipReason]:
        return no_step_yet(run)


def _drifted(statistics_change: StatisticsChange, norm: Optional[NormLayer]) -> bool:
    return (
        (norm is None or norm.provenance in (None, Provenance.LOADED))
        and statistics_change.distance > MAX_DISTANCE
        and statistics_change.expected is ExpectedMode.TRAINING
        and statistics_change.changed
        and statistics_change.ran is not RunMode.INFERENCE
        and not statistics_change.started_at_default
        and not statistics_change.nonfinite
    )
