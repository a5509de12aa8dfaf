"""The same batches with BN in training mode and in inference mode: the two must agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from keras_bnguard.arguments import check_flag, short_traceback
from keras_bnguard.backends.graph_mode import require_eager
from keras_bnguard.backends.values.probe import ProbeKind
from keras_bnguard.backends.values.restore import observing
from keras_bnguard.data.all_processes import AllProcesses
from keras_bnguard.data.batches import Batches
from keras_bnguard.data.kept_probes import probe_of
from keras_bnguard.data.model_inputs import check_built, check_inputs
from keras_bnguard.data.progress import Verbose, check_verbose, progress
from keras_bnguard.data.scores import Metric, scores
from keras_bnguard.errors import DataError, SettingError
from keras_bnguard.model.expected_mode import will_run
from keras_bnguard.model.forced_inference import mark_forced_inference
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import NormKind, RunMode
from keras_bnguard.records.shown import Shown
from keras_bnguard.statistics.uncertainty import standard_error


@dataclass(frozen=True, repr=False)
class ModeGap(Shown):
    """What `mode_gap` measured.

    Attributes:
        training: name -> mean over the batches, weighted by their rows, with BN in training mode.
            "loss" is the compiled loss without regularization; "accuracy" is there for
            classification.
        inference: the same with BN in inference mode.
        standard_error: name -> standard error over batches of (inference - training).
        rows: rows that were run.
        batches: batches that were run.
        norms: number of BN in the model.
    """

    training: Mapping[str, float]
    inference: Mapping[str, float]
    standard_error: Mapping[str, float]
    rows: int
    batches: int
    norms: int

    def gap(self, name: str = "loss") -> float:
        """Inference mode minus training mode.

        Args:
            name: "loss", "accuracy" or a metric. Defaults to "loss".

        Raises:
            KeyError: no such name was measured.
        """
        return self.inference[name] - self.training[name]

    def _summary(self) -> str:
        return (
            f"loss {self.training['loss']:.4g} with BN in training mode, "
            f"{self.inference['loss']:.4g} in inference mode, difference {self.gap():.4g} +- "
            f"{self.standard_error['loss']:.2g}, {self.rows} rows"
        )

    def __str__(self) -> str:
        lines = [
            f"{self.rows} rows in {self.batches} batches, {self.norms} BN",
            f"{'':12s}{'BN training':>14s}{'BN inference':>14s}{'difference':>14s}{'+-':>10s}",
        ]
        for name in self.training:
            lines.append(
                f"{name:12s}{self.training[name]:14.4f}{self.inference[name]:14.4f}"
                f"{self.gap(name):14.4f}{self.standard_error[name]:10.4f}"
            )
        return "\n".join(lines)


@short_traceback
def mode_gap(
    model: Any,
    data: Any,
    *,
    metrics: Optional[Mapping[str, Metric]] = None,
    batch_size: int = 32,
    max_batches: int = 32,
    verbose: Verbose = "auto",
    all_rows_on_every_worker: bool = False,
) -> ModeGap:
    """Measure loss and metrics of the same batches with BN in training and in inference mode.

    Only BN changes mode: Dropout and augmentation are off in both, so they open no gap. BN that
    `fit` runs in inference mode, frozen or forced, does so in both. Nothing of the model is
    changed: no weight, metric, seed or moving statistic.

    Args:
        model: a built and compiled Keras model.
        data: arrays, (x, y), a dataset, a loader, a list of batches, or a function that returns an
            iterator of batches; docs/data-rules.md lists every kind. With labels.
        metrics: name -> function of (y, outputs) as NumPy. Defaults to None: loss and accuracy.
        batch_size: rows per batch where data is arrays; use the one of training. Defaults to 32.
        max_batches: how many batches at most. Defaults to 32.
        verbose: as in `fit`: 0 is silent, 1 a progress bar, 2 one line at the end. Defaults to
            "auto": a bar on a terminal and in a notebook.
        all_rows_on_every_worker: counts where several processes train one model. False
            (default): each process calls this with its part of the rows, and all get the result
            of all rows. True: each process that calls this has all rows and waits for no other.

    Returns:
        A `ModeGap`; print it for a table.

    Raises:
        DataError: no labels, a model without a loss, data of another shape, or data that cannot be
            read or can be read only once, in any process.
        SettingError: several processes that nothing connects.
        UnsupportedModelError: `model` is no Keras model, or TensorFlow runs in graph mode.
    """
    shown = check_verbose(verbose)
    if metrics is not None and not isinstance(metrics, Mapping):
        raise SettingError(
            f"metrics={metrics!r}: expected a mapping from a name to a function of (y, outputs)."
        )
    check_flag("all_rows_on_every_worker", all_rows_on_every_worker)
    require_eager(model, "mode_gap")
    snapshot = take_snapshot(model)
    check_built(model, "mode_gap")
    mark_forced_inference(snapshot)
    snapshot.backend.values.sync(model)
    stack = snapshot.inventory.stack
    trainable = frozenset(
        n.path
        for n in snapshot.inventory.norms
        if n.built and n.kind is not NormKind.VARIABLES and will_run(n, stack) is RunMode.TRAINING
    )
    processes = AllProcesses(model, all_rows_on_every_worker, "mode_gap")
    source = Batches(data, batch_size=batch_size, limit=max_batches)
    in_training = probe_of(snapshot, snapshot.handles, ProbeKind(by_batch=trainable))
    in_inference = probe_of(snapshot, snapshot.handles)

    def local() -> List[Tuple[int, List[Dict[str, float]]]]:
        """Of each batch its rows, and the scores in training and in inference mode."""
        done = []
        with observing(snapshot.backend, model) as state:
            for batch in progress(snapshot.backend.keras, source, shown, source.count, "batch"):
                check_inputs(model, batch)
                if batch.y is None or getattr(model, "loss", None) is None:
                    raise DataError(
                        "mode_gap needs labels and a compiled loss: pass (x, y) and call "
                        "model.compile first."
                    )
                both = []
                for probe in (in_training, in_inference):
                    state.rewind()
                    both.append(dict(scores(snapshot, batch, probe(batch.x).outputs, metrics)))
                done.append((batch.rows, both))
        return done

    batches = [each for part in processes.run(local) for each in part]
    rows = [count for count, _ in batches]
    found = {
        name: [(both[0][name], both[1][name]) for _, both in batches] for name in batches[0][1][0]
    }
    weights = np.array(rows, float) / sum(rows)
    pairs = {name: np.array(values) for name, values in found.items()}
    return ModeGap(
        training={name: float(weights @ value[:, 0]) for name, value in pairs.items()},
        inference={name: float(weights @ value[:, 1]) for name, value in pairs.items()},
        standard_error={name: standard_error(v[:, 1] - v[:, 0]) for name, v in pairs.items()},
        rows=sum(rows),
        batches=len(rows),
        norms=len(snapshot.handles),
    )
