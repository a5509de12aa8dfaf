"""Recompute the moving statistics of BN over data: exact population mean and variance.

PreciseBN of Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3; AdaBN of Li
et al. 2016 when the data is that of a new domain.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from enum import Enum
from typing import Any, Collection, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from keras_bnguard.arguments import check_flag, short_traceback
from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.graph_mode import require_eager
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.values.probe import ProbeKind
from keras_bnguard.backends.values.restore import observing
from keras_bnguard.data.all_processes import AllProcesses
from keras_bnguard.data.batch import Batch
from keras_bnguard.data.batches import Batches
from keras_bnguard.data.kept_probes import probe_of
from keras_bnguard.data.model_inputs import check_built, check_inputs
from keras_bnguard.data.population import assign_moments, population_moments
from keras_bnguard.data.progress import Verbose, check_verbose, progress
from keras_bnguard.errors import SettingError
from keras_bnguard.model.expected_mode import expected_mode
from keras_bnguard.model.forced_inference import mark_forced_inference
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.recalibration.checks import check_moments, check_visible
from keras_bnguard.recalibration.saved_statistics import SavedStatistics
from keras_bnguard.records import ExpectedMode, NormKind, NormState
from keras_bnguard.records.shown import Shown
from keras_bnguard.selectors import Selectors, check_layers
from keras_bnguard.statistics.moments import InputMoments


class RecalibrationMode(Enum):
    """How the moments of the data are gathered; the values are what users pass."""

    ONE_PASS = "one-pass"
    SEQUENTIAL = "sequential"

    @classmethod
    def of(cls, value: str) -> RecalibrationMode:
        """The mode of this name.

        Raises:
            SettingError: there is none.
        """
        try:
            return cls(value)
        except ValueError:
            names = ", ".join(repr(mode.value) for mode in cls)
            raise SettingError(f"mode={value!r}: expected one of {names}.") from None


@dataclass(frozen=True)
class RecalibrationPlan:
    """What to recalibrate, and over how much of the data.

    Attributes:
        layers: selectors of BN, None for those that are meant to train.
        mode: how the moments are gathered.
        batch_size: rows per batch where the data is arrays.
        max_batches: batches at most, None for all.
        all_rows_on_every_worker: of several processes each has all rows, not a part of them.
    """

    layers: Optional[Selectors]
    mode: RecalibrationMode
    batch_size: int
    max_batches: Optional[int]
    all_rows_on_every_worker: bool = False

    @classmethod
    def of(
        cls,
        layers: Optional[Selectors],
        mode: str,
        batch_size: int,
        max_batches: Optional[int],
        all_rows_on_every_worker: bool,
    ) -> RecalibrationPlan:
        """The plan of what a user passes, if it can be right."""
        if layers is not None:
            check_layers(layers)
        known = check_flag("all_rows_on_every_worker", all_rows_on_every_worker)
        return cls(layers, RecalibrationMode.of(mode), batch_size, max_batches, known)


@dataclass(repr=False)
class Recalibration(Shown):
    """What `recalibrate` did; `undo()` reverts it.

    Attributes:
        after: path -> new mean and variance, float32, shape `(channels,)`.
        values: path -> number of values per channel that the new statistics were taken over.
        mode: "one-pass" or "sequential".
        undone: whether `undo` was called.
    """

    after: Mapping[str, NormState]
    values: Mapping[str, float]
    mode: str
    _saved: SavedStatistics
    undone: bool = False

    @property
    def before(self) -> Mapping[str, NormState]:
        """Path -> old mean and variance, float32, shape `(channels,)`."""
        return self._saved.states

    @property
    def paths(self) -> Tuple[str, ...]:
        """The BN that got new statistics."""
        return tuple(self.after)

    def _summary(self) -> str:
        undone = ", undone" if self.undone else "; undo() restores the old statistics"
        return f"{len(self.after)} BN, {self.mode}{undone}"

    def __str__(self) -> str:
        width = max([len(path) for path in self.after] + [8])
        lines = [f"{'BN layer':{width}s}{'values':>10s}{'mean shift':>12s}{'log variance':>14s}"]
        for path, new in self.after.items():
            old = self.before[path]
            shift, change = _largest_change(old, new)
            values = f"{self.values[path]:.0f}"
            lines.append(f"{path:{width}s}{values:>10s}{shift:12.3g}{change:14.3g}")
        lines.append(
            "largest change of a channel: mean in old standard deviations, variance as log"
        )
        return "\n".join(lines)

    def undo(self) -> None:
        """Restore the old statistics, bit for bit; a second call does nothing."""
        if not self.undone:
            self._saved.restore()
            self.undone = True


def _largest_change(old: NormState, new: NormState) -> Tuple[float, float]:
    """Shift of the mean and absolute log ratio of the variance, of the channel with most."""
    if old.mean is None or old.variance is None or new.mean is None or new.variance is None:
        return float("nan"), float("nan")
    with np.errstate(all="ignore"):
        shift = np.abs(new.mean - old.mean) / np.sqrt(np.abs(old.variance))
        change = np.abs(np.log(np.abs(new.variance / old.variance)))
    return float(np.max(shift, initial=0.0)), float(np.max(change, initial=0.0))


@short_traceback
def recalibrate(
    model: Any,
    data: Any,
    *,
    layers: Optional[Selectors] = None,
    mode: str = "one-pass",
    batch_size: int = 32,
    max_batches: Optional[int] = None,
    verbose: Verbose = "auto",
    all_rows_on_every_worker: bool = False,
) -> Recalibration:
    """Set moving mean and variance to the population mean and variance over data.

    This is PreciseBN (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3), and
    AdaBN (Li et al. 2016) where the data is that of a new domain.

    Args:
        model: a built Keras model.
        data: arrays, (x, y), a dataset, a loader, a list of batches, or a function that returns an
            iterator of batches; docs/data-rules.md lists every kind. Labels are not used.
        layers: which BN: a glob on paths, "re:...", a class, a predicate, or a list of these.
            Defaults to None: every BN that is meant to train; frozen BN keep their statistics.
        mode: "one-pass" (default): all chosen BN normalize with batch statistics while the
            moments of their inputs are gathered, one pass over the data, as PreciseBN does.
            "sequential": one pass per BN, each with those before it already recalibrated and
            in inference mode; exact for how the model is used afterwards.
        batch_size: rows per batch where data is arrays. Defaults to 32.
        max_batches: how many batches at most. Defaults to None: all.
        verbose: as in `fit`: 0 is silent, 1 a progress bar, 2 one line at the end. Defaults to
            "auto": a bar on a terminal and in a notebook.
        all_rows_on_every_worker: counts where several processes train one model. False
            (default): each process calls this with its part of the rows, and counts, means and
            variances are pooled over the processes; all get the statistics of all rows. True:
            each process that calls this has all rows and waits for no other.

    Returns:
        A `Recalibration` whose `undo()` restores the old statistics. The variance is the
        biased one, pooled over batches weighted by their size, as Keras stores it.

    Raises:
        SettingError: unknown mode; several processes that nothing connects.
        SelectorError: `layers` matches no BN.
        DataError: data that can be read only once, never ends, is empty or has another shape, or
            gives NaN or infinite moments or a single value a channel, in any process; the
            statistics stay as they are.
        BNGuardWarning: `layers` is None and no BN is meant to train, so that nothing changes.
        UnsupportedModelError: `model` is no Keras model or not built, BN is in the cell of a
            recurrent layer, or TensorFlow runs in graph mode.

    Example:
        bng.recalibrate(model, x_new, layers="backbone/*")
    """
    plan = RecalibrationPlan.of(layers, mode, batch_size, max_batches, all_rows_on_every_worker)
    done = run_plan(model, data, plan, verbose=check_verbose(verbose))
    if not done.after:
        warn_user(
            "recalibrate changed nothing: no BN of the model is meant to train, and frozen BN keep "
            'their statistics. Name those that should change: layers="*" for all.'
        )
    return done


def run_plan(
    model: Any,
    data: Any,
    plan: RecalibrationPlan,
    forced_inference: Collection[str] = (),
    verbose: int = 0,
) -> Recalibration:
    """Recalibrate a model by a plan.

    Args:
        model: a built Keras model.
        data: anything `recalibrate` takes.
        plan: what to do.
        forced_inference: paths of BN that were forced into inference mode and no longer are; they
            count as frozen.
        verbose: 0 is silent, 1 a progress bar, 2 one line. Defaults to 0.

    Raises:
        SelectorError: the plan's layers match no BN.
        DataError: data that can be read only once, is empty or has another shape.
    """
    require_eager(model, "recalibrate")
    snapshot = take_snapshot(model)
    check_built(model, "recalibrate")
    mark_forced_inference(snapshot)
    snapshot.mark_forced(forced_inference)
    snapshot.backend.values.sync(model)
    chosen = _chosen_paths(snapshot, plan.layers)
    check_visible(snapshot, chosen)
    processes = AllProcesses(model, plan.all_rows_on_every_worker, "recalibrate")
    source = processes.check(lambda: _source(model, data, plan))
    handles = {h.path: h for h in snapshot.handles if h.path in chosen}
    saved = SavedStatistics.of(snapshot, chosen)
    with contextlib.ExitStack() as after_an_error:
        after_an_error.callback(saved.restore)
        with observing(snapshot.backend, model):
            if plan.mode is RecalibrationMode.ONE_PASS:
                shown = progress(snapshot.backend.keras, source, verbose, source.count, "batch")
                pooled = _one_pass(snapshot, list(handles.values()), shown, processes)
            else:
                pooled = _sequential(snapshot, handles, source, processes, verbose)
        check_moments(pooled)
        assign_moments(snapshot, pooled)
        after_an_error.pop_all()
    return Recalibration(
        after=SavedStatistics.of(snapshot, pooled).states,
        values={path: item.count for path, item in pooled.items()},
        mode=plan.mode.value,
        _saved=saved.only(pooled),
    )


def _source(model: Any, data: Any, plan: RecalibrationPlan) -> Batches:
    source = Batches(data, batch_size=plan.batch_size, limit=plan.max_batches)
    for batch in source:
        check_inputs(model, batch)
        break
    return source


def _chosen_paths(snapshot: ModelSnapshot, layers: Optional[Selectors]) -> Tuple[str, ...]:
    if layers is not None:
        return snapshot.select_norms(layers)
    return tuple(
        norm.path
        for norm in snapshot.inventory.norms
        if norm.built
        and norm.kind is not NormKind.VARIABLES
        and expected_mode(norm)[0] is ExpectedMode.TRAINING
    )


def _one_pass(
    snapshot: ModelSnapshot,
    handles: List[NormHandle],
    source: Iterable[Batch],
    processes: AllProcesses,
) -> Dict[str, InputMoments]:
    kind = ProbeKind(by_batch=frozenset(h.path for h in handles), outputs=False)
    return population_moments(probe_of(snapshot, handles, kind), source, processes)


def _sequential(
    snapshot: ModelSnapshot,
    handles: Mapping[str, NormHandle],
    source: Batches,
    processes: AllProcesses,
    verbose: int,
) -> Dict[str, InputMoments]:
    kind = ProbeKind(outputs=False)
    probe = probe_of(snapshot, list(handles.values()), kind)
    first = processes.run(lambda: [m.path for m in probe(next(iter(source)).x).moments])
    order = list(dict.fromkeys(path for part in first for path in part))
    done: Dict[str, InputMoments] = {}
    for path in progress(snapshot.backend.keras, order, verbose, len(order), "layer"):
        pooled = population_moments(probe_of(snapshot, [handles[path]], kind), source, processes)
        assign_moments(snapshot, pooled)
        done.update(pooled)
    return done
