"""Recompute the moving statistics of BN over data: exact population mean and variance.

PreciseBN of Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3; AdaBN of Li
et al. 2016 when the data is that of a new domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Collection, Dict, List, Mapping, Optional, Tuple

import numpy as np

from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.values.probe import InputMoments, Probe, pool
from keras_bnguard.data.batches import Batches, check_shapes
from keras_bnguard.errors import SettingError
from keras_bnguard.inference.selection import choose_norms, forced_paths
from keras_bnguard.model.expected_mode import expected_mode
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.records import ExpectedMode, NormKind, NormState
from keras_bnguard.selectors import Selectors

MODES = ("one-pass", "sequential")


@dataclass
class Recalibration:
    """What `recalibrate` did, and the way back.

    before, after: path -> mean and variance, float32, shape `(channels,)`.
    values: path -> number of values per channel the new statistics were taken over.
    """

    before: Mapping[str, NormState]
    after: Mapping[str, NormState]
    values: Mapping[str, float]
    mode: str
    _snapshot: ModelSnapshot
    undone: bool = False

    @property
    def paths(self) -> Tuple[str, ...]:
        """The BN that got new statistics."""
        return tuple(self.after)

    def undo(self) -> None:
        """Put the statistics back, bit for bit; a second call does nothing."""
        if not self.undone:
            _assign(self._snapshot, self.before)
            self.undone = True


def recalibrate(
    model: Any,
    data: Any,
    *,
    select: Optional[Selectors] = None,
    mode: str = "one-pass",
    batch_size: int = 32,
    batches: Optional[int] = None,
) -> Recalibration:
    """Set moving mean and variance to the population mean and variance over data.

    Args:
        model: a built Keras model.
        data: anything `fit` takes that can be read again: arrays, (x, y), tf.data, PyDataset,
            DataLoader, a list of batches. Labels are not used.
        select: which BN: a glob on paths, "re:...", a class, a predicate, or a list of these.
            Defaults to None: every BN that is meant to train; those you froze are left alone.
        mode: "one-pass" (default): all chosen BN normalise by the batch while the moments of
            their inputs are gathered, one pass over the data, as PreciseBN does.
            "sequential": one pass per BN, each with those before it already recalibrated and
            in inference mode; exact for how the model is used afterwards.
        batch_size: rows per batch where data is arrays. batches: how many at most; None: all.

    Returns:
        A `Recalibration` whose `undo()` puts the old statistics back. The variance is the
        biased one, pooled over batches weighted by their size, as Keras stores it.

    Raises:
        SettingError: unknown mode. SelectorError: `select` matches no BN.
        DataError: data that can be read only once, is empty or has another shape.
    """
    return recalibrate_unheld(
        model, data, select=select, mode=mode, batch_size=batch_size, batches=batches
    )


def check_mode(mode: str) -> None:
    """Refuse a mode that does not exist."""
    if mode not in MODES:
        raise SettingError(f"mode={mode!r}: expected one of {', '.join(MODES)}.")


def recalibrate_unheld(
    model: Any,
    data: Any,
    *,
    select: Optional[Selectors],
    mode: str,
    batch_size: int,
    batches: Optional[int],
    forced_inference: Collection[str] = (),
) -> Recalibration:
    """`recalibrate`, knowing of more BN that were held in inference mode: paths in `held`."""
    check_mode(mode)
    snapshot = take_snapshot(model, forced_inference={*forced_inference, *forced_paths(model)})
    snapshot.backend.values.sync(model)
    chosen = _chosen(snapshot, select)
    source = Batches(data, batch_size=batch_size, limit=batches)
    for batch in source:
        check_shapes(model, batch)
        break
    handles = {h.path: h for h in snapshot.handles if h.path in chosen}
    before = {path: snapshot.backend.values.state(h, affine=False) for path, h in handles.items()}
    try:
        if mode == "one-pass":
            pooled = _one_pass(snapshot, list(handles.values()), source)
            _store(snapshot, handles, pooled)
        else:
            pooled = _sequential(snapshot, handles, source)
    except BaseException:
        _assign(snapshot, before)
        raise
    after = {path: snapshot.backend.values.state(handles[path], affine=False) for path in pooled}
    return Recalibration(
        before={path: before[path] for path in pooled},
        after=after,
        values={path: item.count for path, item in pooled.items()},
        mode=mode,
        _snapshot=snapshot,
    )


def _chosen(snapshot: ModelSnapshot, select: Optional[Selectors]) -> Tuple[str, ...]:
    if select is not None:
        return choose_norms(snapshot, select)
    return tuple(
        norm.path
        for norm in snapshot.inventory.norms
        if norm.built
        and norm.kind is not NormKind.VARIABLES
        and expected_mode(norm)[0] is ExpectedMode.TRAINING
    )


def _one_pass(
    snapshot: ModelSnapshot, handles: List[NormHandle], source: Batches
) -> Dict[str, InputMoments]:
    by_batch = frozenset(h.path for h in handles)
    probe = Probe(snapshot.backend, snapshot.model, handles, by_batch)
    gathered: List[InputMoments] = []
    for batch in source:
        gathered += probe(batch.x).moments
    return pool(gathered)


def _sequential(
    snapshot: ModelSnapshot, handles: Mapping[str, NormHandle], source: Batches
) -> Dict[str, InputMoments]:
    order: List[str] = []
    probe = Probe(snapshot.backend, snapshot.model, list(handles.values()))
    for batch in source:
        order = list(dict.fromkeys(m.path for m in probe(batch.x).moments))
        break
    done: Dict[str, InputMoments] = {}
    for path in order:
        single = Probe(snapshot.backend, snapshot.model, [handles[path]])
        gathered: List[InputMoments] = []
        for batch in source:
            gathered += single(batch.x).moments
        pooled = pool(gathered)
        _store(snapshot, handles, pooled)
        done.update(pooled)
    return done


def _store(
    snapshot: ModelSnapshot, handles: Mapping[str, NormHandle], pooled: Mapping[str, InputMoments]
) -> None:
    for path, item in pooled.items():
        mean, variance, _, _ = handles[path].vectors()
        snapshot.backend.values.assign(mean, item.mean.astype(np.float32))
        snapshot.backend.values.assign(variance, item.variance.astype(np.float32))


def _assign(snapshot: ModelSnapshot, states: Mapping[str, NormState]) -> None:
    handles = {h.path: h for h in snapshot.handles}
    for path, state in states.items():
        mean, variance, _, _ = handles[path].vectors()
        if state.mean is not None and state.variance is not None:
            snapshot.backend.values.assign(mean, state.mean)
            snapshot.backend.values.assign(variance, state.variance)
