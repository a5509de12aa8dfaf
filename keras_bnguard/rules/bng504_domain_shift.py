"""BNG504: frozen statistics do not describe the user's data."""

from __future__ import annotations

from typing import Iterable, List, Optional

from keras_bnguard.records import (
    DataFacts,
    DataPart,
    Inventory,
    NormInput,
    NormLayer,
    Severity,
    SkipKind,
    SkipReason,
)
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import (
    does_not_fit,
    expects_inference,
    norms_of,
    not_measured,
    scale_is_off,
    unshuffled,
)
from keras_bnguard.rules.text import before_line, bng_code, count, some
from keras_bnguard.rules.thresholds import MAX_LOG_VARIANCE_RATIO, MAX_MEAN_SHIFT, MIN_ROWS

MIN_SHARE = 0.1


class DomainShift(Rule):
    """The statistics of frozen BN do not describe your data.

    What it checks:
        BN in inference mode with trained statistics: mean and variance of their inputs on your
        data, in inference mode, against moving mean and variance.

    Why it matters:
        A frozen BN standardises by the data of pretraining. On data that differ enough its
        outputs are neither centred nor of unit size, and every layer after it gets what it was
        never trained on: 0.2 to 0.3 accuracy where BN with fresh statistics gave 0.77.

    How it decides:
        Per BN, mean over channels: |mean - moving mean| / sqrt(moving variance + epsilon) above
        0.6, or |log((variance + epsilon) / (moving variance + epsilon))| above 1.0, over 64
        rows or more, in at least a tenth of the frozen BN. docs/data-rules.md has the
        experiment: correct fine-tuning stays below.

    Example:
        backbone.trainable = False               # trained on photographs
        model.fit(x_rays, labels)

    Fix:
        Recompute the statistics on your data, then freeze; or train BN with batches of 16 or
        more. `bng.advise` measures which is better.

    Known limits:
        Not certain: a small clean target may still be best served by frozen statistics. Silent
        below the limits, for BN at their start values, where BNG501 names a wrong scale, where
        batches are not shuffled, and for a frozen model that another model trains, as the
        discriminator of a GAN, which sees nothing but fakes here.

    Source:
        Li et al. 2016 (AdaBN); keras pull request 9965; icevision issue 32.
    """

    code = "BNG504"
    name = "domain-shift"
    severity = Severity.WARNING
    certain = False

    def check(self, inventory: Inventory, data: DataFacts) -> Iterable[Violation]:
        if _not_enough(data):
            return
        frozen = frozen_inputs(inventory, data)
        violation = [item for item in frozen if does_not_fit(item)]
        if not violation or len(violation) < MIN_SHARE * len(frozen):
            return
        paths = tuple(item.path for item in violation)
        shift = max(item.mean_shift for item in violation)
        ratio = max(item.log_variance_ratio for item in violation)
        yield Violation(
            layers=paths,
            message=(
                f"{len(violation)} of {count(len(frozen), 'frozen BN layer')} do not describe "
                f"your data: {some(paths)}. Over {data.rows} rows: up to {shift:.2g} standard "
                f"deviations (limit {MAX_MEAN_SHIFT:g}) and {ratio:.2g} in log variance (limit "
                f"{MAX_LOG_VARIANCE_RATIO:g}); by depth {_by_depth(frozen)}. {inventory.stack} "
                "goes on using the old statistics."
            ),
            fix=(
                "measure by bng.advise(model, (x, y)) whether it is better to recompute the "
                f"statistics, and if so do it, {before_line(inventory)}:\n"
                + bng_code(
                    f"bng.recalibrate({inventory.user_code.model}, {inventory.user_code.x}, "
                    'layers="*")'
                )
            ),
            evidence={
                "mean_shift": {item.path: item.mean_shift for item in violation},
                "log_variance_ratio": {item.path: item.log_variance_ratio for item in violation},
                "limits": (MAX_MEAN_SHIFT, MAX_LOG_VARIANCE_RATIO),
                "rows": data.rows,
            },
        )

    def skip_reason(self, inventory: Inventory, data: DataFacts) -> Optional[SkipReason]:
        return not_measured(data, DataPart.NORMS) or (
            _not_enough(data) if frozen_inputs(inventory, data) else None
        )


def frozen_inputs(inventory: Inventory, data: DataFacts) -> List[NormInput]:
    """What reaches BN in inference mode with trained statistics, in order of the run."""
    known = norms_of(inventory)
    off = {item.container for item in data.norms if item.first and scale_is_off(item)}
    return [
        item
        for item in data.norms
        if item.path in known and _counts(inventory, known[item.path]) and item.container not in off
    ]


def _counts(inventory: Inventory, norm: NormLayer) -> bool:
    containers = norm.container.split("/")
    # The sub-model is compiled itself and trains there; a model it was cut from does not count.
    trained_elsewhere = any(
        s.path == norm.path and s.there and s.other in containers for s in inventory.shared or ()
    )
    return expects_inference(norm) and norm.at_default is False and not trained_elsewhere


def _by_depth(items: List[NormInput]) -> str:
    """Mean shift of the first, middle and last third of the BN: `0.2 / 0.9 / 1.4`."""
    third = max(1, len(items) // 3)
    parts = [items[:third], items[third:-third] or items[:third], items[-third:]]
    return " / ".join(f"{sum(i.mean_shift for i in part) / len(part):.2g}" for part in parts)


def _not_enough(data: DataFacts) -> Optional[SkipReason]:
    if not data.norms:
        return None
    if data.rows < MIN_ROWS:
        return SkipReason(
            SkipKind.NOT_ENOUGH_DATA, f"needs {MIN_ROWS} rows, the data has {data.rows}"
        )
    if unshuffled(data):
        return SkipReason(
            SkipKind.NOT_ENOUGH_DATA,
            "the batches are not shuffled, so these may be one class only",
        )
    return None
