"""`Recalibrate`: new moving statistics when training ends, and whenever averages go in."""

from __future__ import annotations

import functools
import weakref
from enum import Enum
from typing import Any, Callable, List, Mapping, Optional, Tuple

from keras_bnguard.arguments import check_flag, check_verbosity, short_traceback
from keras_bnguard.backends.callback_base import Hooks, ensure_model
from keras_bnguard.backends.graph_mode import require_eager
from keras_bnguard.backends.optimizers.averages import (
    after_swaps,
    assign_averages,
    assigns_averages,
)
from keras_bnguard.backends.patches.fit_scope import (
    callback_list,
    named,
    put_in_order,
)
from keras_bnguard.backends.patches.left_fit import when_fit_is_left
from keras_bnguard.backends.processes.voice import speaks
from keras_bnguard.data.all_processes import AllProcesses
from keras_bnguard.data.batches import Batches
from keras_bnguard.errors import SettingError
from keras_bnguard.inference.steps import forced_paths
from keras_bnguard.recalibration.recalibrate import (
    Recalibration,
    RecalibrationPlan,
    run_plan,
)
from keras_bnguard.selectors import Selectors


class When(Enum):
    """When the callback recalibrates; the values are what users pass as `at`."""

    END = "end"
    SWAPS = "swaps"

    @classmethod
    def of(cls, value: str) -> When:
        """The member of this name.

        Raises:
            SettingError: there is none.
        """
        try:
            return cls(value)
        except ValueError:
            names = ", ".join(repr(when.value) for when in cls)
            raise SettingError(f"at={value!r}: expected one of {names}.") from None


