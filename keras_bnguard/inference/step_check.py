"""Compare the statistics of forced BN before and after each of the first steps, bit for bit.

The `train_function` of the model is replaced for these steps only; a step after them costs
nothing more than without this package.
"""

from __future__ import annotations

import weakref
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import FaultBarrier, InferenceNotForcedError
from keras_bnguard.inference.proof import Proof, statistics_of
from keras_bnguard.model.kept import find_kept
from keras_bnguard.records import Verification

Norms = Callable[[Any], Sequence[NormHandle]]
"""The BN that a model's step forces, as flags and layers are now."""


def compare_first_steps(model: Any, proof: Proof, norms: Norms) -> None:
    """Have the next steps of a model compared; no-op where that is so, or they were.

    Args:
        model: a model with a train function.
        proof: of the model.
        norms: see `Norms`.
    """
    original = getattr(model, "train_function", None)
    if original is None or proof.steps_left <= 0:
        return
    inner = original
    while hasattr(inner, "original"):  # Another replacement for the next step is in front.
        inner = inner.original
    if hasattr(inner, "compares_steps"):
        return
    owner_ref = weakref.ref(model)

    def train_function(*args: Any, **kwargs: Any) -> Any:
        owner = owner_ref()
        if owner is None or find_kept(owner, Proof) is not proof or proof.steps_left <= 0:
            if owner is not None and owner.train_function is mine():
                object.__setattr__(owner, "train_function", original)
            return original(*args, **kwargs)
        comparison = StepComparison(owner, proof, norms)
        comparison.before(args)
        try:
            result = original(*args, **kwargs)
        except Exception:
            failure = proof.take_failure()
            if not failure:
                raise
            comparison.give_back(args)
            raise InferenceNotForcedError(failure) from None
        comparison.after(result)
        if proof.steps_left <= 0 and owner.train_function is mine():
            object.__setattr__(owner, "train_function", original)
        return result

    train_function.compares_steps = True  # type: ignore[attr-defined]
    mine = weakref.ref(train_function)
    object.__setattr__(model, "train_function", train_function)


class StepComparison:
    """One step of one model.

    Args:
        model: the model.
        proof: of the model.
        norms: see `Norms`.
    """

    def __init__(self, model: Any, proof: Proof, norms: Norms) -> None:
        self._model, self._proof, self._norms = model, proof, norms
        self._backend = backend_for(model)
        self._old: Dict[int, np.ndarray] = {}
        self._compares = False
        self._barrier = FaultBarrier(goes_on=True, warns=False)

    def before(self, args: Any) -> None:
        """Read the statistics that the step starts from."""
        with self._barrier:
            variables = [v for _, v in self._pairs()]
            values = self._read(variables, args[:1])
            self._old = {id(v): value for v, value in zip(variables, values)}
            self._compares = True

    def after(self, result: Any) -> None:
        """Compare; where a statistic has changed, restore all of them.

        Raises:
            InferenceNotForcedError: a statistic has changed.
        """
        changed: Optional[List[Tuple[NormHandle, Any, np.ndarray]]] = None
        with self._barrier:
            changed = self._changed(result) if self._compares else None
        if not changed:
            self._proof.step_done(compared=changed is not None)
            return
        handles = {handle.path: handle for handle, _, _ in changed}
        try:
            for handle in handles.values():
                self._proof.fail(handle, self._reason(handle))
        except InferenceNotForcedError:
            with self._barrier:
                self._backend.step.leave_step(self._model, result)
                for _, variable, value in changed:
                    self._backend.values.assign(variable, value)
            raise
        self._proof.step_done()

    def give_back(self, args: Any) -> None:
        """The step ended before it ran: have the model as it was.

        Args:
            args: of the train function.
        """
        with self._barrier:
            self._backend.step.leave_step(self._model, args[:1])

    def _pairs(self) -> List[Tuple[NormHandle, Any]]:
        return [(handle, v) for handle in self._norms(self._model) for v in statistics_of(handle)]

    def _changed(self, result: Any) -> List[Tuple[NormHandle, Any, np.ndarray]]:
        pairs = self._pairs()
        values = self._read([v for _, v in pairs], result)
        found = []
        for (handle, variable), new in zip(pairs, values):
            old = self._old_value(variable, new)
            if old is not None and old.tobytes() != new.tobytes():
                found.append((handle, variable, old))
        return found

    def _read(self, variables: Sequence[Any], carried: Any) -> List[np.ndarray]:
        """Copies of values: those of the variables, or those that the step carries."""
        state, model = self._backend.step.step_state(carried), self._model
        if state is None:
            return [self._backend.values.to_numpy(variable) for variable in variables]
        pairs = [*zip(model.trainable_variables, state[0])]
        pairs += zip(model.non_trainable_variables, state[1])
        values = {id(variable): value for variable, value in pairs}
        return [np.array(values[id(variable)], copy=True) for variable in variables]

    def _old_value(self, variable: Any, new: np.ndarray) -> Optional[np.ndarray]:
        old = self._old.get(id(variable))
        if old is None:  # The step has built it.
            start = self._proof.start_of(variable)
            return None if start is None else np.frombuffer(start, new.dtype).reshape(new.shape)
        return old

    def _reason(self, handle: NormHandle) -> str:
        status = self._proof.status.get(handle.path)
        if status is Verification.VERIFIED:
            return (
                "its call ran in inference mode, but something else in the step changed its "
                "moving statistics (a step that assigns them on purpose, as that of a mean "
                "teacher, and BN that is to be forced exclude each other)"
            )
        if status is Verification.NOT_CALLED:
            return "the step changed its moving statistics without a call that could be forced"
        return "the step changed its moving statistics"
