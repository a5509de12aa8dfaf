"""The interface every adapter implements, and what is the same for all of them."""

from __future__ import annotations

import gc
import weakref
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.graph import named_statistics
from keras_bnguard.backends.layer_behaviour import measure_norm
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.self_test import keras_tensor
from keras_bnguard.backends.training import Training, inner_optimizer
from keras_bnguard.backends.values.probe import ProbeMath
from keras_bnguard.backends.values.readers import READERS, LiveReader
from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.records import NormBehaviour, NormKind, NormState


class Backend(Training):
    """What the stages may ask of a Keras. Subclasses fill in what differs."""

    def __init__(self, keras: Any) -> None:
        super().__init__(keras)
        self._class_behaviour: Dict[Any, Optional[NormBehaviour]] = {}

    def norm_behaviour(self, handle: NormHandle) -> Optional[NormBehaviour]:
        """What a BN's class does, measured on a fresh layer; None where it cannot be."""
        if handle.kind is not NormKind.KERAS:
            return None
        layer = handle.layer
        key = (type(layer), bool(handle.settings["renorm"]))
        if key not in self._class_behaviour:
            self._class_behaviour[key] = measure_norm(self, layer)
        return self._class_behaviour[key]

    # ----------------------------------------------------------------- numbers
    def flat(self, variables: Sequence[Any]) -> np.ndarray:
        """The values of several vectors joined to one float32 (or wider) array, copied."""
        return np.array(self.reader(variables)())

    def reader(self, variables: Sequence[Any]) -> Callable[[], np.ndarray]:
        """What reads several vectors as `flat` does, again and again, for less each time.

        What it gives is a copy too, but may be read-only."""
        if not variables:
            return lambda: np.zeros((0,), np.float32)
        return lambda: np.concatenate([np.ravel(self.to_numpy(v)) for v in variables])

    def live_reader(self, model: Any, variables: Sequence[Any]) -> LiveReader:
        """Reads those vectors between two batches, as they are there."""
        reader = READERS.get(self.backend, LiveReader)
        made: LiveReader = reader(model, variables, self.sync, self.reader(variables))
        return made

    def state(self, handle: NormHandle, affine: bool = True) -> NormState:
        """The vectors of one BN; None for those it does not have or has not built."""
        mean, variance, gamma, beta = handle.vectors()

        def read(variable: Any) -> Optional[np.ndarray]:
            return None if variable is None else np.array(self.to_numpy(variable), copy=True)

        if not affine:
            return NormState(read(mean), read(variance))
        return NormState(read(mean), read(variance), read(gamma), read(beta))

    def dtype_of(self, variable: Any) -> str:
        dtype = getattr(variable, "dtype", "float32")
        return str(getattr(dtype, "name", dtype)).replace("torch.", "")

    # ------------------------------------------------------------------ probes
    def probe_math(self) -> ProbeMath:
        """The array operations a probe of a model of this Keras uses."""
        raise NotImplementedError

    def compiled_probe(
        self, model: Any, traced: Callable[..., Any], training: bool = False
    ) -> Callable[[Any], Any]:
        """A function of a batch that runs `traced(call)`, `call` being the model on the batch
        in inference mode (or with `training`); compiled where the backend compiles, without
        gradients."""
        raise NotImplementedError

    def tensor_to_numpy(self, tensor: Any) -> np.ndarray:
        """A tensor of this backend as NumPy."""
        return self.to_numpy(tensor)

    def map_structure(self, function: Callable[[Any], Any], structure: Any) -> Any:
        """Apply a function to every tensor of a list, tuple or dict of tensors."""
        if isinstance(structure, dict):
            return {key: self.map_structure(function, value) for key, value in structure.items()}
        if isinstance(structure, (list, tuple)):
            return [self.map_structure(function, value) for value in structure]
        return function(structure)

    def loss_of(self, model: Any, y: Any, outputs: Any, sample_weight: Any = None) -> float:
        """The compiled loss of a batch, without regularisation terms, as a Python float.

        The loss objects of the user are called and nothing else, so no tracker moves. With
        several outputs it is the sum, weighted by the compiled `loss_weights` where given.
        """
        parts = loss_parts(model.loss, y, outputs, getattr(model, "output_names", None))
        weights = loss_weights(model, [part[0] for part in parts])
        total = 0.0
        for (_, loss, target, output), weight in zip(parts, weights):
            chosen = self.keras.losses.get(loss)
            values = chosen(keras_tensor(self.keras, target), keras_tensor(self.keras, output))
            total += weight * float(np.mean(self.tensor_to_numpy(values)))
        return total

    def row_losses(self, model: Any, y: Any, outputs: Any) -> np.ndarray:
        """The compiled loss of each row, without regularisation terms, shape `(rows,)`.

        With several outputs it is weighted as in `loss_of`.
        A loss function of the user's that gives one number for a batch counts for all its rows.
        """
        total: Any = 0.0
        parts = loss_parts(model.loss, y, outputs, getattr(model, "output_names", None))
        weights = loss_weights(model, [part[0] for part in parts])
        for (_, loss, target, output), weight in zip(parts, weights):
            chosen = self.keras.losses.get(loss)
            each = getattr(chosen, "call", chosen)
            target = np.asarray(target)
            if target.dtype == np.float64:
                target = target.astype(np.float32)
            values = self.tensor_to_numpy(
                each(keras_tensor(self.keras, target), keras_tensor(self.keras, output))
            )
            rows = len(np.asarray(output))
            values = np.broadcast_to(values, (rows,)) if not values.ndim else values
            total = total + weight * np.mean(np.asarray(values, float).reshape(rows, -1), axis=1)
        return np.asarray(total)

    def assign(self, variable: Any, value: np.ndarray) -> None:
        """Put a value into a variable of a BN."""
        variable.assign(value)

    def takes_training(self, model: Any) -> bool:
        """Whether a model's `call` has a `training` parameter."""
        return "training" in self._call_parameters(model)

    # -------------------------------------------------------------------- files
    def load_model(self, path: str) -> Any:
        """The model in a `.keras` or `.h5` file, not compiled, with Keras's safe mode on.

        Safe mode does not cover every file and release: check a file you did not write first,
        as `bnguard audit` does.
        """
        return self.keras.models.load_model(path, compile=False, safe_mode=True)

    def load_saved_model(self, folder: str, description: Any) -> Any:
        """The model in a SavedModel folder, made from its description, with its weights.

        The graph in the folder is neither read nor run. Only Keras 2 has such folders.
        """
        raise UnsupportedModelError(f"{self.package} {self.version} makes no model of {folder}.")

    # ----------------------------------------------------------- other models
    def other_models(self, model: Any) -> List[Any]:
        """Compiled models alive in this process, but for `model` (walks all objects)."""
        return [
            thing
            for thing in gc.get_objects()
            if is_live(thing, self.keras.Model)
            and thing is not model
            and getattr(thing, "optimizer", None) is not None
        ]


