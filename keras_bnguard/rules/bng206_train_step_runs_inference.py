"""BNG206: training steps run the model in inference mode."""

from __future__ import annotations

from typing import Iterable, List, Optional, Tuple

from keras_bnguard.records import (
    FlagTiming,
    Inventory,
    MomentKind,
    RunFacts,
    RunMode,
    Severity,
    SkipKind,
    SkipReason,
    StatisticsChange,
)
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.predicates import (
    no_step_observed,
    no_step_yet,
    norms_of,
    sites_of,
    unexplained_unchanged,
)
from keras_bnguard.rules.text import count, indent, some

SEVERAL_STEPS = 4


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
        In a custom training loop whose calls cannot be observed: after 4 steps, or when the
        loop ends, mean 0 and variance 1 as at the start while gamma or beta changed.

    Example:
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x)                 # inference mode

    Fix:
        Call `self(x, training=True)` in the training step.

    Known limits:
        Needs one observed step, or a new BN in a loop; where nothing was watched, BNG405 reports
        the fact without the cause. Silent in a loop that may run trained BN in inference mode on
        purpose. Silent for momentum 1.0, for BN that is frozen or in forced inference
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

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        unchanged = unexplained_unchanged(inventory, run)
        if run.calls_observable:
            violation = [
                change
                for change in unchanged
                if change.ran is RunMode.INFERENCE and change.affine_changed is not False
            ]
        else:
            violation = _never_left_default(unchanged, run)
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
        elif not run.calls_observable:
            cause, fix = _in_a_loop(inventory)
        elif inventory.call_without_training is not None:
            cause, fix = _without_argument(inventory, *inventory.call_without_training)
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

    def skip_reason(self, inventory: Inventory, run: RunFacts) -> Optional[SkipReason]:
        if run.calls_observable:
            return no_step_observed(run)
        if run.steps > 0 and any(
            not c.started_at_default for c in unexplained_unchanged(inventory, run)
        ):
            return SkipReason(
                SkipKind.CALLS_NOT_OBSERVABLE, "how each BN was called could not be seen"
            )
        return no_step_yet(run)


def _never_left_default(unchanged: List[StatisticsChange], run: RunFacts) -> List[StatisticsChange]:
    """BN of a loop whose calls nobody saw that are still at mean 0 and variance 1 while the
    weights around them train. Nobody runs a new BN in inference mode on purpose."""
    if run.steps < SEVERAL_STEPS and run.moment.kind is not MomentKind.LOOP_END:
        return []
    found = [
        change
        for change in unchanged
        if change.started_at_default
        and change.affine_changed is not False
        and change.path not in run.trained_elsewhere
    ]
    return found if any(change.affine_changed for change in found) else []


def _in_a_loop(inventory: Inventory) -> Tuple[str, str]:
    if (
        inventory.stack.flags is FlagTiming.POSITIONAL
    ):  # The values of a loop are outside the model.
        return (
            f"In {inventory.stack} `stateless_call` without training=True is inference, and the "
            "statistics that it returns have to be kept.",
            "pass training=True in the loss of the loop, and keep the state that comes back:\n"
            "    y_pred, non_trainable = model.stateless_call(\n"
            "        trainable, non_trainable, x, training=True\n"
            "    )\n"
            "then write it back with the weights:\n"
            "    for variable, value in zip(model.non_trainable_variables, non_trainable):\n"
            "        variable.assign(value)",
        )
    return (
        f"In {inventory.stack} `model(x)` outside fit is inference.",
        "pass training=True where the loop computes its loss, and only there:\n"
        "    y_pred = model(x, training=True)",
    )


def _without_argument(inventory: Inventory, name: str, code: str) -> Tuple[str, str]:
    cause = (
        f"`call` of {name} takes no `training`, so {inventory.stack} gives it none in fit: every "
        "BN and Dropout in it is in inference mode."
    )
    if inventory.stack.flags is FlagTiming.POSITIONAL:  # Its step enters `call` directly.
        return cause, (
            f"add the argument to `call` of {name} and pass it to each layer inside:\n"
            "    def call(self, x, training=None):\n"
            "        return self.out(self.net(x, training=training))"
        )
    return cause, (
        f"add the argument to `call` of {name}; Keras hands it on to the layers inside:\n"
        + indent(code)
    )
