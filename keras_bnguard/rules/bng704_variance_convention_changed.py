"""BNG704: Keras 2 stored a larger variance than Keras 3 does."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping, Optional

from keras_bnguard.records import Inventory, NormLayer, Severity, SkipKind, SkipReason
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.text import count, recalibrate_code, some

VALUES = 32
BATCH = 8


class VarianceConventionChanged(Rule):
    """A file of Keras 2, loaded in Keras 3, has BN that see few values per channel.

    What it checks:
        BN on pictures (four axes) in a model whose file Keras 2 wrote.

    Why it matters:
        Keras 2 stores the variance of such BN times n / (n - 1), n being the values per
        channel of a batch; Keras 3 stores it as it is. With many values that is nothing. With
        eight it is 14 %, and the statistics change by as much when training goes on.

    How it decides:
        The version in the file, and positions of the map x batch size (8 where it is not
        known) below 32. A fact.

    Example:
        bnguard audit old.h5                     # 1 x 1 maps after a global pooling

    Fix:
        Nothing for inference. Before training goes on, take new statistics over the data.

    Known limits:
        Only files that `bnguard audit` loads are known by their writer. BN on two or three axes
        never had the factor.

    Source:
        Measured on [1, 2, 3, 4]: Keras 2.15 and tf_keras 2.21 store 1.667, Keras 3.15.1 stores
        1.25; keras issue 19649.
    """

    code = "BNG704"
    name = "variance-convention-changed"
    severity = Severity.INFO

    def check(
        self, inventory: Inventory, fit_settings: Optional[Mapping[str, Any]] = None
    ) -> Iterable[Violation]:
        if not _from_keras2(inventory.saved_by):
            return
        if inventory.stack.keras_major == 2:
            return
        batch = int((fit_settings or {}).get("batch_size") or BATCH)
        violation: List[NormLayer] = []
        values: List[int] = []
        for norm in inventory.norms:
            positions = norm.graph_context.positions
            if positions is not None and 1 < positions * batch < VALUES:
                violation.append(norm)
                values.append(positions * batch)
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        few = min(values)
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} with {few} values per channel in a batch of "
                f"{batch}: {some(paths)}. {inventory.saved_by} stored their variance times "
                f"{few}/{few - 1}, {100 / (few - 1):.2g} % more than {inventory.stack} does."
            ),
            fix=(
                "take new statistics over the data before training goes on:\n"
                + recalibrate_code(inventory)
            ),
            evidence={"values_per_channel": dict(zip(paths, values)), "batch": batch},
        )

    def skip_reason(self, inventory: Inventory) -> Optional[SkipReason]:
        if inventory.saved_by is None:
            return SkipReason(SkipKind.NOT_KNOWN, "the file is not known: run bnguard audit on it")
        return None


def _from_keras2(writer: Optional[str]) -> bool:
    return writer is not None and writer.rpartition(" ")[2].partition(".")[0] == "2"
