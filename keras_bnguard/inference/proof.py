"""Forced inference is claimed only where it was seen: what is known of every forced BN.

At the first call of a BN in a step its very call is measured (`measurement`), before any weight
changes. After each of the first steps its statistics are compared bit for bit (`step_check`).
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.patches.inference_mode import (
    WAYS,
    Way,
    is_measuring,
    measuring,
    training_false,
)
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.values.isolated_call import (
    TensorSpec,
    describe_tensors,
    map_specs,
)
from keras_bnguard.errors import InferenceNotForcedError, SettingError
from keras_bnguard.inference.measurement import MeasuredCalls, uses_batch_moments
from keras_bnguard.records import OnFailure, Verification


class Proof:
    """What is known of the forced BN of one model; kept with the model.

    It is the `CallObserver` of the calls that are forced.
    """

    STEPS = 3
    """How many calls of the train function are compared after a change of what is forced."""

    def __init__(self) -> None:
        self._backend: Any = None
        self._handles: Dict[str, NormHandle] = {}
        self._status: Dict[str, Verification] = {}
        self._starts: Dict[int, bytes] = {}
        self._mixing: Set[int] = set()
        self._steps_left = self.STEPS
        self._on_failure = OnFailure.RAISE
        self._failure = ""

    def expect(self, backend: Any, handles: Sequence[NormHandle], on_failure: OnFailure) -> None:
        """These BN are forced from now on, besides those that were.

        Args:
            backend: the backend of the model.
            handles: the BN.
            on_failure: what happens where one does not run in inference mode.
        """
        self._backend, self._on_failure = backend, on_failure
        self._handles.update({handle.path: handle for handle in handles})
        for path in self._handles:
            self._status.setdefault(path, Verification.NOT_CALLED)

    @property
    def status(self) -> Mapping[str, Verification]:
        """What is known of each BN, by path."""
        return dict(self._status)

    def status_of(self, norm: NormHandle) -> Optional[Verification]:
        """What is known of a BN that may have another path in another model; None: nothing."""
        for path, handle in self._handles.items():
            if handle.layer is norm.layer and handle.module is norm.module:
                return self._status.get(path)
        return None

    def renew(self) -> None:
        """What is forced has changed: the next steps are compared again.

        What was seen of a BN stays known, but for failures.
        """
        self._steps_left = self.STEPS
        self._handles.clear()
        self._status = {
            path: status
            for path, status in self._status.items()
            if status is not Verification.FAILED
        }
        self._mixing.clear()
        self._failure = ""

    # ------------------------------------------------------------- the first call
    def choose_way(self, owner: Any, call: Any, args: Any, kwargs: Any) -> Way:
        """Measure a forced call: the way that makes it run in inference mode.

        Raises:
            InferenceNotForcedError: there is none.
        """
        if is_measuring():
            return training_false
        handles = [h for h in self._handles.values() if owner is h.layer or owner is h.module]
        self._note_start(handles)
        way, reason = _measured(self._backend, owner, handles, call, args, kwargs)
        for handle in handles:
            if reason:
                self.fail(handle, reason)
            elif way is None or id(owner) in self._mixing:
                self._note(handle, Verification.NOT_MEASURED)
            else:
                self._note(handle, Verification.VERIFIED)
        return way or training_false

    def check_around(self, owner: Any, call: Any, args: Any, kwargs: Any) -> None:
        """Measure the call of a layer around forced BN.

        Raises:
            InferenceNotForcedError: it uses moments of the batch in place of the statistics.
        """
        handles: List[NormHandle] = []
        try:
            inside = {id(layer) for layer in self._backend.graph.all_layers(owner)}
            handles = [h for h in self._handles.values() if id(h.layer) in inside]
            found = _measured_around(self._backend, owner, handles, call, args, kwargs)
        except Exception:  # The layer cannot be run on its own.
            found = None
        if found is None:
            self._mixing.update(id(handle.layer) for handle in handles)
        for handle in handles if found else ():
            name = type(owner).__name__
            self.fail(handle, f"{name} around it normalises with moments of the batch itself")

    def _note(self, handle: NormHandle, status: Verification) -> None:
        if self._status.get(handle.path) is not Verification.FAILED:
            self._status[handle.path] = status

    def _note_start(self, handles: Sequence[NormHandle]) -> None:
        """Keep the statistics that a BN has before the step in which it was built."""
        with contextlib.suppress(Exception), self._backend.step.outside_trace():
            for variable in (v for h in handles for v in statistics_of(h)):
                if id(variable) not in self._starts:
                    self._starts[id(variable)] = self._backend.values.to_numpy(variable).tobytes()

    def start_of(self, variable: Any) -> Optional[bytes]:
        """The value that a statistic had when its BN was first called, None where unknown."""
        return self._starts.get(id(variable))

    # -------------------------------------------------------------- the first steps
    @property
    def steps_left(self) -> int:
        """How many calls of the train function are still compared."""
        return self._steps_left

    def take_failure(self) -> str:
        """The message of the error that was raised inside a trace, once; "" where there is none.

        Keras and TensorFlow wrap what is raised there, and write pages around its message.
        """
        failure, self._failure = self._failure, ""
        return failure

    def step_done(self, *, compared: bool = True) -> None:
        """Another step is over, and no statistic has changed as far as is known.

        Args:
            compared: they could be compared. Defaults to True.
        """
        self._steps_left -= 1
        if not compared:
            return
        for path, status in self._status.items():
            if status is Verification.NOT_MEASURED:
                self._status[path] = Verification.UNCHANGED

    def fail(self, handle: NormHandle, reason: str) -> None:
        """A BN does not run in inference mode.

        Raises:
            InferenceNotForcedError: where failures are errors.
        """
        known = self._status.get(handle.path) is Verification.FAILED
        self._status[handle.path] = Verification.FAILED
        if self._on_failure is OnFailure.RAISE:
            self._failure = _message(handle, reason)
            raise InferenceNotForcedError(self._failure)
        if self._on_failure is OnFailure.WARN and not known:
            warn_user(_message(handle, reason))


def parse_on_failure(value: str) -> OnFailure:
    """The member for an argument `on_failure`.

    Raises:
        SettingError: it is neither "raise" nor "warn".
    """
    for member in (OnFailure.RAISE, OnFailure.WARN, OnFailure.NOTE):
        if isinstance(value, str) and value == member.value:
            return member
    raise SettingError(f"on_failure={value!r}, expected 'raise' or 'warn'.")


def statistics_of(handle: NormHandle) -> List[Any]:
    """Variables of a BN that must not change while it is forced."""
    mean, variance, gamma, beta = handle.vectors()
    found = [v for v in (mean, variance) if v is not None]
    if handle.module is None and hasattr(handle.layer, "non_trainable_variables"):
        affine = {id(v) for v in (gamma, beta)}
        found += [
            v
            for v in handle.layer.non_trainable_variables
            if id(v) not in affine and "float" in str(getattr(v, "dtype", ""))
        ]
    return list({id(v): v for v in found}.values())


Measured = Tuple[Optional[Way], str]
"""(the way that works, why none does); (None, "") where the call could not be measured."""

_KNOWN: weakref.WeakKeyDictionary[Any, Dict[Any, Measured]] = weakref.WeakKeyDictionary()


def _measured(
    backend: Any, owner: Any, handles: Sequence[NormHandle], call: Any, args: Any, kwargs: Any
) -> Measured:
    """Measure a call, once for each instance and kind of arguments."""
    try:
        known = _KNOWN.setdefault(owner, {})
        kind = _kind(backend, owner, args, kwargs)
        if kind not in known:
            found = _try_ways(backend, owner, handles, call, args, kwargs)
            if found == (None, ""):
                return found
            known[kind] = found
        return known[kind]
    except Exception:
        return None, ""


def _try_ways(
    backend: Any, owner: Any, handles: Sequence[NormHandle], call: Any, args: Any, kwargs: Any
) -> Measured:
    calls = MeasuredCalls(backend, owner, args, kwargs)
    statistics = [variable for handle in handles for variable in statistics_of(handle)]
    reason = ""
    for way in WAYS:
        run = functools.partial(_run, backend, call, way)
        try:
            with measuring():
                measured = calls.measure(run, statistics)
        except Exception:  # The call does not take such arguments, or cannot be run on its own.
            continue
        if measured.in_inference_mode:
            return way, ""
        reason = reason or measured.describe()
    return None, reason


def _measured_around(
    backend: Any, owner: Any, handles: Sequence[NormHandle], call: Any, args: Any, kwargs: Any
) -> Optional[bool]:
    calls = MeasuredCalls(backend, owner, args, kwargs)
    statistics = [variable for handle in handles for variable in statistics_of(handle)]
    with measuring():
        return uses_batch_moments(
            calls, call, functools.partial(_run, backend, call, training_false), statistics
        )


def _run(backend: Any, call: Any, way: Way, *args: Any, **kwargs: Any) -> Any:
    args, kwargs = way(call, args, kwargs)
    context = backend.step.call_context()
    before = getattr(context, "training", None)
    try:
        if context is not None:
            context.training = False
        return call(*args, **kwargs)
    finally:
        if context is not None:
            context.training = before


def _kind(backend: Any, owner: Any, args: Any, kwargs: Any) -> Any:
    """What makes two calls of one instance alike."""
    specs = describe_tensors(backend, (tuple(args), dict(kwargs)))
    ranks = map_specs(specs, _rank)
    return repr(ranks), bool(getattr(owner, "trainable", True))


def _rank(spec: TensorSpec) -> Tuple[int, str]:
    return len(spec.shape), spec.dtype


def _message(handle: NormHandle, reason: str) -> str:
    return (
        f"{handle.path} ({handle.class_name}) is to run in inference mode and does not: {reason}. "
        "Let its call take `training` and obey training=False, or leave it out of what is forced "
        '(`layers=`, or its `trainable`). With on_failure="warn" training goes on.'
    )
