"""The features of one phase: computed once for training and validation data."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from keras_bnguard.backends.patches.part_of_model import StandIn
from keras_bnguard.data import tree
from keras_bnguard.features.cut import Cut, halves
from keras_bnguard.features.precompute import feature_batches
from keras_bnguard.features.store import FeatureStore, stamp_of
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.caching.fit_call import FitCall


class FeaturesOfPhase:
    """Features of the data of a `fit`, and what runs on them in the place of the model.

    Args:
        snapshot: the model, with the flags of the phase.
        cut: where the trunk ends.
        call: the arguments of `fit`, as NumPy.
        store: where features are kept.
        inference_only: the steps of the phase force BN into inference mode.

    Attributes:
        x: features of the training rows, an array or a list of arrays.
        validation_x: those of the validation rows, None without validation data.
        stand_in: runs the rest of the model on them.

    Raises:
        UnsupportedModelError: the trunk gives a row other features in another epoch.
    """

    def __init__(
        self,
        snapshot: ModelSnapshot,
        cut: Cut,
        call: FitCall,
        store: FeatureStore,
        inference_only: bool,
    ) -> None:
        self._store, self._inference_only = store, inference_only
        self._batch_size = call.batch_size
        sides = halves(snapshot.backend, cut)
        self._trunk = sides.trunk
        self.x = self._collect(call.x)
        validation = call.validation_data
        self.validation_x: Optional[Any] = None if not validation else self._collect(validation[0])
        self.stand_in = StandIn(snapshot.backend, snapshot.model, sides.head)

    def _collect(self, x: Any) -> Any:
        batches = feature_batches(
            self._trunk, (x, None), self._batch_size, inference_only=self._inference_only
        )
        stamp = stamp_of(self._trunk.get_weights(), x, self._structure(), self._store.dtype)
        found = self._store.collect(batches, len(tree.first_leaf(x)), stamp)
        return found[0] if len(found) == 1 else found

    def _structure(self) -> Tuple[Any, ...]:
        layers = tuple(type(layer).__name__ for layer in self._trunk.layers)
        return (layers, *(tuple(tensor.shape) for tensor in self._trunk.outputs))
