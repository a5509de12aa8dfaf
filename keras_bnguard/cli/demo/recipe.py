"""The official transfer-learning recipe on digits, once per seed and variant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Sequence, Tuple

import numpy as np

from keras_bnguard.cli.demo.digits import Digits, load_digits
from keras_bnguard.guard.callback import BNGuard
from keras_bnguard.records import Finding

AS_IS, FIXED, HEAD_ONLY = "as it is", "BNGuard(fix=True)", "head only"
VARIANTS = (AS_IS, FIXED, HEAD_ONLY)


@dataclass(frozen=True)
class Setting:
    """How long and on how much data; the defaults are those of `bnguard demo`.

    Attributes:
        source_epochs: epochs of pretraining on digits 0 to 4.
        head_epochs: epochs of the head on the frozen backbone.
        tune_epochs: epochs of fine-tuning.
        labelled: rows of digits 5 to 9 to train on.
        held_out: rows of digits 5 to 9 to measure on.
        source_batch: batch size of the pretraining.
        batch: batch size on digits 5 to 9.
        source_learning_rate: of Adam in the pretraining.
        head_learning_rate: of Adam for the head.
        tune_learning_rate: of Adam in fine-tuning.
    """

    source_epochs: int = 30
    head_epochs: int = 20
    tune_epochs: int = 5
    labelled: int = 120
    held_out: int = 500
    source_batch: int = 32
    batch: int = 8
    source_learning_rate: float = 2e-3
    head_learning_rate: float = 1e-2
    tune_learning_rate: float = 1e-4


@dataclass(frozen=True)
class Run:
    """One seed of one variant.

    Attributes:
        variant: one of `VARIANTS`.
        seed: of the split, the weights and the batches.
        accuracy: on the held-out target rows after every epoch, head phase first.
        head_epochs: how many of these epochs are the head phase.
        drift: mean shift of each BN over the fine-tuning as the guard measured it, by path, in
            standard deviations.
        unchanged: all moving statistics are bit-identical to those after the head phase.
        findings: of the head phase and of fine-tuning.
    """

    variant: str
    seed: int
    accuracy: Tuple[float, ...]
    head_epochs: int
    drift: Mapping[str, float]
    unchanged: bool
    findings: Tuple[Finding, ...]

    @property
    def after_head(self) -> float:
        return self.accuracy[self.head_epochs - 1]

    @property
    def after_tuning(self) -> float:
        return self.accuracy[-1]


def run_seed(
    keras: Any, seed: int, setting: Setting, progress: Callable[[str], Any] = lambda what: None
) -> List[Run]:
    """Pretrain, train the head, then fine-tune once per variant from the same weights.

    Args:
        keras: the Keras module.
        seed: of the split, the weights and the batches.
        setting: how long and on how much data.
        progress: called with a few words before each part.

    Returns:
        One `Run` per variant, in the order of `VARIANTS`.
    """
    digits = load_digits(seed, setting.labelled, setting.held_out)
    progress(f"seed {seed}: pretrain on digits 0-4")
    pretrained = pretrain(keras, digits, setting, seed)
    progress(f"seed {seed}: train the head on digits 5-9")
    keras.utils.set_random_seed(seed)
    model, base = build(keras, pretrained)
    base.trainable = False
    guard, found = _guard(fix=False)
    head = _fit(
        keras, model, digits, setting, setting.head_learning_rate, setting.head_epochs, guard
    )
    after_head = model.get_weights()
    runs = []
    for variant in VARIANTS:
        progress(f"seed {seed}: fine-tune, {variant}")
        keras.utils.set_random_seed(seed)
        model, base = build(keras, pretrained)
        model.set_weights(after_head)
        base.trainable = variant != HEAD_ONLY
        guard, tuning_found = _guard(fix=variant == FIXED)
        before = statistics(keras, base)
        tuned = _fit(
            keras, model, digits, setting, setting.tune_learning_rate, setting.tune_epochs, guard
        )
        after = statistics(keras, base)
        runs.append(
            Run(
                variant=variant,
                seed=seed,
                accuracy=(*head, *tuned),
                head_epochs=setting.head_epochs,
                drift=dict(guard.report.drift[-1].mean_shift),
                unchanged=all(np.array_equal(a, b) for a, b in zip(before, after)),
                findings=(*found, *tuning_found),
            )
        )
        keras.backend.clear_session()
    return runs


def backbone(keras: Any) -> Any:
    """Five convolutions, each with BN and ReLU; input `(8, 8, 1)`."""
    layers = keras.layers
    inputs = x = keras.Input((8, 8, 1))
    for number, (filters, stride) in enumerate(
        ((16, 1), (32, 1), (64, 2), (64, 1), (128, 2)), start=1
    ):
        x = layers.Conv2D(
            filters, 3, strides=stride, padding="same", use_bias=False, name=f"conv{number}"
        )(x)
        x = layers.BatchNormalization(name=f"bn{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(inputs, x, name="backbone")


def pretrain(keras: Any, digits: Digits, setting: Setting, seed: int) -> Sequence[np.ndarray]:
    """The backbone's weights after training on the source task."""
    keras.utils.set_random_seed(seed)
    base = backbone(keras)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.GlobalAveragePooling2D()(base(inputs))
    model = keras.Model(inputs, keras.layers.Dense(5)(x))
    _compile(keras, model, setting.source_learning_rate)
    model.fit(
        *digits.source, batch_size=setting.source_batch, epochs=setting.source_epochs, verbose=0
    )
    weights: Sequence[np.ndarray] = base.get_weights()
    keras.backend.clear_session()
    return weights


def build(keras: Any, pretrained: Sequence[np.ndarray]) -> Tuple[Any, Any]:
    """(model, its backbone) of the recipe: the backbone is called with training=False."""
    base = backbone(keras)
    base.set_weights(pretrained)
    inputs = keras.Input((8, 8, 1))
    x = base(inputs, training=False)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(x), name="digits"), base


def statistics(keras: Any, base: Any) -> List[np.ndarray]:
    """Copies of the moving mean and variance of every BN."""
    return [
        np.array(vector)
        for layer in base.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for vector in layer.get_weights()[2:]
    ]


def _guard(fix: bool) -> Tuple[Any, List[Finding]]:
    found: List[Finding] = []
    return BNGuard(on_finding=found.append, fix=fix), found


def _compile(keras: Any, model: Any, learning_rate: float) -> None:
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def _fit(
    keras: Any,
    model: Any,
    digits: Digits,
    setting: Setting,
    learning_rate: float,
    epochs: int,
    guard: Any,
) -> List[float]:
    """Compile, train, and return the held-out accuracy after each epoch."""
    _compile(keras, model, learning_rate)
    history = model.fit(
        *digits.train,
        validation_data=digits.held_out,
        batch_size=setting.batch,
        epochs=epochs,
        callbacks=[guard],
        verbose=0,
    )
    return [float(value) for value in history.history["val_accuracy"]]
