"""BNG206: training steps run the model in inference mode."""

from __future__ import annotations

from typing import Iterable, Optional

from keras_bnguard.records import Inventory, RunFacts, RunMode, Severity, SkipReason
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.predicates import (
    no_step_observed,
    norms_of,
    sites_of,
    unexplained_unchanged,
)
from keras_bnguard.rules.text import count, some


class TrainStepRunsInference(Rule):
    """A training step calls the model without `training=True`, so BN never updates.

    What it checks:
        BN that are meant to train, after at least one training step.

    Why it matters:
        Outside `fit`'s own step `model(x)` means inference. Gamma, beta and the kernels
        train against the starting statistics, which are never updated; with fresh layers that is
        mean 0 and variance 1, and BN does nothing at all.

    How it decides:
        steps >= 1; moving mean and variance equal their values at the start of training, bit
        for bit; a step was observed and the BN ran in inference mode, though neither its flags nor
        its call sites ask for that; gamma or beta changed, or were not read. Certain.

    Example:
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x)                 # inference mode

    Fix:
        Call `self(x, training=True)` in the training step.

    Known limits:
        Needs one observed step; where nothing was watched, BNG405 reports the fact without
        the cause. Silent for momentum 1.0, for BN that is frozen or in forced inference
        mode, and where every call passes `training=False`. BNG203 and BNG205 report the causes
        they know.

    Source:
        Measured on Keras 2.15, tf_keras 2.21 and Keras 3; tensorflow issues 32864, 28028 and
        31184, keras-hub issue 1500.
    """

    code = "BNG206"
    name = "train-step-runs-inference"
    severity = Severity.ERROR
    evaluated_at = ON_CHANGE
    consequence_of = ("BNG203", "BNG101")
    needs_calls = True

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        violation = [
            statistics_change
            for statistics_change in unexplained_unchanged(inventory, run)
            if statistics_change.ran is RunMode.INFERENCE
            and statistics_change.affine_changed is not False
        ]
        if not violation:
            return
        paths = tuple(statistics_change.path for statistics_change in violation)
        affine = sum(statistics_change.affine_changed is True for statistics_change in violation)
        norms = norms_of(inventory)
        lost = [
            statistics_change.path
            for statistics_change in violation
            if any(
                site.surrounding is True for site in sites_of(run, norms[statistics_change.path])
            )
        ]
        if lost:
            cause = (
                f"training=True was in force around {len(lost)} of them and "
                f"{inventory.stack} did not propagate it: `call` has to pass it."
            )
            fix = (
                "let `call` take `training=None` and pass it on to the layers inside, "
                "`self.bn(x, training=training)`"
            )
        else:
            cause = (
                f"In {inventory.stack} a call without training=True in a train_step is inference."
            )
            fix = "pass training=True to the call of the model in the training step, and only there"
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'trainable BN layer')} in inference mode during training: "
                f"{some(paths)}. After {count(run.steps, 'step')} mean and variance are "
                f"bit-identical; gamma or beta changed in {affine} of {len(violation)}. {cause}"
            ),
            fix=fix,
            evidence={"steps": run.steps, "affine_changed": affine},
        )

    def skip_reason(self, run: RunFacts) -> Optional[SkipReason]:
        return no_step_observed(run)
