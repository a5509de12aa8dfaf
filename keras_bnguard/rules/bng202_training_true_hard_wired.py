"""BNG202: BN use batch statistics in inference, by `training=True` in a graph or a `call`."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional

from keras_bnguard.records import (
    InferencePass,
    Inventory,
    RunFacts,
    Severity,
    Trigger,
    WrittenTrue,
)
from keras_bnguard.rules.base import ON_SNAPSHOT, Rule, Violation
from keras_bnguard.rules.text import count, line_of_call, some


class TrainingTrueHardWired(Rule):
    """A call has `training=True`, so BN uses batch statistics in `predict` as well.

    What it checks:
        Every call of a BN, or of a model around it, in a functional graph that was written
        with `training=True`. And how every BN is called in the first validation pass of `fit`;
        in the first `evaluate` and `predict` too where warnings are automatic.

    Why it matters:
        `predict` and `evaluate` then use batch statistics: a row alone gets another result than
        the same row among others.

    How it decides:
        The written argument is read from the graph's nodes. Whether it holds in `predict` is
        asked of the running Keras by a self-test: Keras 3.0 to 3.15.1 override it. In a pass,
        the `training` that reaches a BN decides, whatever layer or step passed it.

    Example:
        x = backbone(inputs, training=True)      # meant for the Dropout in it

    Fix:
        Remove the argument; for Monte-Carlo dropout give `training=True` to the Dropout
        layers only.

    Known limits:
        Certain as a fact, not as a fault: pix2pix-like generators want it; ignore the rule for
        them. Silent where only stochastic layers get `training=True`, for frozen BN, which
        stay in inference mode, and on a Keras that overrides the argument. A pass that was
        compiled before is not seen.

    Source:
        Measured on Keras 2.15, tf_keras 2.21 and Keras 3; tensorflow issues 29478 and 16455,
        keras-resnet pull request 47.
    """

    code = "BNG202"
    name = "training-true-hard-wired"
    severity = Severity.WARNING
    certain = False
    evaluated_at = ON_SNAPSHOT | {Trigger.INFERENCE}

    def check(self, inventory: Inventory, run: Optional[RunFacts] = None) -> Iterable[Violation]:
        written = list(_written_in_graphs(inventory))
        if written:
            return written
        return [] if run is None or run.inference is None else _seen_in(run.inference)


def _written_in_graphs(inventory: Inventory) -> Iterable[Violation]:
    if not inventory.stack.behaviour.graph_true_at_inference:
        return
    violation = [
        norm
        for norm in inventory.norms
        if not norm.frozen and any(call.training is True for call in norm.calls)
    ]
    if not violation:
        return
    paths = tuple(norm.path for norm in violation)
    owners = tuple(dict.fromkeys(c.owner for n in violation for c in n.calls if c.training is True))
    yield Violation(
        layers=paths,
        message=(
            f"{count(len(violation), 'BN layer')} called with training=True at {some(owners)}: "
            f"{some(paths)}. {inventory.stack} uses it in predict and evaluate too: "
            "outputs depend on the batch, and the moving statistics are updated."
        ),
        fix=(
            "build the model again and leave training=True out of that call; for Monte-Carlo "
            "dropout, give it to the Dropout layers only"
        ),
        evidence={"calls": owners, "stack": str(inventory.stack)},
        source=line_of_call(violation, True),
    )


def _seen_in(seen: InferencePass) -> List[Violation]:
    if not seen.in_training:
        return []
    paths = tuple(seen.in_training)
    found: Dict[WrittenTrue, None] = dict.fromkeys(seen.in_training.values())
    causes = tuple(filter(None, map(_cause, found)))
    sources = [each.source for each in found if each.source is not None]
    because = f" {'; '.join(causes)}." if causes else ""
    return [
        Violation(
            layers=paths,
            message=(
                f"{count(len(paths), 'BN layer')} used batch statistics {seen.moment.phrase}: "
                f"{some(paths)}.{because} The output of a row depends on the other rows of its "
                "batch."
            ),
            fix="; ".join(dict.fromkeys(map(_fix, found))),
            evidence={"seen": seen.moment.phrase, "causes": causes},
            source=sources[0] if len(sources) == 1 else None,
        )
    ]


def _cause(written: WrittenTrue) -> str:
    if written.class_name:
        return f"The call of {written.class_name} passes training=True"
    if written.in_step:
        return "The step calls the model with training=True"
    if written.default_of is not None:
        return f"The default training=True of {written.default_of} reached them"
    return ""


def _fix(written: WrittenTrue) -> str:
    if written.class_name:
        return (
            f"let the call of {written.class_name} take `training` and pass training=training to "
            "BN; for Monte-Carlo dropout, give training=True to the Dropout layers only"
        )
    if written.default_of is not None:
        return (
            "let the `call` of the model take `training` and pass training=training to every layer"
        )
    return "call the model with training=False in test_step and predict_step"
