"""BNG103: all layers of a sub-model are frozen but its pretrained BN."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from keras_bnguard.records import (
    DataFacts,
    Inventory,
    LayerFlag,
    NormKind,
    NormLayer,
    RunFacts,
    Severity,
)
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.predicates import (
    called_with_false,
    calls_are_known,
    does_not_fit,
    inputs_by_path,
    passed_false,
)
from keras_bnguard.rules.text import before_line, by_container, count, freeze_code, some
from keras_bnguard.rules.thresholds import MIN_ROWS

FROZEN_SHARE = 0.9
FROZEN_LAYERS = 2


class TrainableBatchnormAmongFrozenLayers(Rule):
    """Nearly all layers of a sub-model are frozen, but its BN with trained statistics trains.

    What it checks:
        BN with statistics that are not at their start values, in a model or sub-model whose
        other layers are frozen.

    Why it matters:
        Code that freezes everything except BN was a cure for Keras before 2.4. Since then it
        leaves BN in training mode: the features of a frozen encoder depend on the batch, and
        its moving statistics are overwritten.

    How it decides:
        In one sub-model, over the layers that own weights, are no BN, and lie before or
        beside the last BN with trained statistics: frozen / all >= 0.9, and at least 2 are
        frozen. Where that fails, the same over the layers up to the last frozen one, if a BN lies
        between them. A BN counts when the nearest such layer before it is frozen as well. In a
        subclassed model the rule waits for the first step, which shows how `call` uses each BN.

    Example:
        for layer in backbone.layers:
            if not isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False

    Fix:
        Freeze the BN too and compile again. If BN alone should adapt to new data, ignore
        the rule for these layers, and use batches of 16 or more.

    Known limits:
        Not certain: training BN alone is a known way to adapt to another domain. Info where 64
        rows of data or more show that most of these BN would not fit them (BNG504). Silent for a
        head's own BN, for BN at their start values, for statistics that only training of this
        model made, and for BN in forced inference mode or called with
        `training=False`. Layers inside deeper sub-models are counted there, not here.

    Source:
        segmentation_models issues 434 and 157, Lightning issues 13902 and 21531.
    """

    code = "BNG103"
    name = "trainable-batchnorm-among-frozen-layers"
    severity = Severity.WARNING
    certain = False

    evaluated_at = ON_CHANGE

    def check(
        self,
        inventory: Inventory,
        run: Optional[RunFacts] = None,
        data: Optional[DataFacts] = None,
    ) -> Iterable[Violation]:
        violation: List[NormLayer] = []
        counts: Dict[str, Tuple[int, int]] = {}
        for container, norms in by_container(inventory.norms).items():
            trained = [norm for norm in norms if norm.pretrained]
            training, others = _among_frozen(inventory, container, trained)
            training = [
                norm
                for norm in training
                if calls_are_known(norm, inventory, run) and not passed_false(norm, run)
            ]
            if training:
                violation += training
                counts[container] = (sum(not each.trainable for each in others), len(others))
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        remedy = _known_remedy(data, violation)
        shares = [
            f"{frozen} of {total} other layers with weights ({100 * frozen / total:.0f} %) "
            f"in {container or 'the model'}"
            for container, (frozen, total) in counts.items()
        ]
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'trainable BN layer')} among frozen layers: "
                f"{some(paths)}. Frozen: {some(shares)}. {inventory.stack} uses batch statistics "
                f"there and updates the pretrained moving statistics at every step.{remedy}"
            ),
            severity=Severity.INFO if remedy else None,
            fix=(
                f"freeze these BN too and compile again, {before_line(inventory)}:\n"
                f"{freeze_code(inventory, violation)}"
            ),
            evidence={"frozen_of_weighted": counts, "threshold": FROZEN_SHARE},
        )


def _among_frozen(
    inventory: Inventory, container: str, trained: Sequence[NormLayer]
) -> Tuple[List[NormLayer], List[LayerFlag]]:
    """The trained BN of a sub-model that train among frozen layers, and the layers counted.

    They are those up to the last trained BN. Where these do not show it, as where the decoder
    behind a frozen encoder was trained before, those up to the last frozen one.
    """
    if not trained:
        return [], []
    others = _weighted(inventory, container, max(norm.position for norm in trained))
    if _is_frozen(others):
        return [n for n in trained if _trains(n) and _follows_frozen(n, others)], others
    last = max((each.position for each in others if not each.trainable), default=-1)
    front = [each for each in others if each.position <= last]
    if not _is_frozen(front):
        return [], []
    training = [n for n in trained if _trains(n) and _follows_frozen(n, others)]
    # A BN right behind the last frozen layer may be where the user made the cut.
    return (training if any(n.position < last for n in training) else []), front


def _is_frozen(layers: Sequence[LayerFlag]) -> bool:
    frozen = sum(not layer.trainable for layer in layers)
    return frozen >= FROZEN_LAYERS and frozen >= FROZEN_SHARE * len(layers)


def _known_remedy(data: Optional[DataFacts], norms: Sequence[NormLayer]) -> str:
    """Why training BN alone may be right, as a sentence to append; empty where it is not."""
    inputs = inputs_by_path(data)
    seen = [inputs[norm.path] for norm in norms if norm.path in inputs]
    off = [item for item in seen if does_not_fit(item)]
    if data is None or data.rows < MIN_ROWS or 2 * len(off) <= len(seen):
        return ""
    return (
        f" Your data show why: {len(off)} of {len(seen)} would not describe them if they were "
        "frozen, so training BN alone is a known remedy here."
    )


def _weighted(inventory: Inventory, container: str, last: int) -> List[LayerFlag]:
    found = [
        layer
        for layer in inventory.layers
        if layer.container == container
        and layer.weighted
        and not layer.is_norm
        and layer.position <= last
    ]
    return sorted(found, key=lambda layer: layer.position)


def _trains(norm: NormLayer) -> bool:
    return (
        norm.kind is NormKind.KERAS
        and not norm.frozen
        and not norm.forced_inference
        and not called_with_false(norm)
    )


def _follows_frozen(norm: NormLayer, layers: Sequence[LayerFlag]) -> bool:
    nearest: Optional[LayerFlag] = None
    for layer in layers:
        if layer.position < norm.position:
            nearest = layer
    return nearest is not None and not nearest.trainable
