"""`Recalibrate`: new moving statistics when training ends, and whenever averages go in."""

from __future__ import annotations

import functools
import weakref
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from keras_bnguard.backends.patches.callback_base import Hooks, joined
from keras_bnguard.backends.patches.fit_scope import callback_list, come_after, named
from keras_bnguard.backends.patches.model_hooks import when_fit_is_left
from keras_bnguard.backends.values.averages import after_swaps, assign_averages, assigns_averages
from keras_bnguard.data.batches import Batches
from keras_bnguard.errors import SettingError
from keras_bnguard.inference.selection import forced_paths
from keras_bnguard.recalibration.recalibrate import Recalibration, check_mode, recalibrate_unheld
from keras_bnguard.selectors import Selectors

AT = ("train end", "swaps")


class Recalibrate(Hooks):
    """Keras callback that recalibrates BN: population mean and variance of the final weights.

    What `recalibrate` does, at the right moment. When `fit` ends with averaged weights
    (`use_ema=True`, `SwapEMAWeights`, TensorFlow Addons' `SWA` and `MovingAverage`), the moving
    statistics still belong to the weights before averaging (Izmailov et al. 2018, section
    3.2); this gives them those of the averages. BN that were frozen or held at the last epoch
    are left alone unless `select` names them.

    Its place among the callbacks does not matter. Keras puts averages of `use_ema` into the
    weights before `on_train_end`; `EarlyStopping` and `PhaseScheduler`, which may put weights
    back there, run their hooks ahead of this one. A callback of your own that saves the model
    in `on_train_end` has to come after it.

    Args:
        data: what the model is trained on, in batches as it is trained on it; anything
            `recalibrate` takes. Labels are not used. A few thousand samples are enough.
        at: "train end" (default): once. "swaps": also whenever `SwapEMAWeights` or
            `AverageModelCheckpoint` puts averages into the model while training runs, so that
            validation and saved files have statistics that belong to them; what training goes
            on with is put back. Each costs a pass over `data`.
        assign_averages: at train end, first put the averages of TensorFlow Addons' `SWA` or
            `MovingAverage` into the weights, which otherwise you do with
            `optimizer.assign_average_vars(...)`. Defaults to False.
        select, mode, batch_size, batches: see `recalibrate`.
        verbose: 1 prints a line of what was done. Defaults to 0.

    Attributes:
        result: the `Recalibration` of train end, None before it or where no BN was to be
            recalibrated; `result.undo()` puts the statistics of training back.

    Raises:
        SettingError: unknown `at` or `mode`. DataError: data that can be read only once.

    Example:
        model.compile(keras.optimizers.Adam(1e-3, use_ema=True), loss, metrics=["accuracy"])
        model.fit(x, y, callbacks=[bng.BNGuard(), bng.Recalibrate(x)])
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Recalibrate:
        made: Recalibrate = object.__new__(joined(cls))
        return made

    def __init__(
        self,
        data: Any,
        *,
        at: str = "train end",
        assign_averages: bool = False,
        select: Optional[Selectors] = None,
        mode: str = "one-pass",
        batch_size: int = 32,
        batches: Optional[int] = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        if at not in AT:
            raise SettingError(f"at={at!r}: expected one of {', '.join(map(repr, AT))}.")
        check_mode(mode)
        Batches(data)  # Says now, not hours later, that it can be read only once.
        self.at, self.assign_averages = at, bool(assign_averages)
        self._data = data
        self._how: Dict[str, Any] = {
            "select": select,
            "mode": mode,
            "batch_size": batch_size,
            "batches": batches,
        }
        self._verbose = verbose
        self.result: Optional[Recalibration] = None
        self._swapped: Optional[Recalibration] = None
        self._stop_watching: Callable[[], None] = _nothing
        self._siblings: List[Any] = []
        self._held: Tuple[str, ...] = ()

    # ------------------------------------------------------------------ hooks
    def on_train_begin(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._stop_watching()
        self.result = self._swapped = None
        self._held = ()
        listed = callback_list(self)
        self._siblings = [] if listed is None else [c for c in listed.callbacks if c is not self]
        if listed is not None:
            come_after(listed, self, _may_put_weights_back)
        if self.at == "swaps":
            me = weakref.ref(self)
            told = functools.partial(_tell, me)
            self._stop_watching = after_swaps(self._model, self._siblings, told)
            when_fit_is_left(self._stop_watching)

    def on_epoch_end(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        # A phase's hold comes off when training ends, which is before this callback's turn.
        self._held = forced_paths(self._model)

    def on_train_end(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._stop_watching()
        self._stop_watching = _nothing
        model = self.model
        self._put_back()
        assigned = self.assign_averages and assigns_averages(model)
        if assigned:
            assign_averages(model)
        result = self._recalibrate()
        self.result = result if result.after else None
        line = _line(result, "train end", assigned)
        self._report(line)
        if self._verbose:
            print(f"Recalibrate: {line}")
        self._siblings = []

    # --------------------------------------------------------------- internal
    def covers(self, assigned: bool) -> bool:
        """Whether averages get statistics of their own; `assigned`: they are in the weights
        when training ends."""
        return assigned or self.assign_averages or self.at == "swaps"

    def _recalibrate(self) -> Recalibration:
        return recalibrate_unheld(self._model, self._data, forced_inference=self._held, **self._how)

    def _averages_swapped(self, inside: bool, returns: bool) -> None:
        self._put_back()
        if inside:
            self._held = forced_paths(self._model)
            result = self._recalibrate()
            # Where nobody takes the averages out again, training goes on with both.
            self._swapped = result if returns else None

    def _put_back(self) -> None:
        """The weights of training are back: so are the statistics that belong to them."""
        if self._swapped is not None:
            self._swapped.undo()
            self._swapped = None

    def _report(self, line: str) -> None:
        for each in self._siblings:
            if hasattr(each, "note_recalibration"):
                each.note_recalibration(line)

    def __reduce__(self) -> Any:
        public = getattr(type(self), "_bng_public", type(self))
        own = {"at": self.at, "assign_averages": self.assign_averages, "verbose": self._verbose}
        return _rebuild, (public, self._data, {**self._how, **own})

    def __deepcopy__(self, memo: Any) -> Recalibrate:
        rebuild, arguments = self.__reduce__()
        copied: Recalibrate = rebuild(*arguments)
        return copied


def recalibrates(callbacks: Any, assigned: bool) -> bool:
    """Whether a `Recalibrate` among callbacks covers averages; see `Recalibrate.covers`."""
    return any(isinstance(each, Recalibrate) and each.covers(assigned) for each in callbacks)


def _line(result: Recalibration, moment: str, assigned: bool) -> str:
    done = f"recalibrated at {moment}: {len(result.after)} BN ({result.mode})"
    if result.after:
        done += f", {int(max(result.values.values())):,} values a channel at most"
    return f"averages assigned to the weights; {done}" if assigned else done


def _may_put_weights_back(callback: Any) -> bool:
    return named(callback, "EarlyStopping", "PhaseScheduler")


def _tell(ref: Any, inside: bool, returns: bool) -> None:
    callback = ref()
    if callback is not None:
        callback._averages_swapped(inside, returns)


def _rebuild(cls: type, data: Any, settings: Mapping[str, Any]) -> Any:
    return cls(data, **settings)


def _nothing() -> None:
    return None
