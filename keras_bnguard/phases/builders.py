"""Schedules made from the architecture: unfreeze from the top, some blocks at a time."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Union

from keras_bnguard.errors import ScheduleError
from keras_bnguard.model.blocks.head import head_and_backbone
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.phases.conditions import Plateau
from keras_bnguard.phases.fields import BatchNormMode
from keras_bnguard.phases.learning_rates import RelativeRate
from keras_bnguard.phases.phase import Phase

Epochs = Union[int, Sequence[int], None]


def gradual(
    model: Any,
    backbone: str = "",
    stages: int = 4,
    epochs: Epochs = 5,
    head_learning_rate: float = 1e-3,
    learning_rate: float = 1e-4,
    decay: Union[RelativeRate, float] = 0.5,
    patience: Optional[int] = None,
    monitor: str = "val_loss",
    batch_norm: str = BatchNormMode.INFERENCE,
    layer_decay: float = 1.0,
) -> List[Phase]:
    """A schedule that trains the head, then unfreezes the backbone from the top in stages.

    The backbone is cut at blocks (`find_blocks`), never inside one, so that the stages unfreeze
    about equally many parameters each. The last phase trains everything.

    Args:
        model: a built model.
        backbone: path of the pretrained sub-model. Defaults to "": found, see
            `head_and_backbone`.
        stages: in how many steps the backbone is unfrozen. Fewer blocks make fewer.
        epochs: how many epochs per phase, or a list with one entry per phase; None leaves the
            end to `patience`.
        head_learning_rate: learning rate of the first phase.
        learning_rate: learning rate of the second phase.
        decay: learning rate of each later phase, as a factor of the one before.
        patience: ends a phase, except the last, also when `monitor` has not improved for so
            many epochs. Defaults to None: never.
        monitor: see `Plateau`.
        batch_norm: see `Phase`.
        layer_decay: see `Phase`.

    Returns:
        stages + 1 phases. Their `train` lists paths and nothing else, so they can be printed,
        edited and written to a file.

    Raises:
        ScheduleError: nothing lies outside the backbone, or the phases would never end.
    """
    snapshot = take_snapshot(model)
    head, body = head_and_backbone(snapshot, backbone)
    if not isinstance(stages, int) or stages < 1:
        raise ScheduleError(f"stages={stages!r}, expected a positive integer.")
    if epochs is None and patience is None:
        raise ScheduleError("epochs=None and patience=None: no phase would end. Give one of them.")
    factor = decay if isinstance(decay, RelativeRate) else RelativeRate(float(decay))
    cuts = _balanced_cuts([block.parameters for block in body], stages)
    many = _per_phase(epochs, len(cuts) + 1)

    def phase(number: int, name: str, trained: Sequence[str], learning_rate: Any) -> Phase:
        until = None
        if patience is not None and number < len(cuts):
            until = Plateau(monitor, patience=patience)
        return Phase(
            name,
            train=exact(trained),
            learning_rate=learning_rate,
            epochs=many[number],
            until=until,
            batch_norm=batch_norm,
            layer_decay=layer_decay,
        )

    phases = [phase(0, "head", head, head_learning_rate)]
    for number, start in enumerate(cuts, 1):
        unfrozen = [path for block in body[start:] for path in block.paths]
        name = f"from {body[start].name}" if start else "all"
        trained = _in_order(snapshot, {*unfrozen, *head})
        phases.append(phase(number, name, trained, learning_rate if number == 1 else factor))
    return phases


def fine_tune(
    model: Any,
    head_epochs: int = 5,
    base_lr: float = 1e-3,
    epochs: Optional[int] = None,
    backbone: str = "",
    factor: float = 0.1,
    batch_norm: str = BatchNormMode.INFERENCE,
    layer_decay: float = 1.0,
    warmup: int = 0,
) -> List[Phase]:
    """The classic in two phases: the head at `base_lr`, then all at `base_lr` times `factor`.

    Args:
        model: a built model.
        head_epochs: epochs of the first phase.
        base_lr: learning rate of the first phase.
        epochs: epochs of the second phase, None for all that `fit` has.
        backbone: as in `gradual`.
        factor: second learning rate as a factor of the first, at most 0.1. Defaults to 0.1.
        batch_norm: see `Phase`.
        layer_decay: of the second phase, see `Phase`.
        warmup: of the second phase, see `Phase`.

    Returns:
        Two phases.

    Raises:
        ScheduleError: nothing lies outside the backbone, or `factor` is above 0.1: a pretrained
            backbone that trains at the learning rate of a new head loses what it had learnt.
    """
    if not 0 < factor <= 0.1:
        raise ScheduleError(f"factor={factor!r}, expected more than 0 and at most 0.1.")
    snapshot = take_snapshot(model)
    head, body = head_and_backbone(snapshot, backbone)
    everything = _in_order(snapshot, {*head, *(p for block in body for p in block.paths)})
    return [
        Phase("head", exact(head), base_lr, epochs=head_epochs, batch_norm=batch_norm),
        Phase(
            "all",
            exact(everything),
            base_lr * factor,
            epochs=epochs,
            batch_norm=batch_norm,
            layer_decay=layer_decay,
            warmup=warmup,
        ),
    ]


def exact(paths: Sequence[str]) -> List[str]:
    """Globs that match these paths and no others."""
    return [escape(path) for path in paths]


def escape(path: str) -> str:
    """A glob that matches one path, whatever characters are in it."""
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in path)
    return f"[r]{escaped[1:]}" if escaped.startswith("re:") else escaped


def _balanced_cuts(parameters: Sequence[int], stages: int) -> List[int]:
    """Where each stage begins, top first, the last at 0; stages about equal in parameters.

    Each cut is the free one nearest to its share, with a block left for every stage to come.
    """
    stages = min(stages, len(parameters))
    above = [sum(parameters[i:]) for i in range(len(parameters) + 1)]
    cuts: List[int] = []
    end = len(parameters)
    for stage in range(1, stages):
        target = above[0] * stage / stages
        free = range(stages - stage, end)
        end = min(free, key=lambda i: (abs(above[i] - target), -i))
        cuts.append(end)
    return [*cuts, 0]


def _per_phase(epochs: Epochs, phases: int) -> List[Optional[int]]:
    if epochs is None or isinstance(epochs, int):
        return [epochs] * phases
    many: List[Optional[int]] = list(epochs)
    if len(many) != phases:
        raise ScheduleError(
            f"epochs has {len(many)} entries for {phases} phases (the head, then the stages)."
        )
    return many


def _in_order(snapshot: ModelSnapshot, chosen: set[str]) -> List[str]:
    return [path for path, _ in snapshot.layers if path in chosen]
