"""Probes that are used again: one compiled program a model, kind and shape.

To compile a model takes seconds where a batch takes milliseconds. So the probes of a model are
kept with it, and the next call of `recalibrate`, `mode_gap`, `precompute_features` or of a guard
finds them. Weights are arguments of a program and never part of it. Everything else that a trace
may read is compared first; where something differs, the model is traced again.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from keras_bnguard.backends.patches.attribute_patches import open_patches
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.values.probe import INFERENCE, Probe, ProbeKind
from keras_bnguard.model.kept import kept_with
from keras_bnguard.model.snapshot import ModelSnapshot

MAX_KEPT = 8
"""Probes of one model; the one used longest ago is dropped."""
_PLAIN = (bool, int, float, str)
# `fit`, `evaluate` and `predict` set these; `training` is the flag of a torch module, and torch
# compiles nothing.
_OF_KERAS = frozenset({"stop_training", "stop_evaluating", "stop_predicting", "training"})

_Key = Tuple[Tuple[str, ...], ProbeKind]


def probe_of(
    snapshot: ModelSnapshot, handles: Sequence[NormHandle], kind: ProbeKind = INFERENCE
) -> Probe:
    """Return the probe of this kind that is kept with the model; made where there is none.

    Args:
        snapshot: the model as it is now.
        handles: the BN to probe, of this snapshot.
        kind: how the model is called. Defaults to inference mode.
    """
    if open_patches():  # A trace would contain what the wrappers of this moment do.
        return Probe(snapshot.backend, snapshot.model, handles, kind)
    return kept_with(snapshot.model, KeptProbes).find(snapshot, handles, kind)


class KeptProbes:
    """The probes of one model, dropped as soon as the structure of the model differs."""

    def __init__(self) -> None:
        self._structure: Optional[Structure] = None
        self._probes: Dict[_Key, Probe] = {}

    def find(
        self, snapshot: ModelSnapshot, handles: Sequence[NormHandle], kind: ProbeKind
    ) -> Probe:
        """Return the probe of these BN and this kind; made where there is none."""
        structure = Structure(snapshot)
        if self._structure is None or structure.facts != self._structure.facts:
            self._probes.clear()
        self._structure = structure
        key = (tuple(handle.path for handle in handles), kind)
        found = self._probes.pop(key, None)
        if found is None:
            found = Probe(snapshot.backend, snapshot.model, handles, kind)
        self._probes[key] = found
        while len(self._probes) > MAX_KEPT:
            del self._probes[next(iter(self._probes))]
        return found


class Structure:
    """What a trace of a model reads besides values: layers, variables, settings, calls.

    Args:
        snapshot: the model.

    Attributes:
        facts: equal for two structures that give the same trace.
    """

    def __init__(self, snapshot: ModelSnapshot) -> None:
        model, graph = snapshot.model, snapshot.backend.graph
        layers = [("", model), *snapshot.layers]
        # In the order in which JAX gets them; an id counts while its object is kept below.
        variables = [*model.trainable_variables, *model.non_trainable_variables]
        nodes = [node for _, layer in layers for node in graph.nodes(layer)]
        self._kept_alive = (layers, variables, nodes, [h.module for h in snapshot.handles])
        self.facts: List[Any] = [
            [(id(v), tuple(v.shape), snapshot.backend.values.dtype_of(v)) for v in variables],
            [(id(node), id(called)) for node, called in nodes],
            [(h.path, id(h.layer), id(h.module), _plain(h.settings)) for h in snapshot.handles],
            [
                (path, id(layer), bool(layer.trainable), _policy(layer), _settings(layer))
                for path, layer in layers
            ],
        ]


def _policy(layer: Any) -> str:
    policy = getattr(layer, "dtype_policy", None)
    return str(getattr(policy, "name", policy))


def _settings(layer: Any) -> Any:
    """The plain attributes and the functions of a layer; of a model those of its user."""
    found = {name: value for name, value in vars(layer).items() if name not in _OF_KERAS}
    if hasattr(layer, "train_step"):
        public = {name: value for name, value in found.items() if name[0] != "_"}
        return [_plain(public), found.get("call")]
    functions = [(k, v) for k, v in found.items() if k[0] != "_" and callable(v)]
    return [_plain(found), functions]


def _plain(attributes: Any) -> Dict[str, Any]:
    found = {}
    for name, value in attributes.items():
        if isinstance(value, (list, tuple)) and value and name[0] != "_":
            if all(type(each) in _PLAIN for each in value):
                found[name] = tuple(value)
        elif type(value) in _PLAIN:
            found[name] = value
    return found
