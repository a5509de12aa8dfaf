"""In which mode each BN runs in a phase, and why it runs in inference mode."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Dict, FrozenSet, List, Mapping, Set, Tuple

from keras_bnguard.errors import ScheduleError
from keras_bnguard.model.forced_inference import forces_in_step
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.fields import BatchNormMode
from keras_bnguard.phases.phase import Phase
from keras_bnguard.records import NormKind


class InferenceReason(Enum):
    """Why a BN runs in inference mode in a phase; the value is the text of the plan."""

    FROZEN = "frozen"
    PRETRAINED = "as they have trained statistics"
    AFFINE_ONLY = 'by batch_norm="affine-only"'
    WRITTEN = "as the graph calls them with training=False"


@dataclass(frozen=True)
class NormModes:
    """The modes of all BN in one phase.

    Attributes:
        forced: paths of those that have to be forced into inference mode.
        training: paths of those in training mode.
        in_inference: path -> why, of all others.
    """

    forced: Tuple[str, ...]
    training: Tuple[str, ...]
    in_inference: Mapping[str, InferenceReason]


def norm_modes(
    snapshot: ModelSnapshot, phase: Phase, chosen: Set[str], pretrained: FrozenSet[str]
) -> NormModes:
    """Find in which mode each BN runs in a phase.

    Args:
        snapshot: a built model.
        phase: the phase.
        chosen: paths of the layers that it trains.
        pretrained: paths of BN with trained statistics at the start of training.

    Raises:
        ScheduleError: `batch_norm="train"` meets a `training=False` that Keras obeys.
    """
    written = _written_false(snapshot)
    obeyed = snapshot.inventory.stack.behaviour.graph_false_honoured
    if phase.batch_norm is BatchNormMode.TRAIN and obeyed and written:
        path, owner = next(iter(written.items()))
        raise ScheduleError(
            f'phase {phase.name!r}: batch_norm="train" cannot put {path} into training mode, as '
            f"the graph calls {owner} with training=False. Build the model without it, or choose "
            "another batch_norm."
        )
    forced: List[str] = []
    training: List[str] = []
    why: Dict[str, InferenceReason] = {}
    for handle in snapshot.handles:
        path = handle.path
        if phase.batch_norm is BatchNormMode.TRAIN:
            training.append(path)
        elif path not in chosen:
            why[path] = InferenceReason.FROZEN
            # A BN whose class need not follow `trainable` is forced as well.
            if handle.kind is not NormKind.KERAS or not handle.builtin:
                forced.append(path)
        elif phase.batch_norm is BatchNormMode.AFFINE_ONLY:
            why[path] = InferenceReason.AFFINE_ONLY
            forced.append(path)
        elif phase.batch_norm is BatchNormMode.INFERENCE and path in pretrained:
            why[path] = InferenceReason.PRETRAINED
            forced.append(path)
        else:
            training.append(path)
    if obeyed or forced or forces_in_step(snapshot.model):
        # A step that forces obeys what the graph has written, on every Keras.
        why.update((path, InferenceReason.WRITTEN) for path in training if path in written)
        training = [path for path in training if path not in written]
    return NormModes(tuple(forced), tuple(training), why)


def _written_false(snapshot: ModelSnapshot) -> Dict[str, str]:
    """BN that graphs call with `training=False` only: path -> path of the layer so called."""
    return {
        norm.path: norm.calls[0].owner
        for norm in snapshot.inventory.norms
        if norm.calls and all(call.training is False or call.inside_false for call in norm.calls)
    }
