"""What stands around the callbacks of a `fit` to see what the user's own assign to the model."""

from __future__ import annotations

import ast
import contextlib
import inspect
import textwrap
import weakref
from dataclasses import replace
from typing import Any, Callable, ContextManager, Iterator, List, Sequence

from keras_bnguard.backends.callback_base import Hooks
from keras_bnguard.backends.optimizers.averages import keeper
from keras_bnguard.backends.patches.fit_scope import (
    callback_list,
    put_around,
    take_out,
    user_callbacks,
)
from keras_bnguard.guard.run import MonitoredRun
from keras_bnguard.guard.tracking.assignment_tracker import AssignmentTracker
from keras_bnguard.records import AssignedWeights, Moment, MomentKind

ASSIGNS = frozenset({"set_weights", "assign", "assign_add", "assign_sub", "copy_", "set_value"})
"""Methods that assign weights."""


class AroundCallbacks:
    """Sees weights and statistics before and after all callbacks of one `fit`.

    Nothing is put around callbacks that are all Keras's or ours, nor where the optimizer keeps an
    average of the weights, of which BNG603 speaks.

    Args:
        run: the run.
        safely: makes a context that keeps internal errors from the user.
        wrote: called when something was found after the end of the run.
    """

    def __init__(
        self,
        run: MonitoredRun,
        safely: Callable[[], ContextManager[Any]],
        wrote: Callable[[], None],
    ) -> None:
        self._run = run
        self._safely = safely
        self._wrote = wrote
        self._tracker = AssignmentTracker()
        self._owner: Callable[[], Any] = _nobody  # Weak: the list holds this object.
        self._pair: Sequence[Any] = ()
        self._users: List[Any] = []

    def start(self, callback: Any) -> None:
        """Stand around the callbacks of the `fit` that is calling `callback`."""
        owner = callback_list(callback)
        if owner is None or keeper(self._run.model) is not None:
            return
        self._users = user_callbacks(owner.callbacks)
        if not self._users:
            return
        take_out(owner, [each for each in owner.callbacks if isinstance(each, (First, Last))])
        self._owner, self._pair = weakref.ref(owner), (First(self), Last(self))
        put_around(owner, *self._pair)

    def steps_begin(self, epoch: int) -> None:
        """All callbacks before an epoch are done."""
        moment = Moment(MomentKind.EPOCH_START, epoch)
        with self._safely(), self._going_on():
            self._judge(moment, last=False)
            self._tracker.steps_begin(self._run.trackers.snapshot, moment)

    def steps_end(self, epoch: int) -> None:
        """No callback after an epoch has run yet."""
        with self._safely(), self._going_on():
            moment = Moment(MomentKind.EPOCH_END, epoch)
            self._tracker.steps_end(self._run.trackers.snapshot, moment)

    def end(self) -> None:
        """All callbacks after training are done."""
        with self._safely():
            with self._going_on():
                if self._judge(Moment(MomentKind.TRAINING_END), last=True):
                    self._wrote()
            self._give_up()

    def _judge(self, moment: Moment, last: bool) -> bool:
        found = self._tracker.assigned(self._run.trackers.snapshot, moment, last)
        if found is not None:
            self._run.note_assigned(self._with_origin(found))
        return found is not None

    def _with_origin(self, found: AssignedWeights) -> AssignedWeights:
        lines = [line for each in self._users for line in lines_that_assign(type(each))]
        names = tuple(dict.fromkeys(type(each).__name__ for each in self._users))
        return replace(found, callbacks=names, source=lines[0] if len(lines) == 1 else None)

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """Values that cannot be read end this comparison, not the guard."""
        try:
            yield
        except Exception:
            self._give_up()

    def _give_up(self) -> None:
        if (owner := self._owner()) is not None:
            take_out(owner, self._pair)


def _nobody() -> None:
    """There is no list."""


class First(Hooks):
    """Runs before every callback.

    Args:
        observer: is called.
    """

    def __init__(self, observer: Any = None) -> None:
        super().__init__()
        self._observer = observer

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._observer is not None:
            self._observer.steps_end(epoch)


class Last(Hooks):
    """Runs after every callback.

    Args:
        observer: is called.
    """

    def __init__(self, observer: Any = None) -> None:
        super().__init__()
        self._observer = observer

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._observer is not None:
            self._observer.steps_begin(epoch)

    def on_train_end(self, logs: Any = None) -> None:
        if self._observer is not None:
            self._observer.end()


def lines_that_assign(cls: type) -> List[str]:
    """Return "file.py:41" of each call in a class that assigns weights; [] where it has no source.

    Args:
        cls: the class of a callback.
    """
    try:
        file = inspect.getsourcefile(cls)
        lines, start = inspect.getsourcelines(cls)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return []
    found = [
        start + node.lineno - 1
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ASSIGNS
        and "learning_rate" not in ast.dump(node.func.value)
    ]
    return [f"{file}:{line}" for line in sorted(set(found))]
