"""Questions about BN layers and runs that several rules ask."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from keras_bnguard.records import (
    CallSite,
    DataFacts,
    DataPart,
    ExpectedMode,
    Inventory,
    MomentKind,
    NormInput,
    NormKind,
    NormLayer,
    OptimizerFacts,
    RunFacts,
    SkipKind,
    SkipReason,
    StatisticsChange,
)
from keras_bnguard.rules.thresholds import (
    MAX_LABELS_WITHIN,
    MAX_LOG_VARIANCE_RATIO,
    MAX_MEAN_SHIFT,
    MAX_SCALE,
    MAX_WITHIN,
    MIN_BATCHES,
)


def expects_inference(norm: NormLayer) -> bool:
    """Whether a BN must run in inference mode.

    True where a flag freezes it, where inference mode is forced, and where each of its graph
    calls carries `training=False`.
    """
    return norm.frozen or norm.forced_inference or called_with_false(norm)


def called_with_false(norm: NormLayer) -> bool:
    """Whether a BN has graph calls, and each of them carries `training=False`."""
    return bool(norm.calls) and all(call.training is False for call in norm.calls)


def uses_batch_at_inference(norm: NormLayer, inventory: Inventory) -> bool:
    """Whether a BN never uses its moving statistics: `training=True` in a graph that obeys it."""
    return (
        inventory.stack.behaviour.graph_true_at_inference
        and bool(norm.calls)
        and all(call.training is True for call in norm.calls)
    )


def calls_are_known(norm: NormLayer, inventory: Inventory, run: Optional[RunFacts]) -> bool:
    """Whether it is known how training calls a BN, so that a rule may speak of its mode.

    A functional graph shows it. The code of a subclassed model shows it at its first step; where
    that cannot be observed, statistics that change do. Outside training nothing better comes.
    """
    if run is None or inventory.functional or run.moment.kind is MomentKind.AUDIT:
        return True
    if run.called:
        return bool(sites_of(run, norm))
    return any(c.changed for c in run.statistics_changes if c.path == norm.path)


def passed_false(norm: NormLayer, run: Optional[RunFacts]) -> bool:
    """Whether each observed call of a BN passes `training=False`, at it or around it."""
    sites = sites_of(run, norm)
    return bool(sites) and all(site.explicit is False for site in sites)


def drops_training(norm: NormLayer) -> bool:
    """Whether a BN is a subclass that did not update although it was trainable.

    Measured on a fresh layer of the class, called with `training=True`.
    """
    return norm.kind is NormKind.KERAS and not norm.builtin and never_updates(norm)


def never_updates(norm: NormLayer) -> bool:
    """Whether a BN was measured not to update in training, whatever its flag: a subclass, or a
    torch module that is kept in eval mode."""
    return norm.behaviour is not None and not norm.behaviour.trainable_updates


def norms_of(inventory: Inventory) -> Dict[str, NormLayer]:
    """Every BN by each path that leads to it."""
    found = {alias: norm for norm in inventory.norms for alias in norm.aliases}
    found.update((norm.path, norm) for norm in inventory.norms)
    return found


def sites_of(run: Optional[RunFacts], norm: NormLayer) -> Tuple[CallSite, ...]:
    """How a BN was called in the observed step, under any of its paths; empty without a run."""
    if run is None:
        return ()
    paths = (norm.path, *norm.aliases)
    return tuple(site for path in paths for site in run.calls.get(path, ()))


def learning_norms(inventory: Inventory, run: Optional[RunFacts]) -> List[NormLayer]:
    """The BN that use batch statistics in training and update their moving statistics."""
    return [norm for norm in inventory.norms if not keeps_statistics(norm, run)]


def keeps_statistics(norm: NormLayer, run: Optional[RunFacts]) -> bool:
    """Whether a BN does not update its moving statistics, as far as flags and calls show.

    True also where only its variables are visible, so that its mode is not known.
    """
    sites = sites_of(run, norm)
    return (
        expects_inference(norm)
        or norm.kind is NormKind.VARIABLES
        or never_updates(norm)
        or norm.momentum == 1.0
        or (bool(sites) and all(site.arrived is False for site in sites))
    )


def unexplained_unchanged(inventory: Inventory, run: RunFacts) -> List[StatisticsChange]:
    """BN that should train, whose statistics did not change, and no fact explains it.

    BNG206 and BNG405 share it. Left out: statistics that are NaN or Inf, which stay so whatever
    the step does (BNG402), momentum 1.0, layers of which only variables are visible, a flag that
    the step ignores (BNG101), a subclass that drops `training` (BNG205), a leaked False
    (BNG203), `training=False` at every call site, and BN that the observed step did not run.
    """
    if run.steps < 1:
        return []
    norms = norms_of(inventory)
    changed_flags = {change.path for change in run.trainable_changes}
    found = []
    for change in run.statistics_changes:
        norm = norms.get(change.path)
        if norm is None or change.expected is not ExpectedMode.TRAINING or change.changed:
            continue
        sites = sites_of(run, norm)
        explained = (
            norm.kind is NormKind.VARIABLES
            or not {"moving_mean", "moving_variance"}.isdisjoint(change.nonfinite)
            or norm.path in changed_flags
            or (norm.momentum is not None and norm.momentum >= 1.0)
            or never_updates(norm)
            or any(site.leaked_from is not None for site in sites)
            or ((run.called or bool(sites)) and all(site.explicit is False for site in sites))
        )
        if not explained:
            found.append(change)
    return found


def step_is_in_doubt(run: RunFacts, optimizer: Optional[OptimizerFacts]) -> bool:
    """Whether the step in use may not follow the present flags.

    True where flags changed after `compile()` (BNG101) or the optimizer was built for other
    variables (BNG601). Those rules report it.
    """
    changed = any(change.explained_by is None for change in run.trainable_changes)
    return changed or (optimizer is not None and bool(optimizer.unknown))


def nothing_before(run: RunFacts) -> Optional[SkipReason]:
    """Why rules that compare with the previous phase cannot be judged; None where they can."""
    if run.before is None:
        return SkipReason(SkipKind.NOT_KNOWN, "no fit or phase of this model was seen before")
    return None


def no_step_yet(run: RunFacts) -> Optional[SkipReason]:
    """Why rules on changed statistics cannot be judged before the first step."""
    return None if run.steps > 0 else SkipReason(SkipKind.TOO_EARLY, "no training step ran yet")


def no_step_observed(run: Optional[RunFacts]) -> Optional[SkipReason]:
    """Why rules on calls cannot be judged before the first observed step."""
    if run is not None and run.called:
        return None
    return SkipReason(SkipKind.TOO_EARLY, "no training step was observed yet")


def does_not_fit(item: NormInput) -> bool:
    """Whether moving statistics do not describe what reaches the BN."""
    return item.finite and (
        item.mean_shift > MAX_MEAN_SHIFT or item.log_variance_ratio > MAX_LOG_VARIANCE_RATIO
    )


def scale_is_off(item: NormInput) -> bool:
    """Whether the variance of the data is off the moving variance by orders of magnitude."""
    return not 1 / MAX_SCALE <= item.variance_ratio <= MAX_SCALE


def inputs_by_path(data: Optional[DataFacts]) -> Dict[str, NormInput]:
    """What reached each BN, by path; empty without data."""
    return {item.path: item for item in data.norms} if data is not None else {}


def recalibrates(fit_settings: Optional[Mapping[str, Any]]) -> bool:
    """Whether a callback of this `fit` recomputes the statistics at the end of training."""
    return bool((fit_settings or {}).get("recalibrates"))


def not_measured(data: Optional[DataFacts], part: DataPart) -> Optional[SkipReason]:
    """Why a part of the data facts was not measured; None where it was."""
    why = None if data is None else data.missing.get(part)
    return SkipReason(SkipKind.NOT_MEASURED, why) if why else None


def unshuffled(data: DataFacts, item: Optional[NormInput] = None) -> bool:
    """Whether batches show that rows do not come in random order; see BNG505."""
    labels = data.labels
    if not data.ordered or data.batches < MIN_BATCHES or data.full_rows < 4:
        return False
    if labels is not None:
        if labels.n_classes == 1:
            return labels.one_hot_width >= 3 and data.rows >= 128
        if labels.within_batch_variance_ratio < MAX_LABELS_WITHIN * (1 - 1 / data.full_rows):
            return True
    return (
        item is not None
        and item.finite
        and item.within_batch_variance_ratio < MAX_WITHIN * (1 - 1 / data.full_rows)
    )


def misfit_after(item: NormInput, left: float, epsilon: float) -> Tuple[float, float]:
    """How far statistics are off when a share `left` of their present values remains.

    Returns:
        Medians over channels of the mean shift, in standard deviations of the data, and of the
        absolute log variance ratio.
    """
    parts = (item.mean, item.variance, item.moving_mean, item.moving_variance)
    if not item.finite or any(part is None for part in parts):
        return 0.0, 0.0
    mean, variance, moving_mean, moving_variance = (np.asarray(p, np.float64) for p in parts)
    ends = left * moving_variance + (1 - left) * variance
    shift = left * np.abs(mean - moving_mean) / np.sqrt(variance + epsilon)
    ratio = np.abs(np.log((ends + epsilon) / (variance + epsilon)))
    return float(np.median(shift)), float(np.median(ratio))
