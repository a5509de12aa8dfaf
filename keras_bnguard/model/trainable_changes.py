"""Flags that differ from those a model was compiled with, and what this engine makes of it."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from keras_bnguard.model.snapshot import Survey, find_shared
from keras_bnguard.records import FlagChange


def flag_changes(
    survey: Survey,
    wanted: Mapping[int, bool],
    compiled: Optional[Mapping[int, bool]],
    *,
    where: str = "before fit",
    sources: Optional[Mapping[int, str]] = None,
    corrupts: bool = False,
    compiled_at: Optional[str] = None,
) -> Tuple[FlagChange, ...]:
    """One record per layer whose flag is not the one it was compiled with.

    Args:
        survey: the model. wanted: id(layer) -> flag the user set last.
        compiled: id(layer) -> flag at `compile()`, None where unknown: then nothing is said.
        where: the moment, for the report. sources: id(layer) -> "file.py:41".
        compiled_at: "file.py:30" of the last `compile()`, where known.
        corrupts: the engine holds the values in positional lists right now.
    """
    if not compiled:
        return ()
    changed = [
        (path, layer)
        for path, layer in [("", survey.model), *survey.layers]
        if id(layer) in compiled and compiled[id(layer)] != wanted.get(id(layer), layer.trainable)
    ]
    if not changed:
        return ()
    engine = survey.engine
    facts = engine.optimizer_facts(survey.model)
    outcome = engine.flip_outcome(survey.model, bool(facts and facts.unknown))
    excuses = _excuses(survey, wanted) if outcome == "ignored" else {}
    return tuple(
        FlagChange(
            path=path,
            compiled=compiled[id(layer)],
            now=not compiled[id(layer)],
            outcome="corrupts" if corrupts else outcome,
            where=where,
            source=(sources or {}).get(id(layer)),
            compiled_at=compiled_at,
            is_norm=engine.is_norm(layer),
            excused_by=excuses.get(id(layer)),
        )
        for path, layer in changed
    )


def excused_flags(
    survey: Survey, wanted: Mapping[int, bool], compiled: Optional[Mapping[int, bool]]
) -> Dict[int, bool]:
    """id(layer) -> the compiled flag, where another model's use of the layer explains why it
    differs now, and the compiled one is what runs."""
    compiled = compiled or {}
    if not any(wanted.get(key, flag) != flag for key, flag in compiled.items()):
        return {}
    flips = flag_changes(survey, wanted, compiled)
    excused = {flip.path for flip in flips if flip.excused_by is not None}
    layers = [("", survey.model), *survey.layers]
    return {id(layer): compiled[id(layer)] for path, layer in layers if path in excused}


def _excuses(survey: Survey, wanted: Mapping[int, bool]) -> Dict[int, str]:
    """Layers another compiled model holds with just these flags, which contains this model.

    A GAN freezes its discriminator for the combined model and goes on training it as it was
    compiled: right where the compiled flags are what runs, and only there. A model that was
    compiled earlier and merely shares layers is no excuse.
    """
    if survey.inventory.shared is None:
        survey.replace_inventory(shared=find_shared(survey))
    found: Dict[int, str] = {}
    for other in survey.engine.other_models(survey.model):
        flags: Mapping[int, Any] = survey.engine.compiled_flags(other) or {}
        if id(survey.model) not in flags:
            continue
        for key, flag in flags.items():
            if wanted.get(key) == flag:
                found[key] = str(getattr(other, "name", "another model"))
    return found
