"""A part of a functional model as a model, and a model that runs as its own part for a while.

Nothing of it stays: the nodes that a part adds to layers of the user are taken off again, and a
`StandIn` that is left puts every attribute back.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Sequence

from keras_bnguard.backends.signatures import in_place_of

_MISSING = object()
_CALL, _SPEC, _TEST = "call", "_manual_input_spec", "test_function"


class AddedNodes:
    """Context manager: takes off what is added to the nodes of some layers inside it.

    A model that was made inside still runs: it keeps its own list of nodes.

    Args:
        layers: layers and operations of the user's graph.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        lists = [
            found
            for layer in layers
            for found in (
                getattr(layer, "_inbound_nodes", None),
                getattr(layer, "_outbound_nodes", None),
            )
            if isinstance(found, list)
        ]
        self._before = [(found, len(found)) for found in lists]

    def __enter__(self) -> AddedNodes:
        return self

    def __exit__(self, *exception: Any) -> None:
        for found, length in self._before:
            del found[length:]


class StandIn:
    """Lets `model(inputs)` run a function in the place of its graph, for inputs of another shape.

    Weights, optimizer, loss and metrics are those of the model. It is off while callbacks run,
    so that `predict`, `evaluate` and saving there are those of the whole model.

    Args:
        backend: of the model.
        model: a functional or sequential model.
        call: takes inputs and `training`.
    """

    def __init__(self, backend: Any, model: Any, call: Callable[[Any, Any], Any]) -> None:
        def stand_in(inputs: Any, training: Any = None, mask: Any = None, **kwargs: Any) -> Any:
            return call(inputs, training)

        placed = in_place_of(model.call, backend.step.outside_autograph(stand_in))
        # Written past Keras's own __setattr__, which is slow and would track them.
        self._own = model.__dict__
        self._other: Dict[str, Any] = {_CALL: placed, _SPEC: None, _TEST: None}

    def on(self) -> None:
        """Run the function from now on."""
        self._swap()

    def off(self) -> None:
        """Run the model's own graph from now on."""
        self._swap()

    def _swap(self) -> None:
        """Exchange what is on the model and what is not."""
        put = self._other
        self._other = {name: self._own.get(name, _MISSING) for name in put}
        for name, value in put.items():
            if value is _MISSING:
                self._own.pop(name, None)
            else:
                self._own[name] = value


def operations(graph: Any, model: Any) -> Iterator[Any]:
    """Every layer and operation that the graphs of a model call, and their inputs."""
    pending, seen = [model], set()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        pending.extend(graph.children(each) if graph.is_layer(each) else ())
        pending.extend(called for _, called in graph.nodes(each))


def part(keras: Any, inputs: List[Any], outputs: Any, name: str) -> Any:
    """A model from some symbolic tensors of a graph to others; its layers are those of the graph.

    Args:
        keras: the Keras module.
        inputs: tensors of one graph.
        outputs: tensors that depend on them, one or a list.
        name: of the model, so that no automatic name is used up.
    """
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs, name=name)
