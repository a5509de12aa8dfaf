"""Resolve a schedule against a model: which layers train, which BN are held, in each phase."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Collection, Dict, FrozenSet, List, Optional, Sequence, Set, Tuple

from keras_bnguard.errors import BNGuardWarning, ScheduleError, SelectorError
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.layer_decay import rate_factors
from keras_bnguard.phases.phase import Phase, blocks, is_rate_schedule, last, times
from keras_bnguard.records import NormKind
from keras_bnguard.selectors import as_list, select


@dataclass(frozen=True)
class PlannedPhase:
    """A phase with its paths.

    trains: paths of layers that own weights and train. flags: path -> `trainable` for every
    layer that owns weights, and True for those that only hold others. held: BN that run in
    inference mode by a hold. live: BN whose statistics move. still: how many BN run in
    inference mode, held or frozen. parameters: trainable values, of `total`. factors: path ->
    factor on the rate, empty where all train at one rate.
    """

    phase: Phase
    trains: Tuple[str, ...]
    flags: Dict[str, bool]
    held: Tuple[str, ...]
    live: Tuple[str, ...]
    parameters: int
    total: int
    still: int = 0
    factors: Dict[str, float] = field(default_factory=dict)

    @property
    def smallest_factor(self) -> float:
        """That of the deepest layer that trains."""
        return min((self.factors.get(path, 1.0) for path in self.trains), default=1.0)


def pretrained_norms(snapshot: ModelSnapshot) -> FrozenSet[str]:
    """BN that carry trained statistics now: those a transfer should leave in inference mode."""
    return frozenset(n.path for n in snapshot.inventory.norms if n.at_default is False)


def make_plan(
    snapshot: ModelSnapshot, phases: Sequence[Phase], pretrained: Optional[Collection[str]] = None
) -> Tuple[PlannedPhase, ...]:
    """Resolve phases.

    Args:
        survey: a built model. phases: checked by `schedule.check_phases`.
        pretrained: paths of BN that carried trained statistics when training began; by
            default those that do now.

    Raises:
        ScheduleError: a phase trains nothing, or a `times` has no rate to go by.
        SelectorError: a selector matches no layer; names the phase and lists near misses.
    """
    known = pretrained_norms(snapshot) if pretrained is None else frozenset(pretrained)
    return tuple(_plan_one(snapshot, phase, known) for phase in phases)


def _plan_one(snapshot: ModelSnapshot, phase: Phase, pretrained: FrozenSet[str]) -> PlannedPhase:
    backend = snapshot.backend
    weighted = [
        (path, layer) for path, layer in snapshot.layers if backend.graph.owns_weights(layer)
    ]
    chosen = choose_layers(snapshot, phase)
    flags = {path: True for path, _ in snapshot.layers}
    flags.update({path: path in chosen for path, _ in weighted})
    held, live = [], []
    for handle in snapshot.handles:
        path = handle.path
        selected = path in chosen
        if phase.batch_norm == "train":
            if handle.kind is NormKind.KERAS:
                flags[path] = True
            live.append(path)
        elif not selected:
            # Frozen, and held as well where its class need not obey the flag.
            held += [path] if handle.kind is not NormKind.KERAS or not handle.builtin else []
        elif phase.batch_norm == "affine-only" or (
            phase.batch_norm == "inference" and path in pretrained
        ):
            held.append(path)
        else:
            live.append(path)
    trains = tuple(path for path, _ in weighted if flags[path])
    _check_nothing_hidden(phase, weighted, flags)
    total = sum(backend.flags.trainable_count(layer) for _, layer in weighted)
    parameters = sum(
        backend.flags.trainable_count(layer) for path, layer in weighted if flags[path]
    )
    if not parameters:
        raise ScheduleError(
            f"phase {phase.name!r} trains nothing: train={phase.train!r} selects layers without "
            f"weights. Layers with weights are: {', '.join(p for p, _ in weighted[:5])}, ..."
        )
    still = len(snapshot.handles) - len(live)
    factors = rate_factors(snapshot, phase.layer_decay)
    return PlannedPhase(
        phase, trains, flags, tuple(held), tuple(live), parameters, total, still, factors
    )


def _check_nothing_hidden(
    phase: Phase, weighted: Sequence[Tuple[str, Any]], flags: Dict[str, bool]
) -> None:
    """A frozen layer freezes everything inside it, selected or not."""
    for path, _ in weighted:
        inside = [p for p, _ in weighted if p.startswith(f"{path}/") and flags[p]]
        if inside and not flags[path]:
            raise ScheduleError(
                f"phase {phase.name!r}: {path} owns weights and is not selected, so it would "
                f"freeze {inside[0]} inside it too. Select {path!r} as well."
            )


def choose_layers(snapshot: ModelSnapshot, phase: Phase) -> Set[str]:
    """Paths of the layers a phase's `train` selects, with everything inside them."""
    names: List[str] = []
    for selector in as_list(phase.train):
        names += _chosen_by(snapshot, selector, phase)
    tops = set(names)
    inside = {
        path
        for path, _ in snapshot.layers
        if any("/".join(path.split("/")[:i]) in tops for i in range(1, path.count("/") + 2))
    }
    return inside | tops


