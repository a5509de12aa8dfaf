"""BNG105: a frozen BN that uses batch statistics or updates its own."""

from __future__ import annotations

from enum import Flag, auto
from typing import Iterable, List

from keras_bnguard.records import Inventory, NormKind, NormLayer, RunFacts, Severity
from keras_bnguard.rules.base import ON_CHANGE, Repair, RepairAction, Rule, Violation
from keras_bnguard.rules.predicates import called_with_false, sites_of
from keras_bnguard.rules.text import before_line, count, force_code, reach, some, wrappers_of


class FrozenBatchnormUsesBatchStatistics(Rule):
    """A frozen BN uses the statistics of the batch, or goes on updating its own.

    What it checks:
        Frozen BN that are not Keras's own current layer: the old layer (V1), subclasses, and
        torch modules inside a TorchModuleWrapper.

    Why it matters:
        Since Keras 2.4 frozen means inference mode. These layers do not keep that promise:
        the frozen part gives other outputs in training than in `predict`, so the head learns
        from features that it never sees again.

    How it decides:
        A fresh, frozen layer of the same class is called with `training=True` on two small
        batches. It must give the outputs of inference mode and leave its moving statistics
        alone, bit for bit. Outputs count, not only statistics: a V1 layer keeps its
        statistics still. Keras never hands a wrapper's flag on to its torch modules; of those
        it is read whether a step puts them in training mode. Certain.

    Example:
        layer = tf.compat.v1.keras.layers.BatchNormalization(trainable=False)

    Fix:
        Use `keras.layers.BatchNormalization`; for a torch module, switch its BN to `eval()`
        and keep `train()` from undoing that.

    Known limits:
        Silent for Keras's own layer, for BN in forced inference mode, for classes that could not
        be tried, for torch modules that `train()` leaves in eval mode, and where every call
        passes `training=False` and that arrives.

    Source:
        Measured on tf.keras 2.15 and Keras 3.15.1 with torch; keras issues 9214 and 18403,
        keras pull request 9965, pytorch issue 86590.
    """

    code = "BNG105"
    name = "frozen-batchnorm-uses-batch-statistics"
    severity = Severity.ERROR
    evaluated_at = ON_CHANGE
    repair = Repair(RepairAction.FORCE_INFERENCE, "forced into inference mode for this fit")

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        violation = [
            norm
            for norm in inventory.norms
            if norm.frozen
            and not norm.forced_inference
            and _fault(norm)
            and not _called_in_inference(norm, inventory, run)
        ]
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        classes = tuple(
            dict.fromkeys(f"{norm.class_name} ({_describe(_fault(norm))})" for norm in violation)
        )
        torch = [norm for norm in violation if norm.kind is NormKind.TORCH]
        fixes = [f"force inference mode, {before_line(inventory)}:\n{force_code(inventory)}"]
        if torch:
            fixes.append(_torch_fix(inventory, torch))
        if len(torch) < len(violation):
            fixes.append(KERAS_FIX)
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'frozen BN layer')} not in inference mode: {some(paths)}. "
                f"Training with {inventory.stack}: {some(classes)}."
            ),
            fix="\n".join(fixes),
            evidence={
                "uses_batch": tuple(n.path for n in violation if Fault.USES_BATCH in _fault(n)),
                "updates": tuple(n.path for n in violation if Fault.UPDATES in _fault(n)),
            },
        )


KERAS_FIX = (
    "or build the model with keras.layers.BatchNormalization, which obeys its flag, and copy the "
    "weights over"
)


class Fault(Flag):
    """What a frozen BN does wrong in training."""

    NONE = 0
    USES_BATCH = auto()
    UPDATES = auto()


WORDS = {
    Fault.USES_BATCH: "uses batch statistics",
    Fault.UPDATES: "updates its moving statistics",
}


def _fault(norm: NormLayer) -> Fault:
    behaviour = norm.behaviour
    if behaviour is None and norm.kind is not NormKind.TORCH:
        return Fault.NONE
    fault = Fault.NONE
    if behaviour is None or behaviour.frozen_uses_batch:
        fault |= Fault.USES_BATCH
    if (behaviour is None or behaviour.frozen_updates) and norm.momentum != 1.0:
        fault |= Fault.UPDATES
    return fault


def _describe(fault: Fault) -> str:
    return " and ".join(words for part, words in WORDS.items() if part in fault)


def _called_in_inference(norm: NormLayer, inventory: Inventory, run: RunFacts) -> bool:
    """Inference mode comes from `training=False` at every call, and it arrives."""
    if called_with_false(norm) and inventory.stack.behaviour.graph_false_honoured:
        return True
    sites = sites_of(run, norm)
    return bool(sites) and all(site.arrived is False for site in sites)


def _torch_fix(inventory: Inventory, norms: List[NormLayer]) -> str:
    model = inventory.user_code.model
    wrappers = "".join(f"{model}{reach(path)[len('model') :]}, " for path in wrappers_of(norms))
    return (
        f"or switch the torch modules to eval and keep them there, {before_line(inventory)}:\n"
        "    import torch\n"
        "    kinds = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)\n"
        f"    for wrapper in ({wrappers.rstrip()}):\n"
        "        for module in wrapper.module.modules():\n"
        "            if isinstance(module, kinds):\n"
        "                module.eval()\n"
        "                module.train = lambda mode=True, module=module: module"
    )
