"""Checks that a backbone gives a row the same features in every epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence

import numpy as np

from keras_bnguard.backends.values.probe import Probe, ProbeKind
from keras_bnguard.backends.values.restore import SavedModelState, SavedVariables, restoring
from keras_bnguard.data import tree
from keras_bnguard.data.batch import Batch
from keras_bnguard.data.kept_probes import probe_of
from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.model.expected_mode import will_run
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import RunMode
from keras_bnguard.rules.text import some

# Two runs of one deterministic computation differ by rounding, far below this share of the
# largest output; Dropout, noise and augmentation differ by far more.
TOLERANCE = 1e-3
RANDOM = ("Dropout", "Noise", "Random")


def check_frozen(snapshot: ModelSnapshot) -> None:
    """Refuse a backbone of which something trains.

    Raises:
        UnsupportedModelError: names the layers that would train.
    """
    # Flags of the layers, not the model's list of weights: Keras 3 leaves out of that list
    # what still trains below a frozen model when another model calls it.
    count = snapshot.backend.flags.trainable_count
    trainable = [path for path, layer in snapshot.layers if layer.trainable and count(layer)]
    if not trainable and not snapshot.model.trainable_weights:
        return
    paths = _some(trainable or [snapshot.inventory.model])
    raise UnsupportedModelError(
        f"{_name(snapshot)} is not frozen: {paths} would train, and its outputs would differ from "
        "the features after the first step. Set trainable = False on the model, which reaches "
        "every layer in it."
    )


def check_modes(snapshot: ModelSnapshot, inference_only: bool) -> None:
    """Refuse frozen BN that use batch statistics all the same: some subclasses, torch modules.

    Raises:
        UnsupportedModelError: names the BN.
    """
    paths = _with_batch_statistics(snapshot)
    if paths and not inference_only:
        raise UnsupportedModelError(
            f"{_some(paths)} of {_name(snapshot)} would use batch statistics during training here "
            f"({snapshot.inventory.stack}), so features of inference mode differ from what the "
            "head would get. Pass inference_only=True if your model forces inference mode "
            "(bng.force_inference does)."
        )


@dataclass(frozen=True)
class Difference:
    """How far two outputs of the same rows are apart that should be equal.

    Attributes:
        size: largest difference as a share of the largest output; NaN where one is NaN.
        cause: what was different about the second call, for a message.
        fix: what the user can do about it; empty where that is up to the layers.
    """

    size: float
    cause: str
    fix: str = ""

    @property
    def too_large(self) -> bool:
        return not self.size <= TOLERANCE


def check_outputs(
    snapshot: ModelSnapshot, predict: Probe, batch: Batch, inference_only: bool
) -> Any:
    """Run the backbone on the same rows again, on half of them, and in training mode.

    Half of them is those rows twice: what depends on other rows differs, and the backbone is
    not compiled for another shape.

    Args:
        snapshot: the backbone.
        predict: a probe of it in inference mode.
        batch: all rows of it are used.
        inference_only: leave training mode out.

    Returns:
        The outputs of the batch in inference mode.

    Raises:
        UnsupportedModelError: the outputs differ, or statistics were updated.
    """
    rows, x = batch.rows, batch.x
    backend = snapshot.backend
    statistics = {p: SavedVariables(backend, found) for p, found in _statistics(snapshot).items()}
    with restoring(SavedModelState(backend, snapshot.model, assigned=True)):
        once = predict(x).outputs
        _change_seeds(snapshot)
        differences = [
            Difference(
                largest_difference(once, predict(x).outputs),
                "gives the same rows other outputs when it is called again",
            )
        ]
        updated = [path for path, saved in statistics.items() if saved.changed()]
        if rows > 1:
            half = slice(rows // 2)
            twice = predict(tree.take(x, np.arange(rows) % (rows // 2))).outputs
            differences.append(
                Difference(
                    largest_difference(tree.take(once, half), tree.take(twice, half)),
                    "gives a row outputs that depend on the other rows of the batch",
                )
            )
        if not inference_only:
            train = probe_of(snapshot, [], ProbeKind(training=True))
            differences.append(
                Difference(
                    largest_difference(once, train(x).outputs),
                    "gives other outputs in training mode than in inference mode",
                    " Pass inference_only=True to turn them off.",
                )
            )
    if updated:
        raise UnsupportedModelError(
            f"{_name(snapshot)} updates the statistics of {_some(updated)} when it is called in "
            "inference mode: a call inside passes training=True. They were restored. Remove that "
            "argument."
        )
    for difference in differences:
        if difference.too_large:
            raise UnsupportedModelError(
                f"{_name(snapshot)} {difference.cause}: they differ by {difference.size:.2g} of "
                f"the largest output ({TOLERANCE:g} is allowed), so features computed once differ "
                f"from those of a later epoch. {_suspects(snapshot)}{difference.fix}"
            )

    return once


def largest_difference(one: Any, other: Any) -> float:
    """Largest difference of two outputs as a share of the largest value; NaN where one is."""
    worst = 0.0
    for a, b in zip(tree.leaves(one), tree.leaves(other)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.size:
            share = float(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-12))
            worst = worst if share <= worst else share
    return worst


def _statistics(snapshot: ModelSnapshot) -> Dict[str, List[Any]]:
    """Path -> variables of moving mean and variance."""
    return {
        handle.path: [variable for variable in handle.vectors()[:2] if variable is not None]
        for handle in snapshot.handles
    }


def _change_seeds(snapshot: ModelSnapshot) -> None:
    """Make the next call draw other numbers, also where calls do not advance seeds (JAX)."""
    values = snapshot.backend.values
    for variable in values.random_variables(snapshot.model):
        values.assign(variable, values.to_numpy(variable) + 1)


def _suspects(snapshot: ModelSnapshot) -> str:
    paths = [
        path
        for path, layer in snapshot.layers
        if snapshot.backend.graph.defaults_to_training(layer)
        or any(word in type(layer).__name__ for word in RANDOM)
    ]
    paths += _with_batch_statistics(snapshot)
    if not paths:
        return "No layer of a class that is known to be random: check your own layers."
    return f"Layers that do that: {_some(paths)}."


def _with_batch_statistics(snapshot: ModelSnapshot) -> List[str]:
    stack = snapshot.inventory.stack
    return [n.path for n in snapshot.inventory.norms if will_run(n, stack) is RunMode.TRAINING]


def _name(snapshot: ModelSnapshot) -> str:
    return f"the model {snapshot.inventory.model!r}"


def _some(paths: Sequence[str]) -> str:
    return some(tuple(dict.fromkeys(paths)))
