"""Run a pipeline under a guard and keep what it reported, for the tests."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

import keras_bnguard as bng
from keras_bnguard.errors import InternalErrorWarning
from keras_bnguard.records import SkipKind
from tests.stack import BACKEND, IS_KERAS3, STACK, keras

SAME_FLAGS = STACK in ("k2", "tfk")
"""Keras 2 puts the flags of `compile()` back for the length of `fit`."""


class Run:
    """What a guard reported during one run: findings by code, and the warnings as they came."""

    def __init__(self, guard: bng.BNGuard) -> None:
        self.guard = guard
        self.messages: List[str] = []
        self.error: Optional[BaseException] = None
        self.history: Any = None

    @property
    def codes(self) -> Tuple[str, ...]:
        return self.guard.report.codes

    def layers(self, code: str) -> List[str]:
        return sorted(p for f in self.guard.report.findings if f.code == code for p in f.layers)

    def finding(self, code: str) -> Any:
        return next(f for f in self.guard.report.findings if f.code == code)


@contextlib.contextmanager
def listening(guard: bng.BNGuard, fails: bool = False) -> Iterator[Run]:
    """Everything inside runs with warnings kept; a fault of the guard's own fails the test."""
    run = Run(guard)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if fails:
            try:
                yield run
            except Exception as error:
                run.error = error
        else:
            yield run
    run.messages = [str(w.message) for w in caught if issubclass(w.category, bng.BNGuardWarning)]
    faults = [str(w.message) for w in caught if issubclass(w.category, InternalErrorWarning)]
    assert not faults, faults
    assert not guard.faults, guard.faults
    if guard.report is not None:
        sound(guard.report)


def sound(report: bng.Report) -> None:
    """No rule failed, nothing was unreadable, and no rule spoke twice."""
    failed = [o for o in report.outcomes if o.skip_kind is SkipKind.RULE_FAILED]
    assert not failed, failed
    assert not report.notes, report.notes
    assert len(report.findings) == len({f.code for f in report.findings}), report.findings


def fit(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    guard: Optional[bng.BNGuard] = None,
    before: Sequence[Any] = (),
    after: Sequence[Any] = (),
    fails: bool = False,
    **kwargs: Any,
) -> Run:
    """`model.fit` for one epoch under a guard, with other callbacks before and after it."""
    guard = bng.BNGuard() if guard is None else guard
    kwargs.setdefault("epochs", 1)
    kwargs.setdefault("verbose", 0)
    if isinstance(x, (np.ndarray, dict, list)):
        kwargs.setdefault("batch_size", 16)
    if y is not None:
        kwargs["y"] = y
    with listening(guard, fails) as run:
        run.history = model.fit(x, callbacks=[*before, guard, *after], **kwargs)
    return run


def clean(run: Run) -> None:
    assert run.error is None, run.error
    assert not run.messages, run.messages
    assert not run.guard.report.findings, run.guard.report.findings
    assert run.guard.report.steps > 0


def found(run: Run, expected: Dict[str, Iterable[str]]) -> None:
    """These codes and no others, with these layers each, and one warning for each."""
    reported = {f.code: sorted(f.layers) for f in run.guard.report.findings}
    assert reported == {code: sorted(layers) for code, layers in expected.items()}, [
        str(f) for f in run.guard.report.findings
    ]
    warned = list(run.guard.report.warnings_and_errors)
    assert len(run.messages) == len(warned), run.messages


__all__ = ["BACKEND", "IS_KERAS3", "STACK", "keras"]
