"""Train a model for a few steps under each policy for BN, on folds of the user's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.values.probe import Probe
from keras_bnguard.backends.values.trial_training import TrialTraining, trainable_norms
from keras_bnguard.data import tree
from keras_bnguard.data.batch import Batch
from keras_bnguard.inference.selection import make_forced_inference
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import NormKind
from keras_bnguard.statistics.moments import InputMoments, pool

FROZEN, RECALIBRATED, LIVE = POLICIES = ("frozen", "recalibrated", "live")

# A moving statistic whose start weighs less than this is made of the trial's batches.
FORGOTTEN = 0.05


@dataclass(frozen=True)
class Length:
    """steps: of each trial. planned: of the training it stands for. batch: rows per step."""

    steps: int
    planned: int
    batch: int


@dataclass(frozen=True)
class Held:
    """What the model said about rows it was not trained on: one fold under one policy.

    rows: their places in the data. outputs: as the model gives them. untrained: the same
    before the trial's first step.
    """

    rows: np.ndarray
    outputs: Any
    untrained: Any


class Trials:
    """Runs trials of one model; everything is put back when the context manager is left.

    Args:
        survey: the model. paths: the BN the policies are about; others do as their flags say.
        data: all rows. length: how long to train.
    """

    def __init__(
        self, snapshot: ModelSnapshot, paths: Sequence[str], data: Batch, length: Length
    ) -> None:
        self._snapshot, self._data, self._length = snapshot, data, length
        self._backend, self._model = snapshot.backend, snapshot.model
        self._handles = {h.path: h for h in snapshot.handles if h.path in set(paths)}
        self._inference = make_forced_inference(
            snapshot, tuple(paths), obey_graph=False, stop_leaks=False
        )
        keras_layers = [h.layer for h in self._handles.values() if h.kind is NormKind.KERAS]
        self._live = trainable_norms(keras_layers)
        self._predict = Probe(self._backend, self._model, [])
        chosen = list(self._handles.values())
        self._moments = Probe(self._backend, self._model, chosen, frozenset(self._handles))
        self._rehearsal = TrialTraining(self._backend, self._model)

    def __enter__(self) -> Trials:
        self._rehearsal.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._rehearsal.__exit__(*exception)

    def run(self, train: np.ndarray, test: np.ndarray, seed: int) -> Dict[str, Held]:
        """One trial of each policy on the same rows in the same order.

        Args:
            train, test: places of rows. seed: of the order of the batches and of the process.
        """
        found = {}
        for policy in POLICIES:
            self._rehearsal.rewind(seed)
            if policy == RECALIBRATED:
                self._store(self._population(train))
            untrained = self._outputs(test)
            self._train(policy, train, seed)
            if policy == LIVE and self._length.planned > self._length.steps:
                self._go_on(train)
            found[policy] = Held(test, self._outputs(test), untrained)
        return found

    def _train(self, policy: str, rows: np.ndarray, seed: int) -> None:
        name, held = ("live", self._live) if policy == LIVE else ("inference", self._inference)
        with self._rehearsal.step(name, held) as train_on_batch:
            for chosen in _orders(rows, self._length, seed):
                batch = self._data.take(chosen)
                train_on_batch(batch.x, batch.y, sample_weight=batch.sample_weight)

    def _go_on(self, rows: np.ndarray) -> None:
        """Bring live statistics to where the rest of the planned training would bring them.

        After k more steps a moving statistic is momentum^k times itself plus (1 - momentum^k)
        times the average it runs towards, here the population's under the trained weights.
        Statistics that have forgotten their start within the trial stay as they are: they
        show how far they lag behind weights that move.
        """
        length = self._length
        left = length.planned - length.steps
        momenta = {p: float(h.settings["momentum"] or 0.0) for p, h in self._handles.items()}
        if all(momentum**length.steps < FORGOTTEN for momentum in momenta.values()):
            return
        blended = {}
        for path, item in self._population(rows).items():
            if momenta[path] ** length.steps < FORGOTTEN:
                continue
            share = momenta[path] ** left
            now = self._backend.values.state(self._handles[path], affine=False)
            blended[path] = InputMoments(
                path,
                share * np.asarray(now.mean, float) + (1.0 - share) * item.mean,
                share * np.asarray(now.variance, float) + (1.0 - share) * item.variance,
                item.count,
            )
        self._store(blended)

    def _population(self, rows: np.ndarray) -> Mapping[str, InputMoments]:
        gathered: List[InputMoments] = []
        for start in range(0, len(rows), self._length.batch):
            chosen = rows[start : start + self._length.batch]
            # A short last batch would mean one more compiled function for a few rows.
            if start and len(chosen) < self._length.batch:
                break
            gathered += self._moments(self._data.take(chosen).x).moments
        return pool(gathered)

    def _store(self, moments: Mapping[str, InputMoments]) -> None:
        for path, item in moments.items():
            mean, variance, _, _ = self._handles[path].vectors()
            self._backend.values.assign(mean, item.mean.astype(np.float32))
            self._backend.values.assign(variance, item.variance.astype(np.float32))

    def _outputs(self, rows: np.ndarray) -> Any:
        size = max(self._length.batch, 128)
        parts = [
            self._predict(self._data.take(rows[start : start + size]).x).outputs
            for start in range(0, len(rows), size)
        ]
        return tree.join(parts)


def cut_folds(
    rows: int, count: int, repeats: int, seed: int
) -> List[Tuple[np.ndarray, np.ndarray]]:
    """(rows to train on, rows to score) `count` times for each repeat, folds of equal size."""
    generator = np.random.default_rng(seed)
    size, found = rows // count, []
    for _ in range(repeats):
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


__all__ = ["FROZEN", "LIVE", "POLICIES", "RECALIBRATED", "Held", "Length", "Trials", "cut_folds"]
