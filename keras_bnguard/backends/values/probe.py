"""Run a model on batches and see what reaches each BN, without changing anything.

The model is called in inference mode; a chosen set of BN normalise with batch statistics instead,
by the plain formula, so no moving statistic is assigned, no Dropout is on and no seed advances.
The call is compiled where the backend compiles, once a shape: use a probe again where you can
(`data/kept_probes.py`).

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
class ProbeKind:
    """How a probe calls the model, and what it gives back.

    Attributes:
        by_batch: paths of BN that normalise with batch statistics; the others run in inference
            mode. Defaults to none.
        training: call the model in training mode instead, which changes what changes there.
            Defaults to False.
        forced: BN not in by_batch are forced into inference mode. False: each runs as the
            model calls it in inference mode, and `arrived` has what `training` it got.
            Defaults to True.
        outputs: whether outputs are wanted. Without them the layers after the last BN do not
            run where the call is compiled. Defaults to True.
    """

    by_batch: FrozenSet[str] = frozenset()
    training: bool = False
    forced: bool = True
    outputs: bool = True


INFERENCE = ProbeKind()


@dataclass(frozen=True)
class ProbeResult:
    """Outputs of the model as NumPy, same structure, and the moments in order of the calls.

    The outputs are None where the probe was made without them.
    """

    outputs: Any
    moments: Tuple[InputMoments, ...]


class Probe:
    """A model together with the BN to probe.

    Args:
        backend: the backend of the model.
        model: a built model.
        handles: the BN to probe.
        kind: how the model is called. Defaults to inference mode.

    Attributes:
        arrived: path -> each `training` that a BN got; filled where the kind is not `forced`.
    """

    def __init__(
        self,
        backend: Any,
        model: Any,
        handles: Sequence[NormHandle],
        kind: ProbeKind = INFERENCE,
    ) -> None:
        self._backend = backend
        self._kind = kind
        self.arrived: Dict[str, Set[Any]] = {}
        self._math: ArrayOperations = backend.values.array_operations()
        self._targets = [h for h in handles if h.kind is NormKind.KERAS]
        self._modules = [h for h in handles if h.kind is NormKind.TORCH]
        self._seen: List[Tuple[str, Any, Any, Any]] = []
        self._calls: List[Tuple[str, Tuple[int, ...]]] = []
        self._run: Callable[..., Any] = backend.values.compiled_probe(
            model, self._traced, kind.training
        )

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
        values = self._backend.values
        found = self._cut(np.asarray(values.tensor_to_numpy(moments))) if self._calls else ()
        if not self._kind.outputs:
            return ProbeResult(None, found)
        return ProbeResult(values.map_structure(values.tensor_to_numpy, outputs), found)

    def _traced(self, call: Callable[[], Any]) -> Tuple[Any, Any]:
        """Call the model and hand out what its BN saw, as one vector, so that a device copies
        once; runs at every trace, or every time."""
        self._seen = []
        outputs = call()
        seen, self._seen = self._seen, []
        self._calls = [(path, tuple(int(n) for n in mean.shape)) for path, mean, _, _ in seen]
        moments = self._math.join([part for entry in seen for part in entry[1:]]) if seen else ()
        return (outputs if self._kind.outputs else ()), moments

    def _cut(self, joined: np.ndarray) -> Tuple[InputMoments, ...]:
        """The moments of each call, out of the vector of all."""
        found, start = [], 0
        for path, shape in self._calls:
            size = int(np.prod(shape))
            mean, variance = joined[start : start + 2 * size].reshape(2, *shape).astype(np.float64)
            found.append(InputMoments(path, mean, variance, float(joined[start + 2 * size])))
            start += 2 * size + 1
        return tuple(found)

    def _noted(self, handle: NormHandle, call: Any) -> Any:
        layer = handle.layer
        takes_training = "training" in _names(call)

        def call_noted(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            axis = getattr(layer, "axis", -1)
            kept = axis if isinstance(axis, (list, tuple)) else [axis]
            by_batch = self._see(handle, inputs, [int(a) for a in kept], kwargs.get("mask"))
            if by_batch is not None:
                return by_batch
            if not self._kind.forced:
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
            if self._kind.forced:
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
        if handle.path not in self._kind.by_batch:
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