def loss_parts(
    loss: Any, y: Any, outputs: Any, names: Optional[Sequence[str]]
) -> List[Tuple[Any, Any, Any, Any]]:
    """(its place and name, loss, target, output) for each output of a model that has a loss,
    from what `compile` was given."""
    if isinstance(outputs, dict):
        wanted = y if isinstance(y, dict) else dict.fromkeys(outputs, y)
        chosen = loss if isinstance(loss, dict) else dict.fromkeys(outputs, loss)
        return [
            ((i, k), chosen[k], wanted[k], outputs[k])
            for i, k in enumerate(outputs)
            if chosen.get(k) is not None
        ]
    if isinstance(outputs, (list, tuple)):
        keys = list(names or range(len(outputs)))
        targets = [y[k] for k in keys] if isinstance(y, dict) else list(y)
        if isinstance(loss, dict):
            chosen_list = [loss.get(k) for k in keys]
        else:
            chosen_list = list(loss) if isinstance(loss, (list, tuple)) else [loss] * len(keys)
        rows = zip(enumerate(keys), chosen_list, targets, outputs)
        return [row for row in rows if row[1] is not None]
    return [((0, None), loss, y, outputs)] if loss is not None else []


def loss_weights(model: Any, places: Sequence[Tuple[int, Any]]) -> List[float]:
    """The `loss_weights` of `compile` for some outputs; 1 where none can be read."""
    try:
        given = model.get_compile_config()["loss_weights"]
    except Exception:
        given = None
    if isinstance(given, (int, float)):
        return [float(given)] * len(places)
    if isinstance(given, dict):
        return [float(given.get(name, 1.0)) for _, name in places]
    if isinstance(given, (list, tuple)):
        return [float(given[i]) if i < len(given) else 1.0 for i, _ in places]
    return [1.0] * len(places)


def is_live(thing: Any, cls: type) -> bool:
    try:
        return issubclass(type(thing), cls) and not isinstance(thing, weakref.ProxyTypes)
    except Exception:
        return False


__all__ = ["Backend", "inner_optimizer", "is_live", "loss_parts", "named_statistics"]
