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
from keras_bnguard.model.expected_mode import INFERENCE, meant
from keras_bnguard.model.snapshot import Survey, take_inventory
from keras_bnguard.records import NormState
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
    _survey: Survey
    undone: bool = False

    @property
    def paths(self) -> Tuple[str, ...]:
        """The BN that got new statistics."""
        return tuple(self.after)

    def undo(self) -> None:
        """Put the statistics back, bit for bit; a second call does nothing."""
        if not self.undone:
            _assign(self._survey, self.before)
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
    held: Collection[str] = (),
) -> Recalibration:
    """`recalibrate`, knowing of more BN that were held in inference mode: paths in `held`."""
    check_mode(mode)
    survey = take_inventory(model, held={*held, *forced_paths(model)})
    survey.engine.sync(model)
    chosen = _chosen(survey, select)
    source = Batches(data, batch_size=batch_size, limit=batches)
    for batch in source:
        check_shapes(model, batch)
        break
    handles = {h.path: h for h in survey.handles if h.path in chosen}
    before = {path: survey.engine.state(h, affine=False) for path, h in handles.items()}
    try:
        if mode == "one-pass":
            pooled = _one_pass(survey, list(handles.values()), source)
            _store(survey, handles, pooled)
        else:
            pooled = _sequential(survey, handles, source)
    except BaseException:
        _assign(survey, before)
        raise
    after = {path: survey.engine.state(handles[path], affine=False) for path in pooled}
    return Recalibration(
        before={path: before[path] for path in pooled},
        after=after,
        values={path: item.count for path, item in pooled.items()},
        mode=mode,
        _survey=survey,
    )


def _chosen(survey: Survey, select: Optional[Selectors]) -> Tuple[str, ...]:
    if select is not None:
        return choose_norms(survey, select)
    return tuple(
        norm.path
        for norm in survey.inventory.norms
        if norm.built and norm.kind != "variables" and meant(norm)[0] != INFERENCE
    )


def _one_pass(
    survey: Survey, handles: List[NormHandle], source: Batches
) -> Dict[str, InputMoments]:
    by_batch = frozenset(h.path for h in handles)
    probe = Probe(survey.engine, survey.model, handles, by_batch)
    gathered: List[InputMoments] = []
    for batch in source:
        gathered += probe(batch.x).moments
    return pool(gathered)


def _sequential(
    survey: Survey, handles: Mapping[str, NormHandle], source: Batches
) -> Dict[str, InputMoments]:
    order: List[str] = []
    probe = Probe(survey.engine, survey.model, list(handles.values()))
    for batch in source:
        order = list(dict.fromkeys(m.path for m in probe(batch.x).moments))
        break
    done: Dict[str, InputMoments] = {}
    for path in order:
        single = Probe(survey.engine, survey.model, [handles[path]])
        gathered: List[InputMoments] = []
        for batch in source:
            gathered += single(batch.x).moments
        pooled = pool(gathered)
        _store(survey, handles, pooled)
        done.update(pooled)
    return done


def _store(
    survey: Survey, handles: Mapping[str, NormHandle], pooled: Mapping[str, InputMoments]
) -> None:
    for path, item in pooled.items():
        mean, variance, _, _ = handles[path].vectors()
        survey.engine.assign(mean, item.mean.astype(np.float32))
        survey.engine.assign(variance, item.variance.astype(np.float32))


def _assign(survey: Survey, states: Mapping[str, NormState]) -> None:
    handles = {h.path: h for h in survey.handles}
    for path, state in states.items():
        mean, variance, _, _ = handles[path].vectors()
        if state.mean is not None and state.variance is not None:
            survey.engine.assign(mean, state.mean)
            survey.engine.assign(variance, state.variance)
