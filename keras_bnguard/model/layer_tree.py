"""Every layer of a model once, with its path, and every call that its graphs wrote down."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.patches import source_lines
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.records import GraphCall, LayerFlag, NormKind, TrainingDefault


class Walk:
    """Depth-first walk that gives every layer its path and its frozen ancestors."""

    def __init__(
        self, backend: Backend, model: Any, flags: Mapping[int, bool], compiled: Mapping[int, bool]
    ) -> None:
        self.backend, self.model = backend, model
        self.flags, self.compiled = flags, compiled
        self.layers: List[Tuple[str, Any]] = []
        self.paths: Dict[int, str] = {id(model): ""}
        self.container: Dict[int, str] = {}
        self.aliases: Dict[int, List[str]] = {}
        self.frozen_above: Dict[int, Tuple[str, ...]] = {}
        self.norms: List[Tuple[Any, str, NormHandle]] = []
        self.records: List[LayerFlag] = []
        self.unreadable: List[str] = []
        self.position: Dict[int, int] = {}
        self._taken: Dict[str, int] = {}

    def flag(self, layer: Any) -> bool:
        known = self.flags.get(id(layer))
        return bool(layer.trainable) if known is None else known

    def run(self) -> None:
        model = self.model
        above = () if self.flag(model) else (str(getattr(model, "name", "model")),)
        self._add_handles(model, str(getattr(model, "name", "model")), "")
        self.records.append(self._record(model, "", "", False))
        self._children(model, "", above)

    def _children(self, layer: Any, prefix: str, above: Tuple[str, ...]) -> None:
        for child in self.backend.graph.children(layer):
            path = f"{prefix}/{child.name}" if prefix else str(child.name)
            if id(child) in self.paths:
                self._seen_again(child, path, above)
                continue
            path = self._unique(path)
            self.paths[id(child)] = path
            self.container[id(child)] = prefix
            self.frozen_above[id(child)] = above
            self.layers.append((path, child))
            is_norm = self._add_handles(child, path, prefix)
            self.records.append(self._record(child, path, prefix, is_norm))
            self._children(child, path, above if self.flag(child) else (*above, path))

    def _seen_again(self, child: Any, path: str, above: Tuple[str, ...]) -> None:
        if child is self.model:
            return
        if path != self.paths[id(child)]:
            self.aliases.setdefault(id(child), []).append(path)
        if not above:
            # One way to it on which nothing is frozen: then no parent freezes it.
            self._unfreeze_below(child, set())

    def _unfreeze_below(self, layer: Any, done: set[int]) -> None:
        if id(layer) in done:
            return
        done.add(id(layer))
        self.frozen_above[id(layer)] = ()
        if self.flag(layer):
            for child in self.backend.graph.children(layer):
                self._unfreeze_below(child, done)

    def _unique(self, path: str) -> str:
        number = self._taken.get(path, 0) + 1
        self._taken[path] = number
        return path if number == 1 else f"{path}#{number}"

    def _add_handles(self, layer: Any, path: str, container: str) -> bool:
        try:
            found = self.backend.graph.handles(layer, path)
        except Exception:
            self.unreadable.append(path)
            return False
        for handle in found:
            self.norms.append((layer, container, handle))
        return any(handle.kind is NormKind.KERAS for handle in found)

    def _record(self, layer: Any, path: str, container: str, is_norm: bool) -> LayerFlag:
        self.position[id(layer)] = len(self.records)
        return LayerFlag(
            path=path,
            class_name=type(layer).__name__,
            container=container,
            position=len(self.records),
            trainable=self.flag(layer),
            compiled=self.compiled.get(id(layer)),
            weighted=self.backend.graph.owns_weights(layer),
            is_norm=is_norm,
        )


def graph_calls(
    backend: Backend, model: Any, walk: Walk
) -> Tuple[Dict[int, List[GraphCall]], Tuple[TrainingDefault, ...]]:
    """Calls of every layer as graphs wrote them, in execution order; nearest value wins."""
    calls: Dict[int, List[GraphCall]] = {}
    training_defaults: List[TrainingDefault] = []
    seen: set[Tuple[int, Optional[bool], str]] = set()
    counter = [0]

    def visit(layer: Any, training: Optional[bool], owner: str, line: Optional[str]) -> None:
        counter[0] += 1
        calls.setdefault(id(layer), []).append(GraphCall(training, owner, counter[0], line))
        if backend.graph.defaults_to_training(layer):
            path = walk.paths.get(id(layer), str(layer.name))
            training_defaults.append(TrainingDefault(path, type(layer).__name__, counter[0]))
        inside(layer, training, owner, line)

    def inside(layer: Any, training: Optional[bool], owner: str, line: Optional[str]) -> None:
        key = (id(layer), training, owner)
        if key in seen:
            return
        seen.add(key)
        nodes = backend.graph.nodes(layer)
        if nodes:
            for node, called in nodes:
                if not backend.graph.is_layer(called):
                    continue
                written = backend.graph.node_training(node)
                path = walk.paths.get(id(called), str(called.name))
                if written is None:
                    visit(called, training, owner, line)
                else:
                    visit(called, written, path, source_lines.called_at(backend, node))
        else:
            for child in backend.graph.children(layer):
                visit(child, training, owner, line)

    inside(model, None, "", None)
    return calls, tuple(training_defaults)
