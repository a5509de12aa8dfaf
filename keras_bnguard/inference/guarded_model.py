"""`GuardedModel`: the guarded step joined to the `Model` class of the Keras in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict

from keras_bnguard.backends.registry import any_backend
from keras_bnguard.inference.train_step import GuardedTrainStep

if TYPE_CHECKING:

    class GuardedModel(GuardedTrainStep, Any):  # type: ignore[misc]
        """What type checkers see of the class that `guarded_model_class` makes."""

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

else:

    def __getattr__(name: str) -> Any:
        if name == "GuardedModel":
            return guarded_model_class()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_CLASSES: Dict[int, type] = {}


def guarded_model_class() -> type:
    """`GuardedModel` for the Keras a user of this process most likely means.

    The only one imported; with both imported tf_keras where `TF_USE_LEGACY_KERAS` is set,
    else keras; with none imported the first that can be. One class per Keras. For another
    Keras use the mixin: ``class M(bng.GuardedTrainStep, tf_keras.Model)``.

    Raises:
        MissingKerasError: no Keras can be imported.
    """
    keras = any_backend().keras
    cls = _CLASSES.get(id(keras))
    if cls is None:
        namespace: Dict[str, Any] = {
            "__doc__": (
                "A `keras.Model` whose training step forces every BN that should run in "
                "inference mode. Use it as you use keras.Model, functional or subclassed."
            ),
            "__module__": "keras_bnguard",
        }
        cls = type("GuardedModel", (GuardedTrainStep, keras.Model), namespace)
        cls = keras.utils.register_keras_serializable(package="keras_bnguard")(cls)
        _CLASSES[id(keras)] = cls
    return cls
