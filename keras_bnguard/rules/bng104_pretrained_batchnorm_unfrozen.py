"""BNG104: BN with trained statistics was frozen in the phase before and trains now."""

from __future__ import annotations

import math
from typing import Iterable, List, Optional

from keras_bnguard.records import (
    Inventory,
    NormKind,
    NormLayer,
    OptimizerFacts,
    RunFacts,
    Severity,
    SkipReason,
)
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.predicates import (
    calls_are_known,
    expects_inference,
    never_updates,
    no_step_observed,
    nothing_before,
    passed_false,
    step_is_in_doubt,
)
from keras_bnguard.rules.text import before_line, count, freeze_code, some


class PretrainedBatchnormUnfrozen(Rule):
    """BN with trained statistics was frozen in the phase before and trains in this one.

    What it checks:
        Every BN that ran in inference mode with trained statistics in the `fit` before this
        one, against what it does now.

    Why it matters:
        `backbone.trainable = True` for fine-tuning unfreezes the BN as well. From the first step
        on they use batch statistics, on which the layers after them were never trained, and
        their statistics, an average over the whole pretraining, are replaced by those of a
        few batches. The usual advice is to leave BN in inference mode while fine-tuning.

    How it decides:
        The guard notes how every BN of a model is meant to run in each `fit` of this process. In a
        subclassed model it waits for the first step, which shows how `call` uses each BN.
        A BN counts whose statistics were not at their start values, which was frozen, forced into
        inference mode or called with `training=False` before, and is none of these now.

    Example:
        backbone.trainable = False
        model.compile("adam", "mse")
        model.fit(x, y, callbacks=[guard])       # the head
        backbone.trainable = True                # the BN with it
        model.compile(keras.optimizers.Adam(1e-5), "mse")
        model.fit(x, y, callbacks=[guard])

    Fix:
        Unfreeze the other layers and leave the BN frozen, or let `PhaseScheduler` run both phases:
        it forces pretrained BN into inference mode unless a phase trains it.

    Known limits:
        Not certain: with batches of 32 or more and much data, training BN can be right; ignore
        the rule then. Silent where only gamma and beta train, where every call of a BN passes
        `training=False`, where the class of a BN never updates, in phases of a `PhaseScheduler`,
        which define what BN does, where the fit before had no guard or another model object, and
        where BNG101 or BNG601 reports that the step is not built for these flags.

    Source:
        The transfer learning guide of Keras; keras issues 7177 and 9965, keras-io issue 653.
    """

    code = "BNG104"
    name = "pretrained-batchnorm-unfrozen"
    severity = Severity.WARNING
    certain = False
    evaluated_at = ON_CHANGE

    def check(
        self, inventory: Inventory, run: RunFacts, optimizer: Optional[OptimizerFacts] = None
    ) -> Iterable[Violation]:
        if run.before is None or run.phase is not None:
            return
        if step_is_in_doubt(run, optimizer):
            return
        before = {norm.path: norm for norm in run.before.inventory.norms}
        violation = [
            norm
            for norm in inventory.norms
            if _unfrozen(norm, before.get(norm.path))
            and calls_are_known(norm, inventory, run)
            and not passed_false(norm, run)
        ]
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        momenta = sorted({norm.momentum for norm in violation if norm.momentum is not None})
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} with trained statistics, frozen in the fit "
                f"before ({count(run.before.steps, 'step')}), trains in this one: "
                f"{some(paths)}. {inventory.stack} uses batch statistics there and updates their "
                f"moving statistics{_half_gone(momenta)}."
            ),
            fix=(
                f"freeze these BN again and compile, {before_line(inventory)}:\n"
                f"{freeze_code(inventory, violation)}\n"
                "or run both phases in one fit by bng.PhaseScheduler.fine_tune, which keeps "
                "pretrained BN in inference mode"
            ),
            evidence={
                "momentum": {norm.path: norm.momentum for norm in violation},
                "steps_before": run.before.steps,
            },
        )

    def skip_reason(self, inventory: Inventory, run: RunFacts) -> Optional[SkipReason]:
        why = nothing_before(run)
        if why is None and not inventory.functional and run.steps == 0:
            return no_step_observed(run)
        return why


def _unfrozen(norm: NormLayer, before: Optional[NormLayer]) -> bool:
    return (
        before is not None
        and norm.kind is NormKind.KERAS
        and norm.pretrained
        and before.at_default is False
        and expects_inference(before)
        and not expects_inference(norm)
        and not never_updates(norm)
    )


def _half_gone(momenta: List[float]) -> str:
    known = [momentum for momentum in momenta if 0 < momentum < 1]
    if not known:
        return ""
    steps = math.ceil(math.log(0.5) / math.log(known[-1]))
    return f"; at momentum {known[-1]:g}, half of what was learnt is gone after {steps} steps"
