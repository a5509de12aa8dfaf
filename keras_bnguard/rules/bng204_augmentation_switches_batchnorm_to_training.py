"""BNG204: an augmentation layer in the model puts BN into training mode."""

from __future__ import annotations

from typing import Iterable, List, Optional, Tuple

from keras_bnguard.records import Inventory, NormLayer, RunFacts, Severity, SkipReason
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import no_step_observed, sites_of
from keras_bnguard.rules.text import count, some


class AugmentationSwitchesBatchnormToTraining(Rule):
    """A layer whose `call` defaults to `training=True` switches the BN after it to training.

    What it checks:
        Layers such as RandomFlip or Resizing in the model, and the trainable BN that run after
        them.

    Why it matters:
        A plain `model(x)` should run in inference mode. With such a layer in front, BN
        uses batch statistics and updates its own: inference changes the model, and an
        exported model carries the updates. `fit`, `evaluate` and `predict` are safe, for they
        pass a value.

    How it decides:
        The default is read from the signature of `call`, the order from the graph or, in a
        subclassed model, from an observed step. Whether the default leaks is asked of the
        running Keras by a self-test.

    Example:
        x = keras.layers.RandomFlip()(inputs)
        x = backbone(x)
        ...
        features = model(images)                 # updates the backbone's statistics

    Fix:
        Pass `training=False` to every plain call, or augment in the data pipeline.

    Known limits:
        Not certain: a model that is only used through `fit`, `evaluate` and `predict` is not
        hurt. Silent on a Keras without the leak, for BN that is frozen or in forced inference
        mode, and for BN with an explicit `training` in the graph. A subclassed model needs one
        observed step.

    Source:
        Measured on Keras 3.3.3, 3.12.4 and 3.15.1; keras pull request 23166, keras-hub pull
        request 2776.
    """

    code = "BNG204"
    name = "augmentation-switches-batchnorm-to-training"
    severity = Severity.WARNING
    certain = False

    def check(self, inventory: Inventory, run: Optional[RunFacts] = None) -> Iterable[Violation]:
        if not inventory.stack.behaviour.default_leaks:
            return
        violation: List[NormLayer] = []
        training_defaults: List[str] = []
        for norm in inventory.norms:
            found = _defaults_before(norm, inventory, run)
            if found and not norm.frozen and not norm.forced_inference:
                violation.append(norm)
                training_defaults += found
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        names = tuple(dict.fromkeys(training_defaults))
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'trainable BN layer')} after {some(names)}, whose call "
                f"defaults to training=True: {some(paths)}. With {inventory.stack} a plain "
                "model(x) then runs them in training mode and updates their statistics."
            ),
            fix=(
                "pass training=False or training=True whenever you call the model yourself, or "
                "augment in the data pipeline and take these layers out of the model"
            ),
            evidence={"training_defaults": names, "stack": str(inventory.stack)},
        )

    def skip_reason(
        self, inventory: Inventory, run: Optional[RunFacts] = None
    ) -> Optional[SkipReason]:
        if inventory.functional or not inventory.stack.behaviour.default_leaks:
            return None
        return no_step_observed(run)


def _defaults_before(
    norm: NormLayer, inventory: Inventory, run: Optional[RunFacts]
) -> Tuple[str, ...]:
    """Paths of the layers that switch this BN; empty where none does."""
    found = [s.switched_by for s in sites_of(run, norm) if s.switched_by is not None]
    explicit = any(call.training is not None for call in norm.calls)
    if inventory.functional and norm.calls and not explicit:
        last = max(call.order for call in norm.calls)
        found += [layer.path for layer in inventory.training_defaults if layer.order < last]
    return tuple(dict.fromkeys(found))
