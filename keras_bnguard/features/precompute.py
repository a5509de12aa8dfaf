"""The features of a frozen trunk, computed once, so that a head trains on them many times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.values.probe import Probe
from keras_bnguard.data.batches import Batch, Batches, check_shapes
from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.model.expected_mode import will_run
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.records import RunMode

# Two runs of one deterministic computation differ by rounding, far below this share of the
# largest output; Dropout, noise and augmentation differ by far more.
TOLERANCE = 1e-3
ROWS_PROBED = 32
RANDOM = ("Dropout", "Noise", "Random")


@dataclass(frozen=True)
class Features:
    """What `precompute_features` computed, in the order of the data.

    x: the trunk's outputs as NumPy, of shape `(rows, *model.output_shape[1:])` and the dtype
        the trunk computes in (float32 unless it is a half-precision model); a list or dict of
        such arrays where the trunk has several outputs.
    y, sample_weight: those of the same rows, None where the data has none. They are read
        together with the rows, so they fit even where the data is shuffled at every pass.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None

    @property
    def rows(self) -> int:
        """Number of samples."""
        return Batch(self.x).rows


def precompute_features(
    model: Any,
    data: Any,
    *,
    batch_size: int = 32,
    batches: Optional[int] = None,
    inference_only: bool = False,
) -> Features:
    """Run a frozen trunk once over data, for a head that is trained on its outputs.

    The head then trains as it would behind the trunk, at a fraction of the cost. That holds
    only where the trunk gives a row the same features in every epoch, so this is checked
    first, on the first batch (32 rows at most): nothing in the trunk trains, training mode and
    inference mode give the same outputs, and a row does not depend on the rows beside it.
    The outputs are those of inference mode. Nothing of the model is changed.

    Args:
        model: a built Keras model, the trunk alone, with `trainable = False`.
        data: anything `fit` takes that can be read again: arrays, (x, y), tf.data, PyDataset,
            DataLoader, a list of batches.
        batch_size: rows per batch where data is arrays. Defaults to 32.
        batches: how many batches at most. Defaults to None: all.
        inference_only: True where your model calls the trunk in inference mode, or you want no
            Dropout and no augmentation in the features: training mode is not compared then.
            Defaults to False.

    Returns:
        `Features` with `x`, `y` and `sample_weight`. They are kept in memory:
        rows x values per row x 4 bytes.

    Raises:
        UnsupportedModelError: the trunk trains, is random, or mixes rows; says which layers.
        DataError: data that can be read only once, is empty or has another shape.

    Example:
        trunk.trainable = False
        features = bng.precompute_features(trunk, (x, y))
        head.fit(features.x, features.y, epochs=50)
    """
    # Flags of the trunk's own compile() say nothing about the model that will call it.
    snapshot = take_snapshot(model, compiled={})
    snapshot.backend.values.sync(model)
    _check_frozen(snapshot)
    _check_modes(snapshot, inference_only)
    source = Batches(data, batch_size=batch_size, limit=batches)
    run = Probe(snapshot.backend, model, [])
    outputs: List[Any] = []
    labels: List[Tuple[Any, Any]] = []
    for batch in source:
        if not labels:
            check_shapes(model, batch)
            _check_outputs(snapshot, run, batch, inference_only)
        outputs.append(run(batch.x).outputs)
        labels.append((batch.y, batch.sample_weight))
    return Features(
        x=_joined(outputs),
        y=_joined([y for y, _ in labels]),
        sample_weight=_joined([weight for _, weight in labels]),
    )


def _check_frozen(snapshot: ModelSnapshot) -> None:
    # Flags of the layers, not the model's list of weights: Keras 3 leaves out of that list
    # what still trains below a frozen model when another model calls it.
    count = snapshot.backend.flags.trainable_count
    live = [path for path, layer in snapshot.layers if layer.trainable and count(layer)]
    if not live and not snapshot.model.trainable_weights:
        return
    raise UnsupportedModelError(
        f"{_name(snapshot)} is not frozen: {_some(live or [snapshot.inventory.model])} would train, "
        "and features kept from before would no longer be its own. Set trainable = False on the "
        "model, which reaches every layer in it."
    )


def _check_modes(snapshot: ModelSnapshot, inference_only: bool) -> None:
    """Frozen BN that run by the batch all the same: some subclasses, torch modules."""
    stack = snapshot.inventory.stack
    live = [n.path for n in snapshot.inventory.norms if will_run(n, stack) is RunMode.TRAINING]
    if live and not inference_only:
        raise UnsupportedModelError(
            f"{_some(live)} of {_name(snapshot)} would run by the batch in training here ({stack}), "
            "so features of inference mode are not what the head would see. Pass "
            "inference_only=True if your model forces inference mode (bng.force_inference does)."
        )


