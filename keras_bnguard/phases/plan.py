"""Resolve a schedule against a model: which layers train and how each BN runs, phase by phase."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Collection, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from keras_bnguard.errors import ScheduleError
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.fields import BatchNormMode, OptimizerState
from keras_bnguard.phases.learning_rates import Cell, learning_rate_factors
from keras_bnguard.phases.norm_modes import InferenceReason, norm_modes
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.train_selectors import choose_layers, layers_with_weights
from keras_bnguard.records import NormKind


@dataclass(frozen=True)
class PlannedPhase:
    """A phase with its paths in one model.

    Attributes:
        phase: as the user wrote it.
        trains: paths of layers that own weights and train.
        flags: path -> `trainable`: of every layer that owns weights as the phase wants it, and
            True for those that only contain others.
        forced: paths of BN that have to be forced into inference mode.
        training: paths of BN in training mode, whose statistics are updated.
        in_inference: path -> why, of BN that run in inference mode, forced or frozen.
        parameters: how many values train.
        total: how many values could train.
        factors: path -> factor on the learning rate; empty where all have the same.
    """

    phase: Phase
    trains: Tuple[str, ...]
    flags: Dict[str, bool]
    forced: Tuple[str, ...]
    training: Tuple[str, ...]
    in_inference: Mapping[str, InferenceReason]
    parameters: int
    total: int
    factors: Dict[str, float] = field(default_factory=dict)

    @property
    def inference(self) -> int:
        """How many BN run in inference mode."""
        return len(self.in_inference)

    @property
    def smallest_factor(self) -> float:
        """The factor of the deepest layer that trains."""
        return min((self.factors.get(path, 1.0) for path in self.trains), default=1.0)

    @property
    def share(self) -> float:
        """Parameters that train, as a share of all that could, 0 to 1."""
        return self.parameters / max(self.total, 1)

    def repeats(self, before: PlannedPhase) -> bool:
        """Whether nothing that is planned differs from the phase before, but for its name and
        its end."""
        change, previous = self.phase.learning_rate_change, before.phase.learning_rate_change
        kept = not change.needs_previous and (not change.changes or change == previous)
        return (
            kept
            and self.trains == before.trains
            and self.in_inference.keys() == before.in_inference.keys()
            and self.factors == before.factors
            and not self.phase.warmup
            and self.phase.optimizer_state is not OptimizerState.RESET
            and not before.phase.restore_best
        )

    def show_learning_rate(self, learning_rate: Optional[float], unknown: str) -> str:
        """The learning rate as text: "0.001", or "0.001 to 0.0004" down to the deepest layer.

        Args:
            learning_rate: None where it is not known.
            unknown: what to show then.
        """
        least = self.smallest_factor
        if learning_rate is None:
            return unknown if least == 1.0 else f"{unknown}, x 1 to {least:.3g}"
        shown = f"{learning_rate:.3g}"
        return shown if least == 1.0 else f"{shown} to {learning_rate * least:.3g}"


Plan = Tuple[PlannedPhase, ...]


def pretrained_norms(snapshot: ModelSnapshot) -> FrozenSet[str]:
    """Paths of BN with trained statistics now, which fine-tuning leaves in inference mode."""
    return frozenset(n.path for n in snapshot.inventory.norms if n.at_default is False)


def make_plan(
    snapshot: ModelSnapshot, phases: Sequence[Phase], pretrained: Optional[Collection[str]] = None
) -> Plan:
    """Resolve phases.

    Args:
        snapshot: a built model.
        phases: checked by `check_phases`.
        pretrained: paths of BN with trained statistics at the start of training. Defaults to
            None: those that have them now.

    Raises:
        ScheduleError: a phase trains nothing, or freezes a layer around one that it trains.
        SelectorError: a selector matches no layer; names the phase and lists near misses.
    """
    known = pretrained_norms(snapshot) if pretrained is None else frozenset(pretrained)
    return tuple(_plan_one(snapshot, phase, known) for phase in phases)


def _plan_one(snapshot: ModelSnapshot, phase: Phase, pretrained: FrozenSet[str]) -> PlannedPhase:
    weighted = layers_with_weights(snapshot)
    chosen = choose_layers(snapshot, phase.train, phase.name)
    flags = {path: True for path, _ in snapshot.layers}
    flags.update({path: path in chosen for path, _ in weighted})
    if phase.batch_norm is BatchNormMode.TRAIN:
        flags.update({norm.path: True for norm in snapshot.handles if norm.kind is NormKind.KERAS})
    _check_nothing_frozen_from_outside(phase, weighted, flags)
    counts = {path: snapshot.backend.flags.trainable_count(layer) for path, layer in weighted}
    parameters = sum(count for path, count in counts.items() if flags[path])
    if not parameters:
        raise ScheduleError(
            f"phase {phase.name!r} trains nothing: train={phase.train!r} selects layers without "
            f"weights. Layers with weights are: {', '.join(p for p, _ in weighted[:5])}, ..."
        )
    modes = norm_modes(snapshot, phase, chosen, pretrained)
    return PlannedPhase(
        phase=phase,
        trains=tuple(path for path, _ in weighted if flags[path]),
        flags=flags,
        forced=modes.forced,
        training=modes.training,
        in_inference=modes.in_inference,
        parameters=parameters,
        total=sum(counts.values()),
        factors=learning_rate_factors(snapshot, phase.layer_decay),
    )


def _check_nothing_frozen_from_outside(
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


def plan_table(plan: Sequence[PlannedPhase], learning_rate: Optional[float]) -> str:
    """The schedule as a table of plain text, at most 100 columns for short names.

    Args:
        plan: of `make_plan`.
        learning_rate: the one the model was compiled with, None where it is not known.
    """
    rows = [
        ("phase", "trains", "parameters", "BN inference", "BN training", "learning rate", "ends")
    ]
    cell: Cell = (learning_rate, "as compiled")
    for planned in plan:
        cell = planned.phase.learning_rate_change.in_plan(cell)
        rows.append(
            (
                planned.phase.name,
                f"{len(planned.trains)} layers",
                f"{planned.parameters:,} ({100 * planned.share:.0f} %)",
                str(planned.inference),
                str(len(planned.training)),
                planned.show_learning_rate(*cell),
                planned.phase.describe_end(),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    ]
    return "\n".join([*table, *_notes(plan)])


def _notes(plan: Sequence[PlannedPhase]) -> List[str]:
    """What the table has no column for: why BN run in inference mode, and equal phases."""
    notes = []
    for planned in plan:
        for reason in InferenceReason:
            paths = [path for path, why in planned.in_inference.items() if why is reason]
            if paths:
                notes.append(
                    f"{planned.phase.name}: {len(paths)} BN in inference mode, {reason.value}: "
                    f"{_shortened(paths)}"
                )
    for before, planned in zip(plan, plan[1:]):
        if planned.trains == before.trains:
            notes.append(
                f"{planned.phase.name}: trains the same layers as {before.phase.name}"
                + (", in the same way" if planned.repeats(before) else "")
            )
    return notes


def _shortened(paths: Sequence[str]) -> str:
    return ", ".join(paths[:2]) + (f" and {len(paths) - 2} more" if len(paths) > 2 else "")
