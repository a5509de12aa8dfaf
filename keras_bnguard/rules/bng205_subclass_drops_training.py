"""BNG205: a BN subclass that does not hand `training` on never updates."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, RunFacts, Severity
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.predicates import drops_training, expects_inference
from keras_bnguard.rules.text import count, some


class SubclassDropsTraining(Rule):
    """A subclass of BatchNormalization does not hand `training` on to Keras's own layer.

    What it checks:
        BN classes that are not Keras's own, while they are meant to train.

    Why it matters:
        Keras's `call` then sees no value and runs in inference mode. Gamma and beta train,
        the moving statistics stay where they started, and `fit` gives no warning.

    How it decides:
        A fresh, trainable layer of the class is called with `training=True` on two small
        batches; its moving statistics stay the same, bit for bit. The name of the argument
        does not matter. Statistics that changed in the present run overrule this. Certain.

    Example:
        class MyBN(keras.layers.BatchNormalization):
            def call(self, x):
                return super().call(x)

    Fix:
        Take `training` and hand it on, or delete the subclass: since Keras 2.4 the layer
        itself does what most such classes were written for.

    Known limits:
        Silent for BN that is frozen or in forced inference mode, for momentum 1.0, and for
        classes that could not be tried alone.

    Source:
        Measured on Keras 2.15, tf_keras 2.21 and Keras 3.15.1; yolov3-tf2 pull request 188,
        tensorflow-yolov4-tflite issue 265, keras-tcn pull request 67.
    """

    code = "BNG205"
    name = "subclass-drops-training"
    severity = Severity.ERROR
    evaluated_at = ON_CHANGE

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        changed = {
            statistics_change.path
            for statistics_change in run.statistics_changes
            if statistics_change.changed
        }
        violation = [
            norm
            for norm in inventory.norms
            if drops_training(norm)
            and not expects_inference(norm)
            and not (norm.momentum is not None and norm.momentum >= 1.0)
            and norm.path not in changed
        ]
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        classes = tuple(dict.fromkeys(norm.class_name for norm in violation))
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} of {some(classes)} never updates its moving "
                f"statistics: {some(paths)}. Called with training=True by {inventory.stack}, a "
                "fresh layer of that class left mean and variance as they were."
            ),
            fix=(
                f"let `call` of {some(classes)} take `training=None` and pass it on, "
                "`super().call(inputs, training=training)`, or use keras.layers.BatchNormalization "
                "itself"
            ),
            evidence={"classes": classes},
        )