def _check_outputs(snapshot: ModelSnapshot, run: Probe, batch: Batch, inference_only: bool) -> None:
    """Ask the trunk itself: the same rows again, half of them alone, and in training mode."""
    rows = min(batch.rows, ROWS_PROBED)
    x = _cut(batch.x, rows)
    with _KeptState(snapshot) as kept:
        once = run(x).outputs
        kept.other_seeds()
        again = _difference(once, run(x).outputs)
        changed = kept.changed()
        half = (
            _difference(_cut(once, rows // 2), run(_cut(x, rows // 2)).outputs) if rows > 1 else 0.0
        )
        trained = 0.0
        if not inference_only:
            training = Probe(snapshot.backend, snapshot.model, [], training=True)
            trained = _difference(once, training(x).outputs)
    if changed:
        raise UnsupportedModelError(
            f"{_name(snapshot)} moves the statistics of {_some(changed)} when it is called in "
            "inference mode: a call inside passes training=True. They were put back. Remove that "
            "argument."
        )
    for difference, what in (
        (again, "gives the same rows other outputs when it is called again"),
        (half, "gives a row other outputs when other rows are beside it"),
        (trained, "gives other outputs in training mode than in inference mode"),
    ):
        if not difference <= TOLERANCE:
            advice = " Pass inference_only=True to have them off." if what.endswith("mode") else ""
            raise UnsupportedModelError(
                f"{_name(snapshot)} {what}: they differ by {difference:.2g} of the largest output "
                f"({TOLERANCE:g} is allowed), so features computed once are not those of every "
                f"epoch. {_suspects(snapshot)}{advice}"
            )


def _suspects(snapshot: ModelSnapshot) -> str:
    stack = snapshot.inventory.stack
    found = [
        path
        for path, layer in snapshot.layers
        if snapshot.backend.graph.defaults_to_training(layer)
        or any(word in type(layer).__name__ for word in RANDOM)
    ]
    found += [n.path for n in snapshot.inventory.norms if will_run(n, stack) is RunMode.TRAINING]
    if not found:
        return "No layer of a kind that is known to be random: look at your own layers."
    return f"Layers that do that: {_some(found)}."


class _KeptState:
    """Context manager: every variable that does not train is put back, seed states too."""

    def __init__(self, snapshot: ModelSnapshot) -> None:
        self._snapshot = snapshot
        backend, model = snapshot.backend, snapshot.model
        self._variables = {id(v): v for v in model.non_trainable_variables}
        self._variables.update({id(v): v for v in backend.values.random_variables(model)})
        self._statistics = {
            handle.path: [v for v in handle.vectors()[:2] if v is not None]
            for handle in snapshot.handles
        }
        self._values: Dict[int, np.ndarray] = {}

    def __enter__(self) -> _KeptState:
        torch_buffers = {id(v): v for vs in self._statistics.values() for v in vs}
        self._variables.update(torch_buffers)
        read = self._snapshot.backend.values.to_numpy
        self._values = {key: np.array(read(v)) for key, v in self._variables.items()}
        return self

    def other_seeds(self) -> None:
        """What the next call draws is new even where a call does not carry its seeds on (JAX)."""
        backend = self._snapshot.backend
        for variable in backend.values.random_variables(self._snapshot.model):
            backend.values.assign(variable, backend.values.to_numpy(variable) + 1)

    def changed(self) -> List[str]:
        """Paths of the BN whose statistics differ from those at the beginning."""
        read = self._snapshot.backend.values.to_numpy
        return [
            path
            for path, variables in self._statistics.items()
            if any(read(v).tobytes() != self._values[id(v)].tobytes() for v in variables)
        ]

    def __exit__(self, *exception: Any) -> None:
        backend = self._snapshot.backend
        for key, variable in self._variables.items():
            if backend.values.to_numpy(variable).tobytes() != self._values[key].tobytes():
                backend.values.assign(variable, self._values[key])


def _difference(one: Any, other: Any) -> float:
    """Largest difference of two outputs as a share of the largest value; NaN where one is."""
    pairs = list(zip(_leaves(one), _leaves(other)))
    worst = 0.0
    for a, b in pairs:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.size:
            share = float(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-12))
            worst = worst if share <= worst else share
    return worst


def _leaves(structure: Any) -> List[Any]:
    if isinstance(structure, dict):
        return [leaf for value in structure.values() for leaf in _leaves(value)]
    if isinstance(structure, (list, tuple)):
        return [leaf for value in structure for leaf in _leaves(value)]
    return [] if structure is None else [structure]


def _cut(structure: Any, rows: int) -> Any:
    if isinstance(structure, dict):
        return {key: _cut(value, rows) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [_cut(value, rows) for value in structure]
    return structure[:rows]


def _joined(parts: Sequence[Any]) -> Any:
    """The parts of all batches as one, leaf by leaf."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (list, tuple)):
        return [_joined(leaf) for leaf in zip(*parts)]
    return np.concatenate([np.asarray(part) for part in parts])


def _name(snapshot: ModelSnapshot) -> str:
    return f"the model {snapshot.inventory.model!r}"


def _some(paths: Sequence[str], shown: int = 3) -> str:
    unique: Tuple[str, ...] = tuple(dict.fromkeys(paths))
    more = f" and {len(unique) - shown} more" if len(unique) > shown else ""
    return ", ".join(unique[:shown]) + more
