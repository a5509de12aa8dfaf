"""`precompute_features`: run a frozen backbone once, so that a head trains on its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator, Optional

import numpy as np

from keras_bnguard.arguments import check_flag, short_traceback
from keras_bnguard.backends.graph_mode import require_eager
from keras_bnguard.backends.values.probe import Probe
from keras_bnguard.backends.values.restore import observing
from keras_bnguard.data import tree
from keras_bnguard.data.batch import Batch, join
from keras_bnguard.data.batches import Batches
from keras_bnguard.data.kept_probes import probe_of
from keras_bnguard.data.model_inputs import check_built, check_inputs
from keras_bnguard.data.progress import Verbose, check_verbose, progress
from keras_bnguard.features.checks import check_frozen, check_modes, check_outputs
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records.shown import Shown


@dataclass(frozen=True, repr=False)
class Features(Shown):
    """What `precompute_features` computed, in the order of the data.

    Attributes:
        x: the backbone's outputs as NumPy, of shape `(rows, *model.output_shape[1:])` and the
            dtype the backbone computes in (float32 unless it is a half-precision model); a list
            or dict of such arrays where the backbone has several outputs.
        y: labels of the same rows, None where the data has none. They are read together with
            the rows, so they fit even where the data is shuffled at every pass.
        sample_weight: weights of the same rows, None where the data has none.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None

    def _summary(self) -> str:
        parts = [("x", self.x), ("y", self.y), ("sample_weight", self.sample_weight)]
        return ", ".join(f"{name} {_shapes(value)}" for name, value in parts if value is not None)

    def __str__(self) -> str:
        return repr(self)

    @property
    def rows(self) -> int:
        """Number of samples."""
        return len(tree.first_leaf(self.x))


def _shapes(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_shapes(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_shapes, value)) + "]"
    array = np.asarray(value)
    return f"{array.shape} {array.dtype}"


@short_traceback
def precompute_features(
    model: Any,
    data: Any,
    *,
    batch_size: int = 32,
    max_batches: Optional[int] = None,
    inference_only: bool = False,
    verbose: Verbose = "auto",
) -> Features:
    """Run a frozen backbone once over data, for a head that is trained on its outputs.

    The head then trains as it would behind the backbone, at a fraction of the cost. That is
    true only where the backbone gives a row the same features in every epoch. So the first batch
    is checked first: nothing in the backbone trains, training mode and inference
    mode give the same outputs, and the outputs of a row do not depend on the other rows of the
    batch. The features are outputs of inference mode. Nothing of the model is changed.

    Args:
        model: a built Keras model, the backbone alone, with `trainable = False`.
        data: arrays, (x, y), a dataset, a loader, a list of batches, or a function that returns an
            iterator of batches; docs/data-rules.md lists every kind.
        batch_size: rows per batch where data is arrays. Defaults to 32.
        max_batches: how many batches at most. Defaults to None: all.
        inference_only: True where your model calls the backbone in inference mode, or you want no
            Dropout and no augmentation in the features: training mode is not compared then.
            Defaults to False.
        verbose: as in `fit`: 0 is silent, 1 a progress bar, 2 one line at the end. Defaults to
            "auto": a bar on a terminal and in a notebook.

    Returns:
        `Features` with `x`, `y` and `sample_weight`. They are kept in memory:
        rows x values per row x 4 bytes.

    Raises:
        UnsupportedModelError: the backbone trains, is random, or mixes rows; names the layers. Or
            TensorFlow runs in graph mode.
        DataError: data that can be read only once, is empty or has another shape.

    Example:
        backbone.trainable = False
        features = bng.precompute_features(backbone, (x, y))
        head.fit(features.x, features.y, epochs=50)
    """
    check_flag("inference_only", inference_only)
    batches = feature_batches(model, data, batch_size, max_batches, inference_only, verbose)
    whole = join(list(batches))
    return Features(whole.x, whole.y, whole.sample_weight)


def feature_batches(
    model: Any,
    data: Any,
    batch_size: int = 32,
    max_batches: Optional[int] = None,
    inference_only: bool = False,
    verbose: Any = 0,
) -> Iterator[Batch]:
    """The batches of the data with features in the place of `x`; see `precompute_features`."""
    shown = check_verbose(verbose)
    require_eager(model, "precompute_features")
    # Flags of the backbone's own compile() are not those of the model that will call it.
    snapshot = take_snapshot(model, compiled={})
    check_built(model, "precompute_features")
    snapshot.backend.values.sync(model)
    check_frozen(snapshot)
    check_modes(snapshot, inference_only)
    predict = probe_of(snapshot, [])
    full = 0
    source = Batches(data, batch_size=batch_size, limit=max_batches)
    with observing(snapshot.backend, model):
        for batch in progress(snapshot.backend.keras, source, shown, source.count, "batch"):
            if not full:
                check_inputs(model, batch)
                outputs = check_outputs(snapshot, predict, batch, inference_only)
                full = batch.rows
            else:
                outputs = _outputs(predict, batch, full)
            batch.check_rows()
            yield Batch(outputs, batch.y, batch.sample_weight)


def _outputs(predict: Probe, batch: Batch, full: int) -> Any:
    """The outputs of a batch; a short one is filled up, so that no other shape is compiled.

    That is exact: the first batch showed that no row depends on the others.
    """
    rows = batch.rows
    if not 0 < rows < full:
        return predict(batch.x).outputs
    filled = tree.take(batch.x, np.minimum(np.arange(full), rows - 1))
    return tree.take(predict(filled).outputs, slice(rows))