class Recalibrate(Hooks):
    """Keras callback that recalibrates BN: population mean and variance of the final weights.

    It calls `recalibrate` at the right moment. When `fit` ends with averaged weights
    (`use_ema=True`, `SwapEMAWeights`, TensorFlow Addons' `SWA` and `MovingAverage`), the moving
    statistics still belong to the weights before averaging (Izmailov et al. 2018, section
    3.2); the callback replaces them by those of the averages. BN that were frozen or forced into
    inference mode in the last epoch keep their statistics unless `layers` names them.

    The callback may stand anywhere in the list of callbacks. Keras puts averages of `use_ema` into
    the weights before `on_train_end`. `EarlyStopping` and `PhaseScheduler` may restore weights
    there; their hooks run before those of this callback. A callback of your own that saves the
    model in `on_train_end` has to come after it.

    Args:
        data: arrays, (x, y), a dataset, a loader, a list of batches, or a function that returns an
            iterator of batches; docs/data-rules.md lists every kind. Pass the training data, in
            batches of the size of training. Labels are not used. A few thousand samples are
            enough.
        at: "end" (default): once, when training ends. "swaps": also whenever `SwapEMAWeights` or
            `AverageModelCheckpoint` puts averages into the model during training, so that
            validation and saved files have statistics that belong to them; the statistics of
            training are restored afterwards. Each costs a pass over `data`.
        assign_averages: at the end of training, first put the averages of TensorFlow Addons' `SWA`
            or `MovingAverage` into the weights, which you would otherwise do with
            `optimizer.assign_average_vars(...)`. Defaults to False.
        layers: which BN, as in `recalibrate`. Defaults to None: every BN that is meant to train.
        mode: "one-pass" (default) or "sequential", as in `recalibrate`.
        batch_size: rows per batch where data is arrays. Defaults to 32.
        max_batches: how many batches at most. Defaults to None: all.
        all_rows_on_every_worker: as in `recalibrate`, for several processes: False (default)
            pools over them, so `data` may be the part of each; every process needs the callback.
        verbose: 1 prints a line about what was done. Defaults to 0.

    Attributes:
        result: the `Recalibration` of the end of training, None before it or where no BN was to
            be recalibrated; `result.undo()` restores the statistics of training.

    Raises:
        SettingError: unknown `at` or `mode`; a size that is no whole number of at least 1.
        DataError: data that can be read only once, never ends, or cannot be read.

    Example:
        model.compile(keras.optimizers.Adam(1e-3, use_ema=True), loss, metrics=["accuracy"])
        model.fit(x, y, callbacks=[bng.BNGuard(), bng.Recalibrate(x)])
    """

    recalibrates_when_training_ends = True
    """`BNGuard` asks every callback for this attribute."""

    @short_traceback
    def __init__(
        self,
        data: Any,
        *,
        at: str = "end",
        assign_averages: bool = False,
        layers: Optional[Selectors] = None,
        mode: str = "one-pass",
        batch_size: int = 32,
        max_batches: Optional[int] = None,
        all_rows_on_every_worker: bool = False,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self._when = When.of(at)
        # An error now is better than one after hours of training.
        Batches(data, batch_size=batch_size, limit=max_batches)
        self.assign_averages = check_flag("assign_averages", assign_averages)
        self._data = data
        self._plan = RecalibrationPlan.of(
            layers, mode, batch_size, max_batches, all_rows_on_every_worker
        )
        self._verbose = check_verbosity("verbose", verbose)
        self.result: Optional[Recalibration] = None
        self._of_averages: Optional[Recalibration] = None
        self._stop_watching: Callable[[], None] = _nothing
        self._other_callbacks: List[Any] = []
        self._forced_inference: Tuple[str, ...] = ()

    # ------------------------------------------------------------------ hooks
    def on_train_begin(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._stop_watching()
        ensure_model(self)
        require_eager(self._model, "Recalibrate")
        AllProcesses(self._model, self._plan.all_rows_on_every_worker, "Recalibrate")
        self.result = self._of_averages = None
        self._forced_inference = ()
        listed = callback_list(self)
        self._other_callbacks = []
        if listed is not None:
            self._other_callbacks = [each for each in listed.callbacks if each is not self]
            put_in_order(listed, self, before=_may_restore_weights)
        if self._when is When.SWAPS:
            swapped = functools.partial(_averages_swapped, weakref.ref(self))
            self._stop_watching = after_swaps(self._model, self._other_callbacks, swapped)
            when_fit_is_left(self._stop_watching)

    def on_epoch_end(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        # PhaseScheduler releases its forced inference when training ends, before this callback
        # recalibrates.
        self._forced_inference = forced_paths(self._model)

    def on_train_end(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._stop_watching()
        self._stop_watching = _nothing
        model = self.model
        self._restore_statistics_of_training()
        assigned = self.assign_averages and assigns_averages(model)
        if assigned:
            assign_averages(model)
        result = self._recalibrate()
        self.result = result if result.after else None
        line = _describe(result, assigned)
        for callback in self._other_callbacks:
            if hasattr(callback, "note_recalibration"):
                callback.note_recalibration(line)
        if self._verbose and speaks(model):
            print(f"Recalibrate: {line}")
        self._other_callbacks = []

    # ---------------------------------------------------------------- averages
    def covers_averages(self, assigned: bool) -> bool:
        """Whether averages of the weights get statistics of their own; `BNGuard` asks for it.

        Args:
            assigned: whether the averages are in the weights when training ends.
        """
        return assigned or self.assign_averages or self._when is When.SWAPS

    def averages_swapped(self, inside: bool, returns: bool) -> None:
        """Recalibrate for averages that were just put into the weights, or undo that.

        Args:
            inside: whether the averages are in the weights now.
            returns: whether a later swap takes them out again.
        """
        self._restore_statistics_of_training()
        if inside:
            self._forced_inference = forced_paths(self._model)
            result = self._recalibrate()
            # Where nothing takes the averages out again, training continues with both.
            self._of_averages = result if returns else None

    def _restore_statistics_of_training(self) -> None:
        if self._of_averages is not None:
            self._of_averages.undo()
            self._of_averages = None

    def _recalibrate(self) -> Recalibration:
        return run_plan(self._model, self._data, self._plan, self._forced_inference)


def _describe(result: Recalibration, assigned: bool) -> str:
    done = f"recalibrated at the end of training: {len(result.after)} BN ({result.mode})"
    if result.after:
        done += f", {int(max(result.values.values())):,} values a channel at most"
    return f"averages assigned to the weights; {done}" if assigned else done


def _may_restore_weights(callback: Any) -> bool:
    return named(callback, "EarlyStopping", "PhaseScheduler")


def _averages_swapped(reference: Any, inside: bool, returns: bool) -> None:
    callback = reference()
    if callback is not None:
        callback.averages_swapped(inside, returns)


def _nothing() -> None:
    return None
