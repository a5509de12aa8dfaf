"""BNG505: the rows of a batch are alike, those of all batches together are not."""

from __future__ import annotations

from typing import Iterable, List, Optional

from keras_bnguard.records import (
    DataFacts,
    DataPart,
    Inventory,
    RunFacts,
    Severity,
    SkipKind,
    SkipReason,
)
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import learning_norms, not_measured, unshuffled
from keras_bnguard.rules.text import some
from keras_bnguard.rules.thresholds import MAX_LABELS_WITHIN, MAX_WITHIN, MIN_BATCHES


class BatchesNotShuffled(Rule):
    """Batches hold rows of one kind, so BN learns the statistics of no batch there will be.

    What it checks:
        Labels and inputs of trainable BN, in batches as training gets them: from a tf.data.Dataset,
        PyDataset, DataLoader, a list, or arrays with fit(shuffle=False).

    Why it matters:
        BN normalises each batch with its own statistics. Where a batch holds one class, the
        difference between classes is taken out in training and is there in `predict`: train
        accuracy 1.0, evaluate 0.0 to 0.16.

    How it decides:
        Variance inside a batch as a share of the pooled variance, over at least 8 batches of 4
        rows or more; 1 - 1/rows where rows come at random. Below 0.5 of that for the one-hot
        labels, or below 0.6 of it for the inputs of a trainable BN (mean over channels). Also
        where all rows have one label of 3 or more classes, over 128 rows or more.

    Example:
        model.fit(x_sorted, y_sorted, shuffle=False)

    Fix:
        Shuffle before batching, with a buffer as large as the data.

    Known limits:
        Not certain. Silent for arrays that `fit` shuffles itself, for rare classes (shares
        are compared, not labels counted), and where no BN is in training mode. Skipped where a
        stateful recurrent layer needs the batches in order.

    Source:
        openpifpaf pull request 308, matconvnet issue 393; Wu and Johnson 2021, section 5.
    """

    code = "BNG505"
    name = "batches-not-shuffled"
    severity = Severity.WARNING
    certain = False

    def check(
        self, inventory: Inventory, data: DataFacts, run: Optional[RunFacts] = None
    ) -> Iterable[Violation]:
        norms = learning_norms(inventory, run)
        if not norms:
            return
        inputs = {item.path: item for item in data.norms}
        alike = [n.path for n in norms if n.path in inputs and unshuffled(data, inputs[n.path])]
        if not alike and not unshuffled(data):
            return
        paths = tuple(alike) or tuple(norm.path for norm in norms)
        expected = 1 - 1 / data.full_rows
        found = [f"{inputs[p].within_batch_variance_ratio:.2g}" for p in alike]
        yield Violation(
            layers=paths,
            message=(
                f"Rows inside a batch are alike over {data.batches} batches of {data.full_rows}: "
                f"{_labels(data)}the inputs of trainable BN have "
                f"{' to '.join(_ends(found)) or 'no'} of their pooled variance inside a batch "
                f"(shuffled rows have {expected:.2g}, limit {MAX_WITHIN * expected:.2g}): "
                f"{some(paths)}. {inventory.stack} normalises each batch with its own statistics."
            ),
            fix=(
                "shuffle the rows before they are put into batches: fit(shuffle=True) for arrays, "
                "dataset.shuffle(rows) before dataset.batch for tf.data, shuffle=True for a loader"
            ),
            evidence={
                "within": {p: inputs[p].within_batch_variance_ratio for p in paths if p in inputs},
                "labels_within": data.labels.within_batch_variance_ratio
                if data.labels is not None
                else None,
                "batches_of_one_label": data.labels.single_class_batches
                if data.labels is not None
                else None,
                "limits": (MAX_WITHIN * expected, MAX_LABELS_WITHIN * expected),
            },
        )

    def skip_reason(
        self, inventory: Inventory, data: DataFacts, run: Optional[RunFacts] = None
    ) -> Optional[SkipReason]:
        if not learning_norms(inventory, run):
            return None
        if inventory.stateful:
            return SkipReason(
                SkipKind.NOT_MEASURED,
                f"{some(inventory.stateful)} keeps its state from batch to batch, so batches stay "
                "in order",
            )
        if not data.ordered:
            return SkipReason(
                SkipKind.NOT_MEASURED,
                "fit shuffles arrays by itself; needs batches as training gets them",
            )
        if data.batches < MIN_BATCHES or data.full_rows < 4:
            return SkipReason(
                SkipKind.NOT_ENOUGH_DATA,
                f"needs {MIN_BATCHES} batches of 4 rows, the data gave {data.batches}",
            )
        if data.labels is None:
            return not_measured(data, DataPart.NORMS)
        return None


def _labels(data: DataFacts) -> str:
    labels = data.labels
    if labels is None:
        return ""
    return (
        f"{labels.single_class_batches} of {labels.batches} have one label only "
        f"({labels.n_classes} in all), "
    )


def _ends(numbers: List[str]) -> List[str]:
    ordered = sorted(set(numbers), key=float)
    return ordered if len(ordered) < 2 else [ordered[0], ordered[-1]]
