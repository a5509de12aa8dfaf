"""Several calls of `fit` that are one training for callbacks: it begins once and ends once."""

from __future__ import annotations

from typing import Any, Callable, Optional

from keras_bnguard.backends.patches.part_of_model import StandIn

_HOOKS = [
    *(f"on_{mode}_{end}" for mode in ("test", "predict") for end in ("begin", "end")),
    *(f"on_{m}_batch_{e}" for m in ("train", "test", "predict") for e in ("begin", "end")),
    "on_epoch_begin",
    "on_epoch_end",
]


class JoinedFits:
    """The CallbackList that several calls of `fit` share.

    Args:
        keras: the Keras module.
        callbacks: of the user.
        model: the model.
        settings: `verbose`, `epochs` and `steps`, as `fit` gives them to callbacks.

    Attributes:
        callback_list: to pass as `callbacks=`.
        next_epoch: the epoch after the last one that ended; None before any has.
        stopped: a callback has ended the training.
    """

    def __init__(self, keras: Any, callbacks: Any, model: Any, **settings: Any) -> None:
        self.next_epoch: Optional[int] = None
        self.stopped = False
        self._model = model
        self._stand_in: Optional[StandIn] = None
        self._part_ends: Callable[[], bool] = bool
        self._list_class = keras.callbacks.CallbackList
        self.callback_list = _joined_class(self._list_class, self)(
            callbacks,
            add_history=True,
            add_progbar=settings["verbose"] != 0,
            model=model,
            **settings,
        )

    def begin(self) -> None:
        """Training begins."""
        self._list_class.on_train_begin(self.callback_list)

    def end(self, logs: Any) -> None:
        """Training has ended."""
        self._list_class.on_train_end(self.callback_list, logs)

    def next_part(self, stand_in: Optional[StandIn], ends: Callable[[], bool]) -> None:
        """Another call of `fit` follows.

        Args:
            stand_in: what runs in the place of the model, None for nothing. It is on.
            ends: called when an epoch has ended; returns whether this call of `fit` is to end.
        """
        self._stand_in, self._part_ends = stand_in, ends

    def call(self, hook: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a hook of the list with the whole model in place."""
        stand_in = self._stand_in
        if stand_in is None:
            return hook(*args, **kwargs)
        stand_in.off()
        try:
            return hook(*args, **kwargs)
        finally:
            stand_in.on()

    def epoch_ended(self, epoch: int) -> None:
        """All callbacks have seen the end of an epoch."""
        self.next_epoch = epoch + 1
        if self._model.stop_training:
            self.stopped = True
        elif self._part_ends():
            self._model.stop_training = True


def _joined_class(base: type, joined: JoinedFits) -> type:
    """A class of CallbackList whose training begins and ends with that of `joined`."""

    def nothing(self: Any, logs: Any = None) -> None:
        return None

    def passing(name: str) -> Callable[..., Any]:
        def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            own = getattr(super(made, self), name)
            result = joined.call(own, args, kwargs)
            if name == "on_epoch_end":
                joined.epoch_ended(args[0])
            return result

        return hook

    namespace = {"on_train_begin": nothing, "on_train_end": nothing}
    made = type(
        base.__name__,
        (base,),
        {**namespace, **{name: passing(name) for name in _HOOKS if hasattr(base, name)}},
    )
    return made
