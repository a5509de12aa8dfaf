"""Join a framework-free callback to the `Callback` classes of the Kerases that are imported.

A callback of this package is made before anyone knows which Keras will run it. Its class is
joined to the `Callback` of every Keras imported so far, so that `isinstance` holds in each;
`Hooks` has everything a Keras asks of a callback, so one imported later works as well.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, ClassVar, Dict, Mapping, Tuple, Type, TypeVar

from keras_bnguard.backends.patches.fit_scope import model_in_fit
from keras_bnguard.backends.registry import backend_for, loaded_backends

Made = TypeVar("Made", bound="Hooks")
Answer = Callable[[Any], bool]


def _implements(*names: str) -> Answer:
    """The answer to whether an object overrides one of these hooks."""

    def overrides(self: Any) -> bool:
        return any(not getattr(getattr(self, name), "_is_default", False) for name in names)

    return overrides


class Hooks:
    """Base of the callbacks: every hook a Keras may call, doing nothing, and what Keras 2 asks.

    The `_is_default` marks show Keras 3 that a hook is not overridden, so that it may go on
    dispatching batches asynchronously; `_implements_*` are what Keras 2 asks for that.

    A copy, by `copy`, `pickle` or `deepcopy`, is a new callback made with the same arguments:
    it shares no run with the original.
    """

    __signature__: ClassVar[inspect.Signature]
    _bng_public: ClassVar[type]
    _made_with: Tuple[Tuple[Any, ...], Dict[str, Any]]
    # What Keras 2 reads of a callback.
    validation_data: Any = None
    _chief_worker_only: Any = None
    _supports_tf_logs = False
    _implements_train_batch_hooks: ClassVar[Answer] = _implements(
        "on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end"
    )
    _implements_test_batch_hooks: ClassVar[Answer] = _implements(
        "on_test_batch_begin", "on_test_batch_end"
    )
    _implements_predict_batch_hooks: ClassVar[Answer] = _implements(
        "on_predict_batch_begin", "on_predict_batch_end"
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Of a class with `__new__`, `inspect.signature` would show (*args, **kwargs).
        own = list(inspect.signature(cls.__init__).parameters.values())[1:]
        cls.__signature__ = inspect.Signature(own)

    def __new__(cls: Type[Made], *args: Any, **kwargs: Any) -> Made:
        made: Made = object.__new__(joined(cls))
        made._made_with = (args, kwargs)
        return made

    def __init__(self) -> None:
        self.params: Any = None
        self._model: Any = None

    def __reduce__(self) -> Any:
        public = getattr(type(self), "_bng_public", type(self))
        return _made_again, (public, *self._made_with)

    def __deepcopy__(self: Made, memo: Any) -> Made:
        rebuild, arguments = self.__reduce__()
        copied: Made = rebuild(*arguments)
        return copied

    def call_at_batch_begin(self, hook: Callable[..., None]) -> None:
        """Have `hook(batch, logs)` called before each training batch, for this object alone.

        A class that has the hook would make Keras call it, and Keras 3 wait for every batch,
        also for the callbacks that do not need it. Before a batch rather than after
        the one before: at an end, Keras 3 waits for the values of the batch.
        """
        self.on_train_batch_begin = hook

    @property
    def model(self) -> Any:
        """The model in training, with its values in place (JAX keeps them elsewhere)."""
        if self._model is not None:
            backend_for(self._model).values.sync(self._model)
        return self._model

    @model.setter
    def model(self, value: Any) -> None:
        self._model = value

    def set_params(self, params: Any) -> None:
        self.params = params

    def set_model(self, model: Any) -> None:
        module = getattr(model, "module", None)
        wrapped = module is not None and type(model).__name__ == "DistributedDataParallel"
        self._model = module if wrapped else model


def _nothing(name: str, counted: bool) -> Any:
    if counted:

        def hook(self: Any, index: int, logs: Any = None) -> None:
            return None

    else:

        def hook(self: Any, logs: Any = None) -> None:  # type: ignore[misc]
            return None

    hook.__name__ = name
    hook._is_default = True  # type: ignore[attr-defined]
    return hook


for _mode in ("train", "test", "predict"):
    for _end in ("begin", "end"):
        setattr(Hooks, f"on_{_mode}_{_end}", _nothing(f"on_{_mode}_{_end}", False))
        _batch = f"on_{_mode}_batch_{_end}"
        setattr(Hooks, _batch, _nothing(_batch, True))
for _name in ("on_batch_begin", "on_batch_end", "on_epoch_begin", "on_epoch_end"):
    setattr(Hooks, _name, _nothing(_name, True))


def ensure_model(callback: Hooks) -> None:
    """Give a callback the model whose `fit` is running, where the CallbackList that the user
    gave to `fit` was made without one."""
    if callback._model is None:
        callback.set_model(model_in_fit())


_JOINED: Dict[Tuple[type, Tuple[type, ...]], type] = {}


def joined(cls: type) -> type:
    """`cls` with the `Callback` of every imported Keras as a base; made once per combination."""
    found = [backend.keras.callbacks.Callback for backend in loaded_backends()]
    bases = tuple(dict.fromkeys(base for base in found if not issubclass(cls, base)))
    if not bases:
        return cls
    key = (cls, bases)
    if key not in _JOINED:
        namespace = {"__module__": cls.__module__, "__doc__": cls.__doc__, "_bng_public": cls}
        _JOINED[key] = type(cls.__name__, (cls, *bases), namespace)
    return _JOINED[key]


def _made_again(cls: type, args: Tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return cls(*args, **kwargs)