def _chosen_by(snapshot: ModelSnapshot, selector: Any, phase: Phase) -> Sequence[str]:
    backend = snapshot.backend
    if isinstance(selector, last):
        weighted = [path for path, layer in snapshot.layers if backend.graph.owns_weights(layer)]
        if not selector.count > 0:
            raise ScheduleError(f"phase {phase.name!r}: last({selector.count}) selects nothing.")
        return weighted[-selector.count :]
    if isinstance(selector, blocks):
        from keras_bnguard.model.blocks.finder import find_blocks

        found = find_blocks(snapshot)
        if not selector.count > 0:
            raise ScheduleError(f"phase {phase.name!r}: blocks({selector.count}) selects nothing.")
        return [path for block in found[-selector.count :] for path in block.paths]
    try:
        return select(selector, snapshot.layers, model=snapshot.inventory.model)
    except SelectorError as error:
        raise SelectorError(f"phase {phase.name!r}: {error}") from None


def check_against_fit(
    plan: Sequence[PlannedPhase],
    *,
    has_validation: bool,
    rate_is_schedule: bool,
    rate_is_ours: bool,
    learning_rate: Optional[float],
) -> None:
    """What can only go wrong later, said before the first step.

    Args:
        rate_is_schedule: the optimizer has one. rate_is_ours: that of a phase, from an earlier fit.

    Raises:
        ScheduleError: a phase watches a validation value and there is no validation data; a
            float rate, a factor or a warm-up meets an optimizer that was compiled with a
            LearningRateSchedule; a warm-up goes on with the schedule of the phase before.
    """
    scheduled = rate_is_schedule
    for planned in plan:
        phase = planned.phase
        if phase.monitor and phase.monitor.startswith("val_") and not has_validation:
            raise ScheduleError(
                f"phase {phase.name!r} ends by {phase.monitor!r}, but fit has no validation data. "
                "Pass validation_data= or validation_split= to fit, or watch a training value."
            )
        number = isinstance(phase.learning_rate, (int, float, times))
        if rate_is_schedule and not rate_is_ours and (number or phase.warmup):
            raise ScheduleError(
                f"phase {phase.name!r} sets a learning rate, but the model was compiled with a "
                "LearningRateSchedule or a function, which would fight it. Compile with a float "
                "rate, or give each phase a schedule of its own."
            )
        if phase.warmup and scheduled and phase.learning_rate is None:
            raise ScheduleError(
                f"phase {phase.name!r} warms up to the rate it finds, which is the "
                "LearningRateSchedule of a phase before. Give it a float."
            )
        scheduled = is_rate_schedule(phase.learning_rate) or (scheduled and not number)
    first = plan[0].phase.learning_rate
    if isinstance(first, times) and learning_rate is None:
        raise ScheduleError(f"phase {plan[0].phase.name!r}: {first!r} has no rate to go by.")


def check_reach(plan: Sequence[PlannedPhase], epochs: Optional[int]) -> None:
    """Warn of phases that plain epoch counts put behind the end of `fit`."""
    done = 0
    for planned, following in zip(plan, plan[1:]):
        if planned.phase.until is not None or epochs is None:
            return
        done += planned.phase.epochs or 0
        if done >= epochs:
            warnings.warn(
                f"fit ends after {epochs} epochs, before phase {following.phase.name!r} begins "
                f"at epoch {done}. Pass epochs={done + 1} or more to fit.",
                BNGuardWarning,
                stacklevel=2,
            )
            return


def check_watched(phases: Sequence[Phase], logs: Collection[str]) -> None:
    """Warn of phases to come that watch what the first epoch did not log."""
    validated = any(key.startswith("val_") for key in logs)
    for phase in phases:
        watched = phase.monitor
        if watched and watched not in logs and (validated or not watched.startswith("val_")):
            warnings.warn(
                f"phase {phase.name!r} will watch {watched!r}, which is not in the logs of the "
                f"first epoch: {', '.join(sorted(logs))}.",
                BNGuardWarning,
                stacklevel=2,
            )


def rate_of(phase: Phase, before: Optional[float]) -> Optional[float]:
    """The float rate a phase begins with; None where it keeps what is, or has a schedule."""
    wanted = phase.learning_rate
    if isinstance(wanted, times):
        return None if before is None else before * wanted.factor
    return float(wanted) if isinstance(wanted, (int, float)) else None


def rate_cell(
    planned: PlannedPhase, learning_rate: Optional[float], name: str = "as compiled"
) -> str:
    """The rate in words: "0.001", or "0.001 to 0.0004" from the output to the deepest layer;
    `name` where it is no number."""
    least = planned.smallest_factor
    if learning_rate is None:
        return name if least == 1.0 else f"{name}, x 1 to {least:.3g}"
    return (
        f"{learning_rate:.3g}"
        if least == 1.0
        else f"{learning_rate:.3g} to {learning_rate * least:.3g}"
    )


def plan_table(plan: Sequence[PlannedPhase], learning_rate: Optional[float]) -> str:
    """The schedule as one table of plain text, at most 100 columns."""
    rows = [("phase", "trains", "parameters", "BN inference", "BN live", "rate", "ends")]
    now, name = learning_rate, "as compiled"
    for planned in plan:
        phase = planned.phase
        wanted = phase.learning_rate
        if wanted is not None:
            now = rate_of(phase, now)
            name = f"x {wanted.factor:g}" if isinstance(wanted, times) else "schedule"
        share = 100.0 * planned.parameters / max(planned.total, 1)
        rows.append(
            (
                phase.name,
                f"{len(planned.trains)} layers",
                f"{planned.parameters:,} ({share:.0f} %)",
                str(planned.still),
                str(len(planned.live)),
                rate_cell(planned, now, name),
                phase.ends,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )
