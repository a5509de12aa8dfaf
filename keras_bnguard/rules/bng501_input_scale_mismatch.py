"""BNG501: the data reaches the first BN at another scale than its statistics know."""

from __future__ import annotations

import math
import re
from typing import Iterable, List, Optional, Tuple

from keras_bnguard.records import DataFacts, DataPart, Inventory, NormInput, Severity, SkipReason
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import norms_of, not_measured, scale_is_off
from keras_bnguard.rules.text import some
from keras_bnguard.rules.thresholds import MAX_SCALE

# What each family of keras.applications expects: "raw" 0..255, "tf" -1..1, "caffe" 0..255 less
# the ImageNet mean, "torch" (x / 255 - mean) / std. The first pattern that matches counts.
# Others give their models such names too, so a mode counts only where the data speak for it.
FAMILIES = (
    (r"^(efficientnet|convnext|regnet|mobilenetv3|resnetrs|resnet_rs|nasnetv0)", "raw"),
    (r"^resnet\d+v2|^(mobilenet|inception|xception|nasnet)", "tf"),
    (r"^(resnet(50|101|152)|vgg)", "caffe"),
    (r"^densenet", "torch"),
)
EXPECTS = {
    "raw": "pixels from 0 to 255 and rescales them inside",
    "tf": "pixels from -1 to 1",
    "caffe": "pixels from 0 to 255 less the mean of ImageNet, in BGR",
    "torch": "pixels from 0 to 1 less the mean and divided by the deviation of ImageNet",
}
SPANS = {"raw": 255.0, "tf": 2.0, "caffe": 255.0, "torch": 4.8}
_FACTOR = math.sqrt(MAX_SCALE) / 2  # The variance is off by MAX_SCALE or more.


class InputScaleMismatch(Rule):
    """What reaches the first BN of a model is off its statistics by orders of magnitude.

    What it checks:
        The first BN of the model, and of a sub-model with at least half of all BN, where it has
        trained statistics, on your data.

    Why it matters:
        Images that are rescaled twice, or not at all, or by the preprocess_input of another
        model, arrive 50 to 65000 times too small or too large in variance. A frozen network
        then gives noise, one that trains forgets what it learnt.

    How it decides:
        variance of the input over moving variance, median over channels, below 0.01 or above
        100, over all batches of the sample. The cause is read off that factor, off a Rescaling
        layer inside the model, off the range of the data, and off the name of a model of
        keras.applications where range and layers agree with what that model expects.

    Example:
        base = keras.applications.EfficientNetB0(include_top=False)   # rescales inside
        model.fit(images / 255.0, labels)

    Fix:
        Feed the model what it was trained on: its own preprocess_input, once.

    Known limits:
        Not certain about the cause. Silent for BN at their start values, and for modes that
        differ by less, such as 0..1 against -1..1; BNG504 may see those.

    Source:
        tensorflow issues 48412, 42506 and 43938, keras issues 14950, 9668 and 3622.
        Modes: keras/applications/imagenet_utils.py.
    """

    code = "BNG501"
    name = "input-scale-mismatch"
    severity = Severity.ERROR
    certain = False

    def check(self, inventory: Inventory, data: DataFacts) -> Iterable[Violation]:
        violation = mismatched(inventory, data)
        if not violation:
            return
        worst = max(violation, key=lambda item: abs(math.log(max(item.variance_ratio, 1e-30))))
        cause, cure = _cause(inventory, data, worst)
        paths = tuple(item.path for item in violation)
        yield Violation(
            layers=paths,
            message=(
                f"What reaches {some(paths)} has {worst.variance_ratio:.3g} times the variance "
                f"that its moving statistics describe (limits {1 / MAX_SCALE:g} and "
                f"{MAX_SCALE:g}), over {data.rows} rows from {data.low:.4g} to {data.high:.4g}. "
                f"{cause} {inventory.stack} gives no warning."
            ),
            fix=f"feed the model what it was trained on: {cure}",
            evidence={
                "variance_ratio": {item.path: item.variance_ratio for item in violation},
                "limits": (1 / MAX_SCALE, MAX_SCALE),
                "range": (data.low, data.high),
            },
        )

    def skip_reason(self, inventory: Inventory, data: DataFacts) -> Optional[SkipReason]:
        return not_measured(data, DataPart.NORMS)


