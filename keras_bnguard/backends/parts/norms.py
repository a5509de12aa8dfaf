"""Find the moving statistics of a layer: of a BN of Keras, or by the names of its variables."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple

from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.signatures import package_of
from keras_bnguard.records import NormKind


def keras_handle(layer: Any, path: str, package: str) -> NormHandle:
    """Return the handle of a layer that is a BN of Keras, or of a class derived from it.

    Args:
        layer: the BN.
        path: its path.
        package: the import name of its Keras.
    """

    def vectors() -> Tuple[Any, Any, Any, Any]:
        return (
            getattr(layer, "moving_mean", None),
            getattr(layer, "moving_variance", None),
            getattr(layer, "gamma", None),
            getattr(layer, "beta", None),
        )

    return NormHandle(
        path=path,
        layer=layer,
        kind=NormKind.KERAS,
        vectors=vectors,
        settings={
            "momentum": _number(getattr(layer, "momentum", None)),
            "epsilon": _number(getattr(layer, "epsilon", None)),
            "renorm": bool(getattr(layer, "renorm", False)),
            "synchronized": bool(getattr(layer, "synchronized", False))
            or "SyncBatch" in type(layer).__name__,
            "axis": _axis(getattr(layer, "axis", None)),
        },
        class_name=type(layer).__name__,
        own_flag=lambda: bool(layer.trainable),
        builtin=_is_builtin(layer, package),
    )


def variable_handle(layer: Any, path: str, found: Dict[str, Any]) -> NormHandle:
    """Return the handle of statistics that a layer keeps without being a BN of Keras.

    Args:
        layer: the layer that owns them.
        path: the path for messages.
        found: the variables or arrays named "mean" and "variance".
    """

    def vectors() -> Tuple[Any, Any, Any, Any]:
        return (found.get("mean"), found.get("variance"), None, None)

    return NormHandle(
        path=path,
        layer=layer,
        kind=NormKind.VARIABLES,
        vectors=vectors,
        settings={"momentum": None, "epsilon": None, "renorm": False, "synchronized": False},
        class_name=type(layer).__name__,
        own_flag=lambda: bool(layer.trainable),
        builtin=False,
    )


def named_statistics(variables: Sequence[Any]) -> Dict[str, Dict[str, Any]]:
    """Return pairs of moving mean and variance among variables, by their names.

    Returns:
        Prefix of the names -> {"mean": variable, "variance": variable}.
    """
    found: Dict[str, Dict[str, Any]] = {}
    endings = {"moving_mean": "mean", "moving_variance": "variance"}
    for variable in variables:
        name = str(getattr(variable, "path", None) or getattr(variable, "name", ""))
        name = name.split(":", 1)[0]
        for ending, part in endings.items():
            if name.endswith(ending):
                prefix = name[: -len(ending)].strip("/_").rsplit("/", 1)[-1]
                found.setdefault(prefix or "norm", {})[part] = variable
    return {name: pair for name, pair in found.items() if len(pair) == 2}


def _is_builtin(layer: Any, package: str) -> bool:
    """Whether a BN is Keras's own, with the semantics of TF 2, and no subclass of it."""
    return package_of(type(layer)) == package and bool(getattr(layer, "_USE_V2_BEHAVIOR", True))


def _number(value: Any) -> Optional[float]:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _axis(value: Any) -> Optional[int]:
    """The one axis that a BN normalises along; Keras 2 keeps a list once the layer is built."""
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    return int(found[0]) if len(found) == 1 and isinstance(found[0], int) else None
