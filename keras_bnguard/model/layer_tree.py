"""Every layer of a model once, with its path and what is frozen above it."""

from __future__ import annotations

from typing import Any, Callable, Dict, FrozenSet, List, Set, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.records.ids import LayerId, layer_id

Flag = Callable[[Any], bool]

MAX_ALIASES = 64
"""Layers that share layers that share layers have paths without end, nearly."""


class LayerTree:
    """The layers below a model, found depth first, each once.

    Attributes:
        model: the model; it is not among `layers`, its path is "".
        layers: (path, layer) in walking order. Two layers of one name get `name` and `name#2`.
        paths: path of every layer and of the model.
        containers: path of the layer around each layer.
        aliases: the other paths of a layer that is reached more than once, directly or in a
            layer that is; at most `MAX_ALIASES` each.
    """

    def __init__(self, backend: Backend, model: Any) -> None:
        self.model = model
        self.layers: List[Tuple[str, Any]] = []
        self.paths: Dict[LayerId, str] = {layer_id(model): ""}
        self.containers: Dict[LayerId, str] = {layer_id(model): ""}
        self.aliases: Dict[LayerId, List[str]] = {}
        self._children: Dict[LayerId, List[Any]] = {}
        self._taken: Dict[str, int] = {}
        self._shared = False
        self._add_children(backend, model, "")
        self._by_path: Dict[str, Any] = dict(self.layers)
        if self._shared:
            self._add_aliases(model, "", frozenset((layer_id(model),)))

    def _add_children(self, backend: Backend, layer: Any, prefix: str) -> None:
        self._children[layer_id(layer)] = children = list(backend.graph.children(layer))
        for child in children:
            path = f"{prefix}/{child.name}" if prefix else str(child.name)
            key = layer_id(child)
            if key in self.paths:
                self._shared = True
                continue
            path = self._unique(path)
            self.paths[key] = path
            self.containers[key] = prefix
            self.layers.append((path, child))
            self._add_children(backend, child, path)

    def _add_aliases(self, layer: Any, prefix: str, above: FrozenSet[LayerId]) -> None:
        """Find every path through which layers are reached, from the layer at `prefix` on."""
        for child in self._children[layer_id(layer)]:
            key = layer_id(child)
            known = self.aliases.get(key, [])
            if key in above or len(known) >= MAX_ALIASES:
                continue
            name = str(child.name)
            if self.containers[key] == self.paths[layer_id(layer)]:
                name = self.paths[key].rsplit("/", 1)[-1]  # It may have a number, as in `bn#2`.
            path = f"{prefix}/{name}" if prefix else name
            if path != self.paths[key] and path not in known:
                self.aliases.setdefault(key, []).append(path)
            self._add_aliases(child, path, above | {key})

    def above(self, layer: Any) -> List[Any]:
        """The model and the layers that a layer is in, outermost first."""
        found: List[Any] = []
        path = self.containers[layer_id(layer)]
        while path:
            found.insert(0, self._by_path[path])
            path = self.containers[layer_id(found[0])]
        return [self.model, *found]

    def _unique(self, path: str) -> str:
        number = self._taken.get(path, 0) + 1
        self._taken[path] = number
        return path if number == 1 else f"{path}#{number}"

    def frozen_ancestors(self, flag: Flag) -> Dict[LayerId, Tuple[str, ...]]:
        """Paths of the frozen layers above every layer, outermost first.

        Empty for a layer that is reached on one way without a frozen layer: then no parent
        freezes it.

        Args:
            flag: returns the `trainable` of a layer that counts.
        """
        above: Dict[LayerId, Tuple[str, ...]] = {}
        name = str(getattr(self.model, "name", "model"))
        root = () if flag(self.model) else (name,)
        self._walk(self.model, root, above, flag)
        return above

    def _walk(
        self, layer: Any, frozen: Tuple[str, ...], above: Dict[LayerId, Tuple[str, ...]], flag: Flag
    ) -> None:
        for child in self._children[layer_id(layer)]:
            key = layer_id(child)
            if child is self.model:
                continue
            if key in above:
                if not frozen:
                    self._unfreeze_below(child, above, flag, set())
                continue
            above[key] = frozen
            inside = frozen if flag(child) else (*frozen, self.paths[key])
            self._walk(child, inside, above, flag)

    def _unfreeze_below(
        self, layer: Any, above: Dict[LayerId, Tuple[str, ...]], flag: Flag, done: Set[LayerId]
    ) -> None:
        key = layer_id(layer)
        if key in done:
            return
        done.add(key)
        above[key] = ()
        if flag(layer):
            for child in self._children[key]:
                self._unfreeze_below(child, above, flag, done)
