"""What every hook of a guard works in: internal errors stay inside, findings go out."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, Tuple

from keras_bnguard.errors import FaultBarrier
from keras_bnguard.records import Finding


class SafeScope:
    """Makes contexts for the hooks of one run.

    An internal error inside one is kept from the user. When the outermost one is left, the new
    findings are handed out, which may raise: a repair inside has marked them by then.

    Args:
        take_new: returns the findings that were not handed out yet.
        emit: hands out one finding.
        stop: takes everything off the model; called at an internal error, and where `emit` raises.

    Attributes:
        barrier: notes the internal errors.
    """

    def __init__(
        self,
        take_new: Callable[[], Tuple[Finding, ...]],
        emit: Callable[[Finding], Any],
        stop: Callable[[], Any],
    ) -> None:
        self._take_new = take_new
        self._emit = emit
        self._stop = stop
        self._depth = 0
        self.barrier = FaultBarrier(stop)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        self._depth += 1
        try:
            with self.barrier:
                yield
        finally:
            self._depth -= 1
        if self._depth:
            return
        for finding in self._take_new():
            try:
                self._emit(finding)
            except BaseException:
                # A finding, a warning as an error, or a function of the user: training ends.
                self._stop()
                raise
