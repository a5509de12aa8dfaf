"""Read the same vectors again and again while training runs, for less than one read of each.

Measured for the 100 vectors of 50 BN with 64 channels on CPU: JAX 0.06 ms compiled, 0.3 ms one
by one; TensorFlow 0.2 ms compiled, 0.9 ms one by one. torch has nothing to compile for it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np


class LiveReader:
    """The present values of some vectors of a model, also between two batches of `fit`.

    Args:
        model: the model that owns the vectors. variables: the vectors.
        sync: brings the values home where the engine keeps them elsewhere during an epoch.
        flat: reads the vectors of a model whose values are home.
    """

    def __init__(
        self,
        model: Any,
        variables: Sequence[Any],
        sync: Callable[[Any], None],
        flat: Callable[[Sequence[Any]], np.ndarray],
    ) -> None:
        self.model = model
        self.variables = list(variables)
        self._sync = sync
        self._flat = flat

    def read(self) -> np.ndarray:
        """All vectors joined, shape `(sum of their lengths,)`, copied."""
        self._sync(self.model)
        return self._flat(self.variables)

    def renew(self) -> None:
        """Forget where the values were: an epoch began, or flags changed."""


class JaxLiveReader(LiveReader):
    """On JAX the values of an epoch are in positional lists; the model's own are empty."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._places: Optional[List[int]] = None
        self._length = 0
        self._join: Optional[Callable[[List[Any]], Any]] = None

    def renew(self) -> None:
        self._places = None

    def read(self) -> np.ndarray:
        values = self._in_epoch()
        if values is None:
            self._sync(self.model)
            values = [getattr(v, "_value", v) for v in self.variables]
        if self._join is None:
            self._join = _jax_join(values)
        return np.asarray(self._join(values))

    def _in_epoch(self) -> Optional[List[Any]]:
        state = getattr(self.model, "_jax_state", None)
        if not state or getattr(self.model, "_jax_state_synced", True) or not self.variables:
            return None
        lists = state.get("non_trainable_variables")
        if self._places is None:
            order = {id(v): i for i, v in enumerate(self.model.non_trainable_variables)}
            if any(id(v) not in order for v in self.variables):
                return None
            self._places, self._length = [order[id(v)] for v in self.variables], len(order)
        if lists is None or len(lists) != self._length:
            return None
        return [lists[place] for place in self._places]


def _jax_join(values: List[Any]) -> Callable[[List[Any]], Any]:
    """Compiled where all vectors are of one dtype on one device, else one read each."""
    import jax
    import jax.numpy as jnp

    kinds = {(v.dtype, tuple(v.sharding.device_set)) for v in values}
    if len(kinds) == 1 and len(next(iter(kinds))[1]) == 1:
        joined: Callable[[List[Any]], Any] = jax.jit(
            lambda vectors: jnp.concatenate([v.ravel() for v in vectors])
        )
        return joined
    return lambda vectors: np.concatenate([np.asarray(v).ravel() for v in vectors])


class TensorFlowLiveReader(LiveReader):
    """On TensorFlow one compiled function reads all vectors; not under a strategy."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._compiled: Optional[Callable[[], Any]] = None

    def read(self) -> np.ndarray:
        if self._compiled is None:
            self._compiled = self._compile()
        return np.array(self._compiled(), copy=True)

    def _compile(self) -> Callable[[], Any]:
        import tensorflow as tf

        inner = [tf_variable(v) for v in self.variables]
        if not inner or any(v is None for v in inner) or len({v.dtype for v in inner}) > 1:
            return super().read

        @tf.function  # type: ignore[untyped-decorator, unused-ignore]
        def join() -> Any:
            return tf.concat([tf.reshape(v.read_value(), [-1]) for v in inner], 0)

        compiled = join.get_concrete_function()
        return lambda: compiled().numpy()


def tf_variable(variable: Any) -> Any:
    """The one `tf.Variable` behind a variable of Keras; None where replicas have one each."""
    import tensorflow as tf

    # Keras 3 wraps a tf.Variable in `value`; on a tf.Variable itself that is a method.
    inner = variable if isinstance(variable, tf.Variable) else getattr(variable, "value", None)
    return inner if isinstance(inner, tf.Variable) and not hasattr(inner, "values") else None


READERS: Dict[str, type] = {"jax": JaxLiveReader, "tensorflow": TensorFlowLiveReader}