def mismatched(inventory: Inventory, data: DataFacts) -> List[NormInput]:
    """The first BN of the model or a large sub-model whose input is off by orders of magnitude."""
    known = norms_of(inventory)
    return [
        item
        for item in data.norms
        if item.first
        and item.finite
        and item.path in known
        and known[item.path].at_default is False
        and scale_is_off(item)
    ]


def family_of(inventory: Inventory, container: str) -> Tuple[str, str]:
    """(name, mode) of a keras.applications model, read off the name of a sub-model; else empty."""
    name = container.rsplit("/", 1)[-1] or inventory.model
    for pattern, mode in FAMILIES:
        if re.match(pattern, name.lower()):
            return name, mode
    return "", ""


def _cause(inventory: Inventory, data: DataFacts, item: NormInput) -> Tuple[str, str]:
    """The likely cause in a sentence, and what cures it."""
    if data.low == data.high:
        return (
            "Likely cause: all values of the data are the same.",
            "rows that differ",
        )
    name, mode = family_of(inventory, item.container)
    small = item.variance_ratio < 1
    rescales = [
        layer.path
        for layer in inventory.layers
        if layer.class_name in ("Rescaling", "Normalization")
    ]
    if mode and _agrees(mode, data, small=small, rescales=bool(rescales)):
        does = "rescaled twice" if mode == "raw" and small else _describe(mode, small)
        module = _module(name)
        cure = (
            f"pixels from 0 to 255, put once through keras.applications.{module}.preprocess_input"
            if mode != "raw"
            else "pixels from 0 to 255; the model rescales them"
        )
        return f"Likely cause: {does}; {name} expects {EXPECTS[mode]}.", cure
    if small and rescales:
        return (
            f"Likely cause: rescaled twice, by {some(rescales)} inside the model and before it.",
            "values that are not rescaled before the model",
        )
    if small:
        return (
            "Likely cause: rescaled, where the model was trained on larger values.",
            "values as large as in its training, not rescaled",
        )
    return (
        "Likely cause: not rescaled, where the model was trained on rescaled values.",
        "values rescaled as in its training, pixels divided by 255 for instance",
    )


def _agrees(mode: str, data: DataFacts, *, small: bool, rescales: bool) -> bool:
    """Whether data and layers can be those of a model of this mode that gets wrong data."""
    if mode == "raw" and not rescales:
        return False
    span = data.high - data.low
    return span * _FACTOR < SPANS[mode] if small else span > SPANS[mode] * _FACTOR


def _describe(mode: str, small: bool) -> str:
    if mode == "caffe" and small:
        return "rescaled by /255 or by the preprocess_input of another model"
    return "rescaled twice, or wrong preprocess_input" if small else "not rescaled"


def _module(name: str) -> str:
    """Module of keras.applications that a model's name belongs to."""
    low = name.lower()
    for pattern, module in (
        (r"^resnet\d+v2", "resnet_v2"),
        (r"^resnet", "resnet"),
        (r"^mobilenetv2", "mobilenet_v2"),
        (r"^mobilenet", "mobilenet"),
        (r"^inception_?v3", "inception_v3"),
        (r"^inception_?resnet", "inception_resnet_v2"),
        (r"^xception", "xception"),
        (r"^nasnet", "nasnet"),
        (r"^densenet", "densenet"),
        (r"^vgg16", "vgg16"),
        (r"^vgg19", "vgg19"),
    ):
        if re.match(pattern, low):
            return module
    return low
