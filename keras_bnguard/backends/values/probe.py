"""Run a model on batches and see what reaches each BN, without changing anything.

The model is called in inference mode; a chosen set of BN normalise with batch statistics instead,
by the plain formula, so no moving statistic is assigned, no Dropout is on and no seed advances.
The call is compiled where the backend compiles.

Per call of a BN the probe gives, for each channel, the mean and the biased variance of its
input (over all axes but the channel's, masked steps left out) and the number of values.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, List, Sequence, Set, Tuple

import numpy as np

from keras_bnguard.backends.interface import ArrayOperations
from keras_bnguard.backends.patches.attribute_patches import Target, unwrap_all, wrap_all
from keras_bnguard.backends.patches.inference_mode import inference_forward
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.records import NormKind
from keras_bnguard.statistics.moments import InputMoments


@dataclass(frozen=True)
class ProbeResult:
    """Outputs of the model as NumPy, same structure, and the moments in order of the calls."""

    outputs: Any
    moments: Tuple[InputMoments, ...]


class Probe:
    """A model together with the BN to probe.

    Args:
        backend: the backend of the model.
        model: a built model.
        handles: the BN to probe.
        by_batch: paths of those that normalise with batch statistics; the others run in inference
            mode.
        training: call the model in training mode instead, which changes what changes there.
        forced: BN not in by_batch are forced into inference mode. False: each runs as the
            model calls it in inference mode, and `arrived` has what `training` it got.
    """

    def __init__(
        self,
        backend: Any,
        model: Any,
        handles: Sequence[NormHandle],
        by_batch: FrozenSet[str] = frozenset(),
        training: bool = False,
        forced: bool = True,
    ) -> None:
        self._backend = backend
        self._forced = forced
        self.arrived: Dict[str, Set[Any]] = {}
        self._model = model
        self._math: ArrayOperations = backend.values.array_operations()
        self._by_batch = by_batch
        self._targets = [h for h in handles if h.kind is NormKind.KERAS]
        self._modules = [h for h in handles if h.kind is NormKind.TORCH]
        self._seen: List[Tuple[str, Any, Any, Any]] = []
        self._paths: List[str] = []
        self._run: Callable[..., Any] = backend.values.compiled_probe(model, self._traced, training)

    def __call__(self, x: Any) -> ProbeResult:
        """Run one batch.

        Args:
            x: what the model takes: an array or tensor, or a list or dict of these.
        """
        targets: List[Target] = [
            (h.layer, "call", functools.partial(self._noted, h)) for h in self._targets
        ]
        targets += [
            (h.module, "forward", functools.partial(self._noted_module, h)) for h in self._modules
        ]
        wrap_all(targets, who=self)
        try:
            outputs, moments = self._run(x)
        finally:
            unwrap_all(targets, who=self)
        numpy = self._backend.values.tensor_to_numpy
        found = tuple(
            InputMoments(
                path=path,
                mean=np.asarray(numpy(mean), np.float64),
                variance=np.asarray(numpy(variance), np.float64),
                count=float(numpy(count)),
            )
            for path, (mean, variance, count) in zip(self._paths, moments)
        )
        return ProbeResult(self._backend.values.map_structure(numpy, outputs), found)

    def _traced(self, call: Callable[[], Any]) -> Tuple[Any, List[Tuple[Any, Any, Any]]]:
        """Call the model and hand out what its BN saw; runs at every trace, or every time."""
        self._seen = []
        outputs = call()
        self._paths = [entry[0] for entry in self._seen]
        return outputs, [entry[1:] for entry in self._seen]

    def _noted(self, handle: NormHandle, call: Any) -> Any:
        layer = handle.layer
        takes_training = "training" in _names(call)

        def call_noted(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            axis = getattr(layer, "axis", -1)
            kept = axis if isinstance(axis, (list, tuple)) else [axis]
            by_batch = self._see(handle, inputs, [int(a) for a in kept], kwargs.get("mask"))
            if by_batch is not None:
                return by_batch
            if not self._forced:
                arrived = kwargs.get("training")
                plain = arrived if arrived is None or isinstance(arrived, bool) else "tensor"
                self.arrived.setdefault(handle.path, set()).add(plain)
            elif takes_training:
                kwargs["training"] = False
                args = ()
            return call(inputs, *args, **kwargs)

        call_noted.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
        return call_noted

    def _noted_module(self, handle: NormHandle, forward: Any) -> Any:
        module: Any = handle.module

        def forward_noted(x: Any, *args: Any, **kwargs: Any) -> Any:
            by_batch = self._see(handle, x, [1], None)
            if by_batch is not None:
                return by_batch
            if self._forced:
                return inference_forward(module)(forward)(x, *args, **kwargs)
            self.arrived.setdefault(handle.path, set()).add(bool(module.training))
            return forward(x, *args, **kwargs)

        return forward_noted

    def _see(self, handle: NormHandle, inputs: Any, axis: List[int], mask: Any) -> Any:
        """Keep the moments of a BN's input; return its output if it uses batch statistics."""
        math, rank = self._math, len(inputs.shape)
        kept = {a % rank for a in axis}
        axes = [i for i in range(rank) if i not in kept]
        shape = [int(inputs.shape[i]) if i in kept else 1 for i in range(rank)]
        weights = None if mask is None else math.weights(mask, inputs)
        x = math.cast(inputs)
        mean = math.mean(x, axes, weights)
        centred = x - math.reshape(mean, shape)
        variance = math.mean(centred * centred, axes, weights)
        self._seen.append((handle.path, mean, variance, math.count(x, axes, weights)))
        if handle.path not in self._by_batch:
            return None
        scale = math.rsqrt(variance + float(handle.settings["epsilon"] or 0.0))
        _, _, gamma, beta = handle.vectors()
        y = centred * math.reshape(scale, shape)
        if gamma is not None:
            y = y * math.reshape(math.cast(gamma), shape)
        if beta is not None:
            y = y + math.reshape(math.cast(beta), shape)
        return math.cast(y, like=inputs)


def _names(call: Any) -> Tuple[str, ...]:
    try:
        return tuple(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        return ()
