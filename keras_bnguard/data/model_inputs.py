"""Whether a model takes a batch: one clear error before anything is run."""

from __future__ import annotations

from typing import Any, Dict, Hashable, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.data import tree
from keras_bnguard.data.batch import Batch
from keras_bnguard.errors import DataError, UnsupportedModelError


def fixed_rows(model: Any) -> Optional[int]:
    """The number of rows that every batch of a model must have, None where any will do."""
    for tensor in getattr(model, "inputs", None) or ():
        if len(tensor.shape) and tensor.shape[0] is not None:
            return int(tensor.shape[0])
    return None


def check_built(model: Any, what: str) -> None:
    """Refuse a model that has no variables yet.

    Args:
        model: a Keras model.
        what: the name of the function, for the message.

    Raises:
        UnsupportedModelError: it is not built.
    """
    if not getattr(model, "built", True):
        raise UnsupportedModelError(
            f"{what} runs the model, and {model.name!r} is not built yet: call it on one batch "
            "first, as in model(x[:1]), or load its weights."
        )


def check_inputs(model: Any, batch: Batch) -> None:
    """Refuse data that the model does not take, before anything is run.

    Args:
        model: a built Keras model.
        batch: a batch of the data.

    Raises:
        DataError: an input is missing, is text or has another shape; names what was given and
            what was expected.
    """
    for tensor, array, name in _pairs(model, batch.x):
        _check_dtype(tensor, array, name)
        _check_shape(tensor, array, name)


def _pairs(model: Any, x: Any) -> Sequence[Tuple[Any, Any, str]]:
    """(symbolic input, array, its name for a message); empty where they cannot be matched."""
    expected: List[Any] = list(getattr(model, "inputs", None) or ())
    if isinstance(x, dict):
        wanted = _by_name(model, expected)
        missing = [repr(name) for name in wanted if name not in x]
        if missing:
            raise DataError(
                f"the model takes the inputs {', '.join(map(repr, wanted))}, the data has "
                f"{', '.join(map(repr, x))}: {', '.join(missing)} is missing. Pass a dict with an "
                "array for every input."
            )
        return [(wanted[name], x[name], f" for input {name!r}") for name in wanted]
    given = tree.leaves(x)
    if isinstance(x, (list, tuple)) and len(expected) > 1 and len(given) != len(expected):
        raise DataError(
            f"the model takes {len(expected)} inputs, the data gives {len(given)}. Pass a list of "
            "arrays in the order of model.inputs, or a dict by their names."
        )
    if len(given) != len(expected):
        return ()
    return [(tensor, array, "") for tensor, array in zip(expected, given)]


def _by_name(model: Any, inputs: Sequence[Any]) -> Dict[Hashable, Any]:
    """The inputs of a functional model by the names that a dict of data has."""
    structure = getattr(model, "input", None) if inputs else None
    if isinstance(structure, dict):
        return dict(structure)
    names = getattr(model, "input_names", None) or [tensor.name for tensor in inputs]
    return dict(zip(names, inputs))


def _check_dtype(tensor: Any, array: Any, name: str) -> None:
    kind = np.asarray(array).dtype
    wanted = str(getattr(tensor.dtype, "name", tensor.dtype))
    if kind.kind in "USO" and wanted != "string":
        raise DataError(
            f"the model takes numbers of {wanted}, the data{name} has dtype {kind}, which is text "
            "or objects. Convert it as for training, as in x.astype('float32')."
        )


def _check_shape(tensor: Any, array: Any, name: str) -> None:
    want: Tuple[Any, ...] = tuple(tensor.shape)
    have: Tuple[int, ...] = tuple(np.shape(array))
    fits = len(want) == len(have) and all(w is None or w == h for w, h in zip(want[1:], have[1:]))
    if fits and want and want[0] not in (None, have[0]):
        raise DataError(
            f"the model takes batches of exactly {want[0]} rows, the data{name} gives {have[0]}. "
            f"Pass batch_size={want[0]}, and a number of rows that it divides."
        )
    # Keras adds the last axis where it has one value.
    if not fits and not (want[1:] == (1,) and len(have) == 1):
        raise DataError(
            f"the model takes batches of shape {want}, the data{name} gives {have}. Pass data as "
            "the model is trained on it, with the batch axis first."
        )
