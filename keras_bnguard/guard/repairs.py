"""What `fix=True` does about findings that can be repaired safely, and how it is undone."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple

from keras_bnguard.inference.force_inference import force_inference
from keras_bnguard.model.forced_inference import forces_in_step
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.transition import put_flags_into_effect
from keras_bnguard.records import Finding, OnFailure, StatisticsChange, Verification
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
        self._forced: Optional[force_inference] = None
        self._forced_for: Tuple[str, ...] = ()

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
            self._forced = force_inference(self._model, on_failure=OnFailure.NOTE)
            self._forced_for = tuple(by_action[RepairAction.FORCE_INFERENCE])
            done.update(by_action[RepairAction.FORCE_INFERENCE])
        step = snapshot.backend.step
        if done and not step.has_train_function(self._model):
            step.rebuild_train_function(self._model)
        return done

    def without_effect(
        self, findings: Sequence[Finding], changes: Sequence[StatisticsChange]
    ) -> Dict[str, str]:
        """Findings whose repair should let BN be updated, and did not.

        Args:
            findings: all of them.
            changes: what steps after the repair did to the statistics.

        Returns:
            Code -> what was tried.
        """
        still = {change.path for change in changes if not change.changed}
        failed = {}
        for finding in findings:
            repair = None if finding.repaired is None else repair_of(finding.code)
            if repair is not None and repair.updates and still >= set(finding.layers):
                failed[finding.code] = "not repaired, the BN are not updated all the same"
        return failed

    def undo(self) -> None:
        """End what was forced on the model; safe to call twice."""
        if self._forced is not None:
            self._forced.release()

    def failed(self) -> Dict[str, str]:
        """Findings that forced inference did not repair, as a BN does not run in it.

        Returns:
            Code -> what was tried; each code once.
        """
        known = {} if self._forced is None else self._forced.verified
        paths = [path for path, status in known.items() if status is Verification.FAILED]
        codes, self._forced_for = (self._forced_for, ()) if paths else ((), self._forced_for)
        return dict.fromkeys(codes, f"not repaired, {', '.join(paths)} cannot be forced")
