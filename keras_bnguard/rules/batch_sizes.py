"""How many values per channel a BN gets from one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional

from keras_bnguard.records import DataFacts, NormLayer, RunFacts
from keras_bnguard.rules.predicates import inputs_by_path, sites_of


@dataclass(frozen=True)
class BatchSizes:
    """Sizes of batches, from the settings of `fit`, from data and from an observed step.

    Attributes:
        run: the observed run, None where there is none.
        data: what was measured on batches, None where there is none.
        fit_settings: the settings of `fit`, None where they are not known.
    """

    run: Optional[RunFacts]
    data: Optional[DataFacts]
    fit_settings: Optional[Mapping[str, Any]]

    @property
    def replicas(self) -> int:
        """How many replicas share a batch."""
        if self.data is not None:
            return self.data.replicas
        return int((self.fit_settings or {}).get("replicas") or 1)

    @property
    def rows(self) -> Optional[int]:
        """Rows of a full batch in training; None where unknown."""
        given = (self.fit_settings or {}).get("batch_size")
        if given:
            return int(given)
        data = self.data
        if data is None or data.unreadable or (self.fit_settings is None and not data.ordered):
            return None
        return data.full_rows or None

    def values_per_row(self, norm: NormLayer) -> Optional[float]:
        """Values per channel that one row brings to a BN; None where unknown."""
        item = inputs_by_path(self.data).get(norm.path)
        if item is not None:
            return item.values_per_row
        known = [site.values_per_row for site in sites_of(self.run, norm)]
        return max((float(value) for value in known if value is not None), default=None)

    def values(self, norm: NormLayer) -> Optional[float]:
        """Values per channel that one batch brings to a BN; None where unknown.

        A synchronized BN gets the values of all replicas, any other one those of its replica.
        """
        shared = 1 if norm.synchronized else self.replicas
        rows, per_row = self.rows, self.values_per_row(norm)
        if rows is not None and per_row is not None:
            return max(1.0, rows // shared) * per_row
        item = inputs_by_path(self.data).get(norm.path)
        if item is not None and self.data is not None and self.data.ordered:
            return item.values * (self.data.replicas if norm.synchronized else 1)
        known = [site.values_per_channel for site in sites_of(self.run, norm)]
        return max((float(value) for value in known if value is not None), default=None)
