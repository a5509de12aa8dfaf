"""Train a model for a few steps under each policy for BN, on folds of the user's data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.values.probe import Probe, ProbeKind
from keras_bnguard.backends.values.trial_training import ForcedTraining, TrialTraining
from keras_bnguard.data import tree
from keras_bnguard.data.batch import Batch
from keras_bnguard.data.population import assign_moments, population_moments
from keras_bnguard.inference.contexts import make_forced_inference
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import NormKind, Policy
from keras_bnguard.statistics.moments import InputMoments

# A moving statistic whose initial value weighs less than this consists of the trial's batches.
NEGLIGIBLE = 0.05
ROWS_PREDICTED = 128
"""Rows per batch of a prediction, unless batches of training are larger."""


@dataclass(frozen=True)
class Length:
    """How long to train.

    Attributes:
        steps: of each trial.
        planned: of the training it stands for.
        batch: rows per step.
    """

    steps: int
    planned: int
    batch: int


@dataclass(frozen=True)
class FoldPredictions:
    """Outputs of the model for the held-out rows of one fold.

    Attributes:
        rows: their places in the data.
        untrained: policy -> outputs before the trial's first step.
        trained: policy -> outputs after it.
    """

    rows: np.ndarray
    untrained: Dict[Policy, Any] = field(default_factory=dict)
    trained: Dict[Policy, Any] = field(default_factory=dict)


class Trials:
    """Context manager that runs trials of one model and restores all of it when it is left.

    Args:
        snapshot: the model.
        paths: the BN that the policies are about; the others follow their flags.
        data: all rows.
        length: how long to train.
    """

    def __init__(
        self, snapshot: ModelSnapshot, paths: Sequence[str], data: Batch, length: Length
    ) -> None:
        self._snapshot, self._data, self._length = snapshot, data, length
        backend, model = snapshot.backend, snapshot.model
        self._handles = {h.path: h for h in snapshot.handles if h.path in set(paths)}
        chosen = list(self._handles.values())
        self._inference_mode = make_forced_inference(
            snapshot, tuple(paths), obey_graph=False, stop_leaks=False
        )
        self._training_mode = ForcedTraining([h.layer for h in chosen if h.kind is NormKind.KERAS])
        self._predict = Probe(backend, model, [])
        self._moments = Probe(backend, model, chosen, ProbeKind(frozenset(self._handles)))
        self._training = TrialTraining(backend, model)

    def __enter__(self) -> Trials:
        self._training.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._training.__exit__(*exception)

    def run(self, train: np.ndarray, test: np.ndarray, seed: int) -> FoldPredictions:
        """One trial of each policy on the same rows in the same order.

        Args:
            train: places of the rows to train on.
            test: places of the rows to predict.
            seed: of the order of the batches and of the process.
        """
        found = FoldPredictions(test)
        for policy in Policy:
            self._training.rewind(seed)
            if policy is Policy.RECALIBRATED:
                assign_moments(self._snapshot, self._population(train))
            found.untrained[policy] = self._outputs(test)
            self._train(policy, train, seed)
            if policy is Policy.TRAINABLE and self._length.planned > self._length.steps:
                self._extrapolate_statistics(train)
            found.trained[policy] = self._outputs(test)
        return found

    def _train(self, policy: Policy, rows: np.ndarray, seed: int) -> None:
        training_mode = policy is Policy.TRAINABLE
        name = "training mode" if training_mode else "inference mode"
        mode = self._training_mode if training_mode else self._inference_mode
        with self._training.step(name, mode) as train_on_batch:
            for chosen in _orders(rows, self._length, seed):
                batch = self._data.take(chosen)
                train_on_batch(batch.x, batch.y, sample_weight=batch.sample_weight)

    def _extrapolate_statistics(self, rows: np.ndarray) -> None:
        """Bring moving statistics to where the rest of the planned training would bring them.

        After k more steps a moving statistic is momentum^k times itself plus (1 - momentum^k)
        times the average it approaches, here the population's under the trained weights.
        Statistics whose initial value is negligible after the trial are kept: they show how far
        they are behind weights that change.
        """
        length, values = self._length, self._snapshot.backend.values
        momenta = {p: float(h.settings["momentum"] or 0.0) for p, h in self._handles.items()}
        if all(momentum**length.steps < NEGLIGIBLE for momentum in momenta.values()):
            return
        blended = {}
        for path, item in self._population(rows).items():
            if momenta[path] ** length.steps < NEGLIGIBLE:
                continue
            share = momenta[path] ** (length.planned - length.steps)
            now = values.state(self._handles[path], affine=False)
            blended[path] = InputMoments(
                path,
                share * np.asarray(now.mean, float) + (1.0 - share) * item.mean,
                share * np.asarray(now.variance, float) + (1.0 - share) * item.variance,
                item.count,
            )
        assign_moments(self._snapshot, blended)

    def _population(self, rows: np.ndarray) -> Mapping[str, InputMoments]:
        return population_moments(self._moments, self._full_batches(rows))

    def _full_batches(self, rows: np.ndarray) -> Iterator[Batch]:
        """All batches of training but a short last one, which would be compiled for few rows."""
        size = self._length.batch
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            if start and len(chosen) < size:
                return
            yield self._data.take(chosen)

    def _outputs(self, rows: np.ndarray) -> Any:
        size = max(self._length.batch, ROWS_PREDICTED)
        starts = range(0, len(rows), size)
        parts = [self._data.take(rows[start : start + size]) for start in starts]
        return tree.join([self._predict(part.x).outputs for part in parts])


def cut_folds(
    rows: int, count: int, n_repeats: int, seed: int
) -> List[Tuple[np.ndarray, np.ndarray]]:
    """Cut rows into folds of equal size, several times.

    Args:
        rows: number of rows.
        count: folds.
        n_repeats: how often.
        seed: of the order.

    Returns:
        (places to train on, places to score), `count * n_repeats` of them.
    """
    generator = np.random.default_rng(seed)
    size, found = rows // count, []
    for _ in range(n_repeats):
        order = generator.permutation(rows)
        for i in range(count):
            test = order[i * size : (i + 1) * size]
            found.append((np.setdiff1d(order, test), test))
    return found


def _orders(rows: np.ndarray, length: Length, seed: int) -> List[np.ndarray]:
    """Full batches of shuffled epochs, one per step."""
    generator = np.random.default_rng(seed)
    batches: List[np.ndarray] = []
    while len(batches) < length.steps:
        order = generator.permutation(rows)
        last = max(len(order) - length.batch, 0)
        batches += [
            order[start : start + length.batch] for start in range(0, last + 1, length.batch)
        ]
    return batches[: length.steps]
