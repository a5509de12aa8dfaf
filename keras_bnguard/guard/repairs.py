"""What `fix=True` does about the findings that can be repaired safely, and undoes after."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

from keras_bnguard.guard.run import GuardRun
from keras_bnguard.inference.force_inference import force_inference
from keras_bnguard.model.forced_inference import forces_in_step
from keras_bnguard.phases.transition import put_flags_into_effect
from keras_bnguard.records import Finding

HELD = {
    "BNG102": "held in inference mode for this fit",
    "BNG105": "held in inference mode for this fit",
    "BNG201": "training=False of the graph is obeyed for this fit",
    "BNG203": "the argument is kept from layers called later for this fit",
}


class Repairs:
    """Repairs of one run; `undo` takes off what was put on the model.

    A change of flags that is put into effect stays: it is what the user asked for.
    """

    def __init__(self, run: GuardRun, model: Any) -> None:
        self._run = run
        self._model = model
        self._undo: List[Callable[[], Any]] = []

    def make(self, found: Sequence[Finding]) -> Dict[str, str]:
        """Repair what can be among the findings that are not repaired yet.

        Returns:
            Code -> what was done about it.
        """
        done: Dict[str, str] = {}
        codes = {finding.code for finding in found if finding.repaired is None}
        if "BNG101" in codes:
            done["BNG101"] = put_flags_into_effect(self._run.snapshot, self._run.wanted)
        if codes & set(HELD) and not forces_in_step(self._model):
            self._undo.append(force_inference(self._model).release)
            done.update({code: HELD[code] for code in codes & set(HELD)})
        if not done:
            return done
        if not self._run.backend.step.has_train_function(self._model):
            self._run.backend.step.rebuild_train_function(self._model)
        self._run.repaired(done)
        return done

    def undo(self) -> None:
        """Take the guarded step off again."""
        while self._undo:
            self._undo.pop()()
