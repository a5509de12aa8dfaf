"""What `fix=True` does about findings that can be repaired safely, and how it is undone."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

from keras_bnguard.inference.force_inference import force_inference
from keras_bnguard.model.forced_inference import forces_in_step
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.transition import put_flags_into_effect
from keras_bnguard.records import Finding
from keras_bnguard.records.ids import TrainableFlags
from keras_bnguard.rules.base import RepairAction
from keras_bnguard.rules.evaluate import repair_of


class Repairs:
    """The repairs of one run.

    Flags that are put into effect stay so: that is what the user asked for. Forced inference
    ends with the run.

    Args:
        model: the model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._undo: List[Callable[[], Any]] = []

    def make(
        self, findings: Sequence[Finding], snapshot: ModelSnapshot, wanted: TrainableFlags
    ) -> Dict[str, str]:
        """Repair what can be repaired.

        Args:
            findings: those that are not repaired yet.
            snapshot: the model.
            wanted: id(layer) -> `trainable` that was assigned last.

        Returns:
            Code -> what was done about it.
        """
        repairs = {finding.code: repair_of(finding.code) for finding in findings}
        by_action: Dict[RepairAction, Dict[str, str]] = {action: {} for action in RepairAction}
        for code, repair in repairs.items():
            if repair is not None:
                by_action[repair.action][code] = repair.done
        done: Dict[str, str] = {}
        if by_action[RepairAction.PUT_FLAGS_INTO_EFFECT]:
            how = put_flags_into_effect(snapshot, wanted)
            done.update(dict.fromkeys(by_action[RepairAction.PUT_FLAGS_INTO_EFFECT], how))
        if by_action[RepairAction.FORCE_INFERENCE] and not forces_in_step(self._model):
            self._undo.append(force_inference(self._model).release)
            done.update(by_action[RepairAction.FORCE_INFERENCE])
        step = snapshot.backend.step
        if done and not step.has_train_function(self._model):
            step.rebuild_train_function(self._model)
        return done

    def undo(self) -> None:
        """End what was forced on the model; safe to call twice."""
        while self._undo:
            self._undo.pop()()
