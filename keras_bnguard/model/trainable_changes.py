"""Flags that differ from those a model was compiled with, and what this backend does then."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from keras_bnguard.backends.patches import source_lines
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import BEFORE_FIT, ChangeOutcome, Moment, TrainableChange
from keras_bnguard.records.ids import LayerId, TrainableFlags, layer_id


def flag_changes(
    snapshot: ModelSnapshot,
    wanted: TrainableFlags,
    compiled: Optional[TrainableFlags],
    *,
    where: Moment = BEFORE_FIT,
    sources: Optional[Mapping[LayerId, str]] = None,
    corrupts: bool = False,
    compiled_at: Optional[str] = None,
) -> Tuple[TrainableChange, ...]:
    """One record per layer whose flag is not the one it was compiled with.

    Args:
        snapshot: the model.
        wanted: id of a layer -> flag the user set last.
        compiled: id of a layer -> flag at `compile()`; None where unknown: no change is found.
        where: the moment, for the report. Defaults to before `fit`.
        sources: id of a layer -> "file.py:41" of the last change. Defaults to None: unknown.
        corrupts: the backend has the values in positional lists right now. Defaults to False.
        compiled_at: "file.py:30" of the last `compile()`. Defaults to None: unknown.
    """
    if not compiled:
        return ()
    changed = [
        (path, layer)
        for path, layer in [("", snapshot.model), *snapshot.layers]
        for key in [layer_id(layer)]
        if key in compiled and compiled[key] != wanted.get(key, layer.trainable)
    ]
    # What is built and has no weights, as an input that two models share, trains nowhere.
    changed = [(path, layer) for path, layer in changed if layer.weights or not layer.built]
    if not changed:
        return ()
    backend = snapshot.backend
    facts = backend.optimizer.facts(snapshot.model)
    outcome = backend.flags.change_outcome(snapshot.model, bool(facts and facts.unknown))
    others = _explained_by(snapshot, wanted) if outcome in _OF_ANOTHER_MODEL else {}
    ignored = outcome is ChangeOutcome.IGNORED
    at = {name: source_lines.compiled_at(backend, model) for name, model in others.values()}
    names = {key: name for key, (name, _) in others.items()}
    explained = names if ignored else {}
    set_for = {} if ignored or corrupts else names
    return tuple(
        TrainableChange(
            path=path,
            compiled=compiled[layer_id(layer)],
            now=not compiled[layer_id(layer)],
            outcome=ChangeOutcome.CORRUPTS if corrupts else outcome,
            where=where,
            source=(sources or {}).get(layer_id(layer)),
            compiled_at=compiled_at,
            is_norm=backend.graph.is_norm(layer),
            explained_by=explained.get(layer_id(layer)),
            set_for=set_for.get(layer_id(layer)),
            set_for_at=at.get(set_for.get(layer_id(layer), "")),
        )
        for path, layer in changed
    )


def explained_changes(
    snapshot: ModelSnapshot, wanted: TrainableFlags, compiled: Optional[TrainableFlags]
) -> Dict[LayerId, bool]:
    """The compiled flags of layers whose change another model's use of them explains.

    Args:
        snapshot: the model.
        wanted: id of a layer -> flag the user set last.
        compiled: id of a layer -> flag at `compile()`, None where unknown.

    Returns:
        id of a layer -> its compiled flag, which is the one that runs.
    """
    compiled = compiled or {}
    if not any(wanted.get(key, flag) != flag for key, flag in compiled.items()):
        return {}
    changes = flag_changes(snapshot, wanted, compiled)
    explained = {change.path for change in changes if change.explained_by is not None}
    layers = [("", snapshot.model), *snapshot.layers]
    keys = [layer_id(layer) for path, layer in layers if path in explained]
    return {key: compiled[key] for key in keys}


_OF_ANOTHER_MODEL = (ChangeOutcome.IGNORED, ChangeOutcome.IMMEDIATE)
"""Where it matters whether a flag was set for another model."""


def _explained_by(
    snapshot: ModelSnapshot, wanted: TrainableFlags
) -> Dict[LayerId, Tuple[str, Any]]:
    """id of a layer -> (name of it, the other model that was compiled with its present flag).

    A GAN freezes its discriminator for the combined model and goes on training it as it was
    compiled: right where the compiled flags are what runs, and only there. The other model
    contains this one, or shares the layer and was compiled later: then the flag was set for it.
    A model that was compiled earlier and merely shares layers explains nothing.
    """
    snapshot.shared_norms()
    flags_of, model = snapshot.backend.flags, snapshot.model
    found: Dict[LayerId, Tuple[str, Any]] = {}
    for other in snapshot.backend.step.other_models(model):
        flags: TrainableFlags = flags_of.compiled(other) or {}
        if layer_id(model) in flags or flags_of.was_compiled_after(other, model):
            for key, flag in flags.items():
                if wanted.get(key) == flag:
                    found[key] = (str(getattr(other, "name", "another model")), other)
    return found
