"""Blocks of a model: the pieces that must be frozen or unfrozen as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from keras_bnguard.errors import SelectorError
from keras_bnguard.model.blocks.graph_cuts import cut
from keras_bnguard.model.blocks.merge import Part, Piece, join
from keras_bnguard.model.snapshot import ModelSnapshot


@dataclass(frozen=True)
class Block:
    """A piece of a model that is frozen or unfrozen as a whole.

    Attributes:
        name: what its layers are called together, with the path of the sub-model in front.
        paths: paths of its layers that own weights, in execution order.
        parameters: how many values of them can train.
    """

    name: str
    paths: Tuple[str, ...]
    parameters: int


def find_blocks(snapshot: ModelSnapshot, path: str = "") -> Tuple[Block, ...]:
    """Cut a model into blocks, in execution order.

    The graph is cut only where one tensor carries everything, so that a residual, inception,
    dense or squeeze-excite structure stays whole. A normalization goes with the layer that
    feeds it; one that comes first in its block, fed by a merge or a pooling, with the layer it
    feeds. A depthwise convolution goes with the pointwise one. Neighbours whose names give
    them to one block are joined. A sub-model that is one step of the graph is cut in turn.

    Where the graph is never that narrow: a network with skips across a quarter of it and more
    (U-Net) is cut as if those were not there; one whose cells pass on two tensors (NASNet) is
    cut where the fewest are passed on. A model without a graph has its direct children as
    blocks.

    Args:
        snapshot: of a built model.
        path: path of the sub-model to cut. Defaults to "": the whole model.

    Returns:
        The blocks; names and paths start at the whole model.

    Raises:
        SelectorError: there is no layer at `path`.
    """
    finder = _Finder(snapshot)
    if path:
        layers = dict(snapshot.layers)
        if path not in layers:
            raise SelectorError(
                f"path={path!r}: the model has no layer at that path. The first are: "
                f"{', '.join(each for each, _ in snapshot.layers[:3])}."
            )
        pieces = finder.pieces(layers[path], path)
    else:
        pieces = finder.pieces(snapshot.model, "")
    return _named(join(pieces))


class _Finder:
    """The snapshot of a model with what the search needs again and again."""

    def __init__(self, snapshot: ModelSnapshot) -> None:
        self.backend = snapshot.backend
        self.order = {id(layer): i for i, (_, layer) in enumerate(snapshot.layers)}
        self.path = {id(layer): path for path, layer in snapshot.layers}
        self.taken: Set[int] = set()
        self.total = len(self.weighted(snapshot.model))

    def weighted(self, layer: Any) -> List[Any]:
        """A layer and those inside it that own weights, in walking order."""
        found = [
            each
            for each in self.backend.graph.all_layers(layer)
            if id(each) in self.order and self.backend.graph.owns_weights(each)
        ]
        return sorted(found, key=lambda each: self.order[id(each)])

    def take(self, layers: Sequence[Any]) -> List[Part]:
        """The layers not yet in a block; a shared layer belongs where it is called first."""
        found = []
        for layer in layers:
            if id(layer) in self.taken:
                continue
            self.taken.add(id(layer))
            path, count = self.path[id(layer)], self.backend.flags.trainable_count(layer)
            found.append(Part(path, type(layer).__name__, self.is_norm(layer), count))
        return found

    # ------------------------------------------------------------------- cutting
    def pieces(self, container: Any, path: str) -> List[Piece]:
        nodes = self.backend.graph.nodes(container)
        if nodes:
            return self._graph_pieces(nodes, path)
        return self._child_pieces(container, path)

    def opens(self, layer: Any) -> bool:
        """Whether a layer is a model that is cut in turn, when it is one step of a graph."""
        if not self.backend.graph.is_layer(layer):
            return False
        if self.backend.graph.nodes(layer):
            return True
        size = len(self.weighted(layer))
        return self.backend.graph.is_model(layer) and size >= 8 and 2 * size > self.total

    def _open(self, layer: Any) -> Optional[List[Piece]]:
        """The pieces of a sub-model, also of one inside a wrapper such as TimeDistributed."""
        path = self.path.get(id(layer))
        if path is None:
            return None
        if self.opens(layer):
            return self.pieces(layer, path)
        inner = [c for c in self.backend.graph.children(layer) if self.weighted(c)]
        if len(inner) == 1 and not self.backend.graph.owns_weights(layer) and self.opens(inner[0]):
            return self.pieces(inner[0], self.path[id(inner[0])])
        return None

    def _graph_pieces(self, called: Sequence[Tuple[Any, Any]], path: str) -> List[Piece]:
        graph = _Graph(self, called)
        found: List[Piece] = []
        home: Dict[int, Piece] = {}
        for part in cut(graph.parents, [len(w) for w in graph.weighted]):
            opened = None
            if len(part) == 1 and graph.weighted[part[0]]:
                opened = self._open(graph.layers[part[0]])
            if opened is not None:
                found += opened
                continue
            parts = self.take([layer for n in part for layer in graph.weighted[n]])
            if not parts:
                continue
            merges = [n for n in part if len(graph.parents[n]) > 1]
            piece = Piece(parts, path, graph.name(merges[-1]) if merges else "")
            home.update(dict.fromkeys(part, piece))
            for n in part:
                if graph.is_norm(n):
                    self._tie(n, piece, graph, home, found)
            found.append(piece)
        return found

    def _tie(
        self, n: int, piece: Piece, graph: _Graph, home: Dict[int, Piece], found: List[Piece]
    ) -> None:
        """Note which piece a normalization must not be parted from, if not its own."""
        producer = graph.producer(n)
        feeder = None if producer is None else home.get(producer)
        if feeder is not None and feeder is not piece:
            piece.before = feeder
        elif feeder is None and piece.all_norms:
            if graph.has_consumer(n):
                piece.with_next = True
            elif found:
                piece.before = found[-1]

    def _child_pieces(self, container: Any, path: str) -> List[Piece]:
        found: List[Piece] = []
        for child in self.backend.graph.children(container):
            opened = self._open(child)
            if opened is not None:
                found += opened
                continue
            parts = self.take(self.weighted(child))
            if not parts:
                continue
            piece = Piece(parts, path, self.path[id(child)] if len(parts) > 1 else "")
            if piece.all_norms:
                piece.before = found[-1] if found else None
                piece.with_next = not found
            found.append(piece)
        return found

    def is_norm(self, layer: Any) -> bool:
        name = type(layer).__name__
        return self.backend.graph.is_norm(layer) or (
            name.endswith("Normalization") and name != "Normalization"
        )


class _Graph:
    """The graph of one container with its nodes as numbers, in execution order."""

    def __init__(self, finder: _Finder, called: Sequence[Tuple[Any, Any]]) -> None:
        self.finder = finder
        inputs: Dict[int, Any] = {}
        for node, _ in called:
            for parent in finder.backend.graph.node_inputs(node):
                inputs.setdefault(id(parent), parent)
        for node, _ in called:
            inputs.pop(id(node), None)
        nodes = [*inputs.values(), *(node for node, _ in called)]
        number = {id(node): n for n, node in enumerate(nodes)}
        self.layers = [*(None for _ in inputs), *(layer for _, layer in called)]
        self.parents = [
            sorted(
                {number[id(p)] for p in finder.backend.graph.node_inputs(node) if id(p) in number}
            )
            if n >= len(inputs)
            else []
            for n, node in enumerate(nodes)
        ]
        self.weighted = [
            finder.weighted(layer) if finder.backend.graph.is_layer(layer) else []
            for layer in self.layers
        ]
        self.users: List[List[int]] = [[] for _ in nodes]
        for n, parents in enumerate(self.parents):
            for p in parents:
                self.users[p].append(n)

    def name(self, n: int) -> str:
        layer = self.layers[n]
        return self.finder.path.get(id(layer), str(getattr(layer, "name", "")))

    def is_norm(self, n: int) -> bool:
        return bool(self.weighted[n]) and self.finder.is_norm(self.layers[n])

    def producer(self, n: int) -> Optional[int]:
        """The weighted node that feeds a node, straight or through activations and the like."""
        while len(self.parents[n]) == 1:
            n = self.parents[n][0]
            if self.weighted[n]:
                return n
            if self._gathers(n):
                return None
        return None

    def has_consumer(self, n: int) -> bool:
        """Whether a node feeds a weighted one before everything is pooled."""
        while self.users[n]:
            n = self.users[n][0]
            if self.weighted[n]:
                return True
            if self._gathers(n):
                return False
        return False

    def _gathers(self, n: int) -> bool:
        kind = type(self.layers[n]).__name__
        return "Pool" in kind or kind in ("Flatten", "Reshape")


def _named(pieces: List[Piece]) -> Tuple[Block, ...]:
    """Blocks with a name of their own each."""
    names = [piece.name for piece in pieces]
    taken: Dict[str, int] = {}
    blocks = []
    for piece, name in zip(pieces, names):
        unique = name if names.count(name) == 1 else piece.first
        taken[unique] = taken.get(unique, 0) + 1
        if taken[unique] > 1:
            unique = f"{unique}#{taken[unique]}"
        blocks.append(Block(unique, tuple(p.path for p in piece.parts), piece.parameters))
    return tuple(blocks)
