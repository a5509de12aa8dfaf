"""Resolve a schedule against a model: which layers train and how each BN runs, phase by phase."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Collection, Dict, FrozenSet, List, Optional, Sequence, Set, Tuple

from keras_bnguard.errors import ScheduleError
from keras_bnguard.model.forced_inference import forces_in_step
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.fields import BatchNormMode
from keras_bnguard.phases.learning_rates import Cell, learning_rate_factors
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
        inference: how many BN run in inference mode, forced or frozen.
        parameters: how many values train.
        total: how many values could train.
        factors: path -> factor on the learning rate; empty where all have the same.
    """

    phase: Phase
    trains: Tuple[str, ...]
    flags: Dict[str, bool]
    forced: Tuple[str, ...]
    training: Tuple[str, ...]
    inference: int
    parameters: int
    total: int
    factors: Dict[str, float] = field(default_factory=dict)

    @property
    def smallest_factor(self) -> float:
        """The factor of the deepest layer that trains."""
        return min((self.factors.get(path, 1.0) for path in self.trains), default=1.0)

    @property
    def share(self) -> float:
        """Parameters that train, as a share of all that could, 0 to 1."""
        return self.parameters / max(self.total, 1)

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
    forced, training = _batch_norm_modes(snapshot, phase, chosen, pretrained)
    return PlannedPhase(
        phase=phase,
        trains=tuple(path for path, _ in weighted if flags[path]),
        flags=flags,
        forced=tuple(forced),
        training=tuple(training),
        inference=len(snapshot.handles) - len(training),
        parameters=parameters,
        total=sum(counts.values()),
        factors=learning_rate_factors(snapshot, phase.layer_decay),
    )


def _batch_norm_modes(
    snapshot: ModelSnapshot, phase: Phase, chosen: Set[str], pretrained: FrozenSet[str]
) -> Tuple[List[str], List[str]]:
    """Paths of BN to force into inference mode, and of BN in training mode."""
    forced, training = [], []
    written = _written_false(snapshot)
    obeyed = snapshot.inventory.stack.behaviour.graph_false_honoured
    if phase.batch_norm is BatchNormMode.TRAIN and obeyed and written:
        path, owner = next(iter(written.items()))
        raise ScheduleError(
            f'phase {phase.name!r}: batch_norm="train" cannot put {path} into training mode, as '
            f"the graph calls {owner} with training=False. Build the model without it, or choose "
            "another batch_norm."
        )
    for handle in snapshot.handles:
        path = handle.path
        if phase.batch_norm is BatchNormMode.TRAIN:
            training.append(path)
        elif path not in chosen:
            # It is frozen; a BN whose class need not follow `trainable` is forced as well.
            if handle.kind is not NormKind.KERAS or not handle.builtin:
                forced.append(path)
        elif phase.batch_norm is BatchNormMode.AFFINE_ONLY or (
            phase.batch_norm is BatchNormMode.INFERENCE and path in pretrained
        ):
            forced.append(path)
        else:
            training.append(path)
    if obeyed or forced or forces_in_step(snapshot.model):
        # A step that forces obeys what the graph has written, on every Keras.
        training = [path for path in training if path not in written]
    return forced, training


def _written_false(snapshot: ModelSnapshot) -> Dict[str, str]:
    """BN that graphs call with `training=False` only: path -> path of the layer so called."""
    return {
        norm.path: norm.calls[0].owner
        for norm in snapshot.inventory.norms
        if norm.calls and all(call.training is False or call.inside_false for call in norm.calls)
    }


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
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )
