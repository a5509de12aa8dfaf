"""Values of variables, tensors and random states, and models from files."""

from __future__ import annotations

import math
from typing import Any, Callable, ClassVar, Dict, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.interface import ValuesInterface
from keras_bnguard.backends.layer_behaviour import measure_norm
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.values.readers import LiveReader
from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.records import NormBehaviour, NormKind, NormState


class Values(ValuesInterface):
    """What is the same in every Keras.

    Attributes:
        keras: the Keras module.
        package: its import name.
        calls_assign: whether a call of a model that `compiled_probe` makes assigns variables.
    """

    calls_assign: ClassVar[bool] = True

    def __init__(self, keras: Any) -> None:
        self.keras = keras
        self.package = str(keras.__name__).split(".", 1)[0]
        self._class_behaviour: Dict[Any, Optional[NormBehaviour]] = {}

    # ----------------------------------------------------------------- reading
    def sync(self, model: Any) -> None:
        """Write the state back to the model, where a backend keeps it elsewhere (JAX)."""

    def outside_model(self, model: Any) -> bool:
        """Return whether the values are outside the model now, by position in lists (JAX).

        A change of `trainable` would then give values to the wrong variables.
        """
        return False

    def tensor_to_numpy(self, tensor: Any) -> np.ndarray:
        """Return a tensor of this backend as a NumPy array."""
        return self.to_numpy(tensor)

    def flat(self, variables: Sequence[Any]) -> np.ndarray:
        """Return the values of several vectors joined, copied, as float32 or wider."""
        return np.array(self.reader(variables)())

    def reader(self, variables: Sequence[Any]) -> Callable[[], np.ndarray]:
        """Return a function that reads several vectors as `flat` does, faster when called often.

        Its result is a copy, too, but may be read-only.
        """
        if not variables:
            return lambda: np.zeros((0,), np.float32)
        return lambda: np.concatenate([np.ravel(self.to_numpy(v)) for v in variables])

    def live_reader(self, model: Any, variables: Sequence[Any]) -> LiveReader:
        """Return a reader of those vectors that also works between two batches of `fit`."""
        return LiveReader(model, variables, self.sync, self.reader(variables))

    def state(self, handle: NormHandle, affine: bool = True) -> NormState:
        """Return the vectors of one BN; None for those that it does not have or has not built.

        Args:
            handle: the BN.
            affine: also read gamma and beta. Defaults to True.
        """
        return self.states([handle], affine)[0]

    def states(self, handles: Sequence[NormHandle], affine: bool = True) -> List[NormState]:
        """Return the vectors of several BN as `state` does, read together.

        Args:
            handles: the BN.
            affine: also read gamma and beta. Defaults to True.
        """
        of_each = [handle.vectors()[: 4 if affine else 2] for handle in handles]
        found = iter(self.arrays([v for vectors in of_each for v in vectors if v is not None]))
        return [
            NormState(*(None if v is None else next(found) for v in vectors)) for vectors in of_each
        ]

    def arrays(self, variables: Sequence[Any]) -> List[np.ndarray]:
        """Return a copy of each value, in its own shape; those of one dtype are read together."""
        by_dtype: Dict[str, List[int]] = {}
        for i, variable in enumerate(variables):
            by_dtype.setdefault(self.dtype_of(variable), []).append(i)
        found: Dict[int, np.ndarray] = {}
        for places in by_dtype.values():
            shapes = [tuple(int(d) for d in variables[i].shape) for i in places]
            ends = np.cumsum([math.prod(shape) for shape in shapes])
            parts = np.split(self.flat([variables[i] for i in places]), ends[:-1])
            found.update(
                {i: part.reshape(shape).copy() for i, part, shape in zip(places, parts, shapes)}
            )
        return [found[i] for i in range(len(variables))]

    def dtype_of(self, variable: Any) -> str:
        """Return the name of a variable's dtype, as NumPy writes it."""
        dtype = getattr(variable, "dtype", "float32")
        return str(getattr(dtype, "name", dtype))

    # ----------------------------------------------------------------- writing
    def copies(self, variable: Any) -> List[Any]:
        """Return the variables of the replicas in this process; itself without replicas.

        `to_numpy` and `assign` take each of them.
        """
        return [variable]

    def assign(self, variable: Any, value: np.ndarray) -> None:
        """Assign a value to a variable of a BN; where replicas have copies, to each of them."""
        variable.assign(value)

    def outside_weights(self, model: Any) -> List[Any]:
        """Return the variables that training changes and that `model.get_weights()` lacks."""
        return []

    def map_structure(self, function: Callable[[Any], Any], structure: Any) -> Any:
        """Apply a function to every tensor of a list, tuple or dict of tensors."""
        if isinstance(structure, dict):
            return {key: self.map_structure(function, value) for key, value in structure.items()}
        if isinstance(structure, (list, tuple)):
            return [self.map_structure(function, value) for value in structure]
        return function(structure)

    def identity(self, variable: Any) -> int:
        """Return a key that is the same for a variable and for what an optimizer got of it."""
        return id(variable)

    # ----------------------------------------------------------- what may change
    def random_variables(self, model: Any) -> List[Any]:
        """Return the states of the seed generators of a model's layers.

        No weight file holds them.
        """
        weights = {id(v) for v in model.weights}
        return [v for v in model.variables if id(v) not in weights]

    def random_states(self) -> List[Tuple[Callable[[Any], Any], Any]]:
        """Return `(function that restores it, state)` of each random state that Keras keeps."""
        return []

    # ---------------------------------------------------------------- behaviour
    def norm_behaviour(self, handle: NormHandle) -> Optional[NormBehaviour]:
        """Return what the class of a BN does, measured once on a fresh layer.

        None where no fresh layer can be made, and for BN that are no Keras layers.
        """
        if handle.kind is not NormKind.KERAS:
            return None
        layer = handle.layer
        key = (type(layer), bool(handle.settings["renorm"]))
        if key not in self._class_behaviour:
            self._class_behaviour[key] = measure_norm(self.keras, self.to_numpy, layer)
        return self._class_behaviour[key]

    # -------------------------------------------------------------------- files
    def load_model(self, path: str) -> Any:
        """Return the model in a `.keras` or `.h5` file, not compiled, with Keras's safe mode on.

        Safe mode does not cover every kind of file and every release: check a file that you did
        not write first, as `bnguard audit` does.
        """
        return self.keras.models.load_model(path, compile=False, safe_mode=True)

    def load_saved_model(self, folder: str, description: Any) -> Any:
        """Return the model in a SavedModel folder, made from its description, with its weights.

        The graph in the folder is neither read nor run. Only Keras 2 has such folders.

        Raises:
            UnsupportedModelError: this Keras makes no model of such a folder.
        """
        raise UnsupportedModelError(
            f"{self.package} {self.keras.__version__} makes no model of {folder}."
        )
