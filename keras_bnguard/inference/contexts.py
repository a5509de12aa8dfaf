"""Context managers that force BN of a model, for one block or for a training step."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from keras_bnguard.backends.patches.inference_mode import ForcedInference
from keras_bnguard.model.forced_inference import ForcedInferenceState, forces_in_step
from keras_bnguard.model.kept import kept_with
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.records.ids import LayerId, layer_id


class StepContext:
    """The context manager in which the training step of one model runs; kept with the model.

    A step in Python, as on torch, enters it at every batch, so it is made again only when a
    flag has changed.
    """

    def __init__(self) -> None:
        self._layers: Sequence[Any] = ()
        self._flags: Optional[Tuple[bool, ...]] = None
        self._context: Optional[ForcedInference] = None
        self._paths: Tuple[str, ...] = ()

    def context(self, model: Any) -> ForcedInference:
        """The context manager for the flags as they are now."""
        if self._context is None or self._flags != self._current_flags():
            snapshot = take_snapshot(model)
            self._paths = ForcedInferenceState.of(model).step_paths(snapshot)
            self._layers = [layer for _, layer in snapshot.layers]
            self._flags = self._current_flags()
            self._context = make_forced_inference(
                snapshot, self._paths, obey_graph=True, stop_leaks=True
            )
        return self._context

    def paths(self, model: Any) -> Tuple[str, ...]:
        """Paths of the BN that it forces, as the flags are now."""
        self.context(model)
        return self._paths

    def _current_flags(self) -> Tuple[bool, ...]:
        return tuple(bool(layer.trainable) for layer in self._layers)


def step_context(model: Any) -> ForcedInference:
    """The context manager for the training step of a model that forces."""
    return kept_with(model, StepContext).context(model)


def forced_in_step(model: Any) -> Tuple[str, ...]:
    """Paths of the BN that a model's step forces as its flags are now; () if it forces none."""
    return kept_with(model, StepContext).paths(model) if forces_in_step(model) else ()


def forced_paths(model: Any) -> Tuple[str, ...]:
    """Paths of every BN this package forces into inference mode now, by step or by block."""
    in_blocks = ForcedInferenceState.of(model).block_paths()
    return tuple(dict.fromkeys((*forced_in_step(model), *in_blocks)))


def make_forced_inference(
    snapshot: ModelSnapshot, paths: Sequence[str], *, obey_graph: bool, stop_leaks: bool
) -> ForcedInference:
    """A context manager that forces some BN of a model.

    Args:
        snapshot: the model.
        paths: paths of the BN to force.
        obey_graph: also make every `training=False` of a graph call count.
        stop_leaks: also keep such a False from layers that are called later.
    """
    backend = snapshot.backend
    chosen = set(paths)
    handles = [handle for handle in snapshot.handles if handle.path in chosen]
    modules = [handle.module for handle in handles if handle.module is not None]
    layers: Dict[LayerId, Any] = {
        layer_id(handle.layer): handle.layer for handle in handles if handle.module is None
    }
    nodes = list(backend.step.rewritable_nodes(snapshot.model)) if obey_graph else []
    leaky: List[Any] = []
    if stop_leaks and _may_leak(snapshot):
        leaky = [snapshot.model, *(layer for _, layer in snapshot.layers)]
    return ForcedInference(backend, list(layers.values()), modules, nodes, leaky)


def _may_leak(snapshot: ModelSnapshot) -> bool:
    """Whether some layer's own `call` invokes several layers on a Keras that leaks there."""
    behaviour = snapshot.inventory.stack.behaviour
    backend = snapshot.backend
    if behaviour.false_leaks_in_graph and any(
        call.training is False for norm in snapshot.inventory.norms for call in norm.calls
    ):
        return True
    if not behaviour.false_leaks_in_call:
        return False
    return any(
        len(backend.graph.children(layer)) > 1 and not backend.graph.is_functional(layer)
        for layer in [snapshot.model, *(layer for _, layer in snapshot.layers)]
    )
