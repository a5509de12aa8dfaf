"""Measure on the very instance whether a call runs in inference mode.

The call gets two synthetic batches that differ in half of their rows, and variables with values
that are no defaults. In inference mode no statistic changes, and the other rows come out the
same. That needs no knowledge of classes or names of parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Sequence

import numpy as np

from keras_bnguard.backends.values.isolated_call import (
    IsolatedResult,
    TensorSpec,
    all_variables,
    describe_tensors,
    isolated_call,
    map_specs,
    with_dtype,
)

ROWS = 6
_KEPT = ROWS // 2
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class InferenceMeasurement:
    """What a call did to statistics and rows.

    Attributes:
        statistics_change: whether it changed a moving statistic.
        rows_depend_on_batch: whether the output of a row depends on the other rows.
    """

    statistics_change: bool
    rows_depend_on_batch: bool

    @property
    def in_inference_mode(self) -> bool:
        """Whether the call ran in inference mode."""
        return not (self.statistics_change or self.rows_depend_on_batch)

    def describe(self) -> str:
        """What shows that it did not run in inference mode; "" if it did."""
        found = []
        if self.statistics_change:
            found.append("it updates its moving statistics")
        if self.rows_depend_on_batch:
            found.append("its output for one sample depends on the other samples of the batch")
        return " and ".join(found)


class MeasuredCalls:
    """Synthetic batches like the arguments of one real call, and calls on them.

    Args:
        backend: the backend.
        owner: the layer or torch module.
        args: positional arguments of the real call.
        kwargs: keyword arguments of the real call.

    Raises:
        Exception: the arguments cannot be imitated.
    """

    def __init__(self, backend: Any, owner: Any, args: Sequence[Any], kwargs: Any) -> None:
        self._backend, self._owner = backend, owner
        self._specs = describe_tensors(backend, (tuple(args), dict(kwargs)))
        found: List[TensorSpec] = []
        map_specs(self._specs, found.append)
        self._real_rows = found[0].shape[0]
        self._variables = all_variables(owner)

    def measure(self, call: Callable[..., Any], statistics: Sequence[Any]) -> InferenceMeasurement:
        """Run a call twice, with other rows in half of the batch.

        Args:
            call: takes the arguments of the real call.
            statistics: variables that must not change in inference mode.

        Raises:
            Exception: the call cannot be run on its own.
        """
        first = self.run(call)
        ids = {id(variable) for variable in statistics}
        change = any(c for v, c in zip(self._variables, first.changed) if id(v) in ids)
        return InferenceMeasurement(change, self.rows_depend_on_batch(call, first))

    def rows_depend_on_batch(
        self, call: Callable[..., Any], first: Optional[IsolatedResult] = None
    ) -> bool:
        """Whether the output of a row depends on the other rows.

        Args:
            call: takes the arguments of the real call.
            first: what it did already. Defaults to None: it is run.

        Raises:
            Exception: the call cannot be run on its own, or its output has no rows.
        """
        return self.differ(first or self.run(call), self.run(call, other_rows=True))

    def is_random(self, call: Callable[..., Any]) -> bool:
        """Whether another seed gives another output."""
        return self.differ(self.run(call), self.run(call, seed=1))

    def depends_on(self, call: Callable[..., Any], variables: Sequence[Any]) -> bool:
        """Whether the output depends on the values of some variables."""
        return self.differ(self.run(call), self.run(call, scaled=variables))

    def run(
        self,
        call: Callable[..., Any],
        *,
        other_rows: bool = False,
        seed: int = 0,
        scaled: Sequence[Any] = (),
    ) -> IsolatedResult:
        """Run a call once.

        Args:
            call: takes the arguments of the real call.
            other_rows: have other values in the second half of the rows. Defaults to False.
            seed: of random numbers. Defaults to 0.
            scaled: variables that get other values than usual. Defaults to none.
        """
        arguments = map_specs(self._specs, lambda spec: _batch(spec, self._real_rows, other_rows))
        ids = {id(variable) for variable in scaled}
        values = [(v, self._value(v, seed, 3.0 if id(v) in ids else 1.0)) for v in self._variables]
        return isolated_call(self._backend, self._owner, call, arguments, values, seed)

    def differ(self, one: IsolatedResult, other: IsolatedResult) -> bool:
        """Whether the rows whose inputs are always the same come out differently.

        Raises:
            ValueError: no output has rows to compare.
        """
        pairs = [
            (a[:_KEPT], b[:_KEPT])
            for a, b in zip(one.outputs, other.outputs)
            if a.ndim and a.shape == b.shape and len(a) == ROWS
        ]
        if not pairs:
            raise ValueError("no output has the rows of the input")
        return any(
            bool(np.max(np.abs(a - b)) > _TOLERANCE * (1.0 + np.max(np.abs(a))))
            for a, b in pairs
            if a.size
        )

    def _value(self, variable: Any, seed: int, scale: float) -> np.ndarray:
        shape = tuple(int(d) for d in variable.shape)
        dtype = self._backend.values.dtype_of(variable)
        if "float" not in dtype:
            return np.full(shape, seed, dtype)
        count = int(np.prod(shape))
        values = 1.0 + 0.4 * np.sin(1.0 + np.arange(count)).reshape(shape)
        inputs = max(count // shape[-1], 1) if shape and shape[-1] else 1
        return np.asarray(scale * values / inputs, np.float32)


def _batch(spec: TensorSpec, real_rows: int, other_rows: bool) -> Any:
    """A synthetic tensor; rows up to half of them are the same for both `other_rows`."""
    shape = list(spec.shape)
    rows = bool(shape) and shape[0] == real_rows
    if rows:
        shape[0] = ROWS
    if "bool" in spec.dtype:
        return with_dtype(np.ones(shape, bool), spec.dtype)
    if "float" not in spec.dtype:
        whole = np.ones(shape, np.int64)
        if rows and other_rows:
            whole[_KEPT:] = 0
        return with_dtype(whole, spec.dtype)
    values = np.random.default_rng(7).normal(2.0, 1.5, shape).astype(np.float32)
    if rows and other_rows:
        values[_KEPT:] = 3.0 * values[_KEPT:] + 4.0
    return with_dtype(values, spec.dtype)


def uses_batch_moments(
    calls: MeasuredCalls,
    in_step: Callable[..., Any],
    in_inference: Callable[..., Any],
    statistics: Sequence[Any],
) -> Optional[bool]:
    """Whether a layer around forced BN computes with moments of the batch instead of theirs.

    Its call in a training step makes rows depend on the batch, and in inference mode it does
    not. Layers that mix the samples of a batch do the same: they draw at random, and use the
    statistics nevertheless.

    Args:
        calls: of the layer.
        in_step: its call in the training step, with the BN inside forced.
        in_inference: its call in inference mode.
        statistics: moving statistics of the BN.

    Returns:
        None where it may also be mixing.

    Raises:
        Exception: the layer cannot be run on its own.
    """
    if not calls.rows_depend_on_batch(in_step) or calls.rows_depend_on_batch(in_inference):
        return False
    if calls.is_random(in_step) and calls.depends_on(in_step, statistics):
        return None
    return True
