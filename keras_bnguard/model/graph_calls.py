"""Every call that the graphs of a model wrote down, with the `training` value that counts."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.patches import source_lines
from keras_bnguard.records import GraphCall, TrainingDefault
from keras_bnguard.records.ids import LayerId, layer_id


class GraphCalls:
    """The calls of all layers, in execution order; the value written nearest to a call counts.

    Args:
        backend: the backend of the model.
        model: the model whose graphs are followed.
        paths: path of every layer.

    Attributes:
        by_layer: the calls of each layer.
        training_defaults: the layers called whose `call` defaults to `training=True`.
    """

    def __init__(self, backend: Backend, model: Any, paths: Mapping[LayerId, str]) -> None:
        self.by_layer: Dict[LayerId, List[GraphCall]] = {}
        self.training_defaults: List[TrainingDefault] = []
        self._backend, self._paths = backend, paths
        self._seen: Set[Tuple[LayerId, Optional[bool], str, bool]] = set()
        self._order = 0
        # Where Keras passes its own value to every call inside, a False that a step obeys does so.
        self._false_wins = not backend.stack.behaviour.graph_false_honoured
        self._follow(model, None, "", None, False)

    def _note(
        self,
        layer: Any,
        training: Optional[bool],
        owner: str,
        line: Optional[str],
        inside_false: bool,
    ) -> None:
        self._order += 1
        call = GraphCall(training, owner, self._order, line, inside_false)
        self.by_layer.setdefault(layer_id(layer), []).append(call)
        if self._backend.graph.defaults_to_training(layer):
            default = TrainingDefault(self._path(layer), type(layer).__name__, self._order)
            self.training_defaults.append(default)
        self._follow(layer, training, owner, line, inside_false)

    def _follow(
        self,
        layer: Any,
        training: Optional[bool],
        owner: str,
        line: Optional[str],
        inside_false: bool,
    ) -> None:
        key = (layer_id(layer), training, owner, inside_false)
        if key in self._seen:
            return
        self._seen.add(key)
        nodes = self._backend.graph.nodes(layer)
        if not nodes:
            for child in self._backend.graph.children(layer):
                self._note(child, training, owner, line, inside_false)
        for node, called in nodes:
            if not self._backend.graph.is_layer(called):
                continue
            written = self._backend.graph.node_training(node)
            if written is None:
                self._note(called, training, owner, line, inside_false)
            else:
                source = source_lines.called_at(self._backend, node)
                inside = inside_false or (self._false_wins and training is False)
                self._note(called, written, self._path(called), source, inside)

    def _path(self, layer: Any) -> str:
        return self._paths.get(layer_id(layer), str(layer.name))
