"""Flags that differ from those a model was compiled with, and what this backend makes of it."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import BEFORE_FIT, ChangeOutcome, Moment, TrainableChange


def flag_changes(
    snapshot: ModelSnapshot,
    wanted: Mapping[int, bool],
    compiled: Optional[Mapping[int, bool]],
    *,
    where: Moment = BEFORE_FIT,
    sources: Optional[Mapping[int, str]] = None,
    corrupts: bool = False,
    compiled_at: Optional[str] = None,
) -> Tuple[TrainableChange, ...]:
    """One record per layer whose flag is not the one it was compiled with.

    Args:
        survey: the model. wanted: id(layer) -> flag the user set last.
        compiled: id(layer) -> flag at `compile()`, None where unknown: then nothing is said.
        where: the moment, for the report. sources: id(layer) -> "file.py:41".
        compiled_at: "file.py:30" of the last `compile()`, where known.
        corrupts: the backend holds the values in positional lists right now.
    """
    if not compiled:
        return ()
    changed = [
        (path, layer)
        for path, layer in [("", snapshot.model), *snapshot.layers]
        if id(layer) in compiled and compiled[id(layer)] != wanted.get(id(layer), layer.trainable)
    ]
    if not changed:
        return ()
    backend = snapshot.backend
    facts = backend.optimizer.facts(snapshot.model)
    outcome = backend.flags.change_outcome(snapshot.model, bool(facts and facts.unknown))
    excuses = _excuses(snapshot, wanted) if outcome is ChangeOutcome.IGNORED else {}
    return tuple(
        TrainableChange(
            path=path,
            compiled=compiled[id(layer)],
            now=not compiled[id(layer)],
            outcome=ChangeOutcome.CORRUPTS if corrupts else outcome,
            where=where,
            source=(sources or {}).get(id(layer)),
            compiled_at=compiled_at,
            is_norm=backend.graph.is_norm(layer),
            explained_by=excuses.get(id(layer)),
        )
        for path, layer in changed
    )


def explained_changes(
    snapshot: ModelSnapshot, wanted: Mapping[int, bool], compiled: Optional[Mapping[int, bool]]
) -> Dict[int, bool]:
    """id(layer) -> the compiled flag, where another model's use of the layer explains why it
    differs now, and the compiled one is what runs."""
    compiled = compiled or {}
    if not any(wanted.get(key, flag) != flag for key, flag in compiled.items()):
        return {}
    trainable_changes = flag_changes(snapshot, wanted, compiled)
    explained = {
        trainable_change.path
        for trainable_change in trainable_changes
        if trainable_change.explained_by is not None
    }
    layers = [("", snapshot.model), *snapshot.layers]
    return {id(layer): compiled[id(layer)] for path, layer in layers if path in explained}


def _excuses(snapshot: ModelSnapshot, wanted: Mapping[int, bool]) -> Dict[int, str]:
    """Layers another compiled model holds with just these flags, which contains this model.

    A GAN freezes its discriminator for the combined model and goes on training it as it was
    compiled: right where the compiled flags are what runs, and only there. A model that was
    compiled earlier and merely shares layers is no excuse.
    """
    snapshot.shared_norms()
    found: Dict[int, str] = {}
    for other in snapshot.backend.step.other_models(snapshot.model):
        flags: Mapping[int, Any] = snapshot.backend.flags.compiled(other) or {}
        if id(snapshot.model) not in flags:
            continue
        for key, flag in flags.items():
            if wanted.get(key) == flag:
                found[key] = str(getattr(other, "name", "another model"))
    return found
