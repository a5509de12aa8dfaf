"""BNG101: `trainable` was changed, and the compiled step still holds the old flags."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Tuple

from keras_bnguard.records import (
    ChangeOutcome,
    Inventory,
    MomentKind,
    RunFacts,
    Severity,
    SkipKind,
    SkipReason,
    TrainableChange,
    Trigger,
)
from keras_bnguard.rules.base import ON_CHANGE, Repair, RepairAction, Rule, Violation
from keras_bnguard.rules.text import before_line, compile_again, count, indent, some

OUTCOMES = {
    ChangeOutcome.IGNORED: (
        "the compiled step keeps the old flags: layers frozen since still train, "
        "layers unfrozen since stay frozen"
    ),
    ChangeOutcome.IMMEDIATE: "it takes effect at once here, but on other Kerases it would not",
    ChangeOutcome.RAISES: (
        "the next step will raise, because the optimizer was built for other variables"
    ),
    ChangeOutcome.CORRUPTS: (
        "the backend would put the values of one variable into another at the next sync"
    ),
}


class TrainableChangedAfterCompile(Rule):
    """A layer's `trainable` was changed and the model was not compiled again.

    What it checks:
        The flag of every layer, before `fit` and during it, against the flag that the step
        in use was built with.

    Why it matters:
        `summary()` and `trainable_weights` show the new flags at once, the step may not obey
        them. The layers you froze go on training, or the ones you unfroze never start. With
        JAX a change inside `fit` can put the weights of one layer into another.

    How it decides:
        The two flags of a layer differ, no threshold. What follows depends on the backend and
        on the moment: "ignored" (the old flags count), "immediate" (the new ones do), "raises"
        (the next step fails) or "corrupts" (weights get mixed up). Certain.

    Example:
        model.compile("adam", "mse")
        model.fit(x, y)
        model.get_layer("backbone").trainable = False
        model.fit(x, y)                       # the backbone may go on training

    Fix:
        Call `compile` with a new optimizer after the last change. To change flags between
        the epochs of one `fit`, use `PhaseScheduler`.

    Known limits:
        Silent where the model was compiled again and where `PhaseScheduler` made the change.
        Layers that another model shares are left to BNG106 as long as this model's step still
        trains what it was compiled to train, and the other model contains this one or was
        compiled later; where the step obeys the flag of the other model, they are left to BNG110.
        Layers without weights do not count. A flag that is back at its old value at the next check
        is not seen.

    Source:
        Measured on Keras 2.15, tf_keras 2.21 and Keras 3.15.1 on three backends; keras issues
        9550 and 13404, tensorflow issue 22012, keras pull requests 8234 and 22787.
    """

    code = "BNG101"
    name = "trainable-changed-after-compile"
    severity = Severity.ERROR
    evaluated_at = ON_CHANGE | {Trigger.TRAINABLE_CHANGE}
    repair = Repair(RepairAction.PUT_FLAGS_INTO_EFFECT)

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        trainable_changes = [
            trainable_change
            for trainable_change in run.trainable_changes
            if trainable_change.explained_by is None and trainable_change.set_for is None
        ]
        if not trainable_changes:
            return
        trainable_changes.sort(key=lambda trainable_change: not trainable_change.is_norm)
        paths = tuple(
            dict.fromkeys(
                trainable_change.path
                for trainable_change in trainable_changes
                if trainable_change.path
            )
        )
        norms = len(
            {
                trainable_change.path
                for trainable_change in trainable_changes
                if trainable_change.is_norm
            }
        )
        changed = ["the model itself"] * any(
            not trainable_change.path for trainable_change in trainable_changes
        )
        changed += [f"{count(len(paths), 'layer')} ({norms} BN): {some(paths)}"] * bool(paths)
        outcomes: Dict[ChangeOutcome, List[TrainableChange]] = {}
        for trainable_change in trainable_changes:
            outcomes.setdefault(trainable_change.outcome, []).append(trainable_change)
        effects = "; ".join(_describe(outcome, group) for outcome, group in outcomes.items())
        inside = any(
            trainable_change.where.kind is not MomentKind.BEFORE_FIT
            for trainable_change in trainable_changes
        )
        yield Violation(
            layers=paths,
            message=(
                f"trainable changed after compile() for {' and '.join(changed)}. "
                f"With {inventory.stack}: {effects}.{_lines(trainable_changes)}"
            ),
            fix=_fix(inventory, inside),
            evidence={
                "frozen": sum(not trainable_change.now for trainable_change in trainable_changes),
                "unfrozen": sum(trainable_change.now for trainable_change in trainable_changes),
                "norms": norms,
                "outcomes": {outcome.value: len(group) for outcome, group in outcomes.items()},
                "where": _each(
                    str(trainable_change.where) for trainable_change in trainable_changes
                ),
            },
            source=next(
                (
                    trainable_change.source
                    for trainable_change in trainable_changes
                    if trainable_change.source
                ),
                None,
            ),
        )

    def skip_reason(self, inventory: Inventory) -> Optional[SkipReason]:
        if not inventory.compiled:
            return SkipReason(
                SkipKind.NOT_KNOWN, "the model is not compiled, so no earlier flags are known"
            )
        if inventory.step_built and not inventory.compiled_flags_known:
            return SkipReason(
                SkipKind.NOT_KNOWN,
                "the flags that the existing train function was built with are not known",
            )
        return None


def _describe(outcome: ChangeOutcome, trainable_changes: List[TrainableChange]) -> str:
    frozen = sum(not trainable_change.now for trainable_change in trainable_changes)
    changed = [f"{frozen} frozen"] * bool(frozen)
    unfrozen = len(trainable_changes) - frozen
    changed += [f"{unfrozen} unfrozen"] * bool(unfrozen)
    places = _each(
        f"{trainable_change.where} at {trainable_change.source}"
        if trainable_change.source
        else str(trainable_change.where)
        for trainable_change in trainable_changes
    )
    return f"{' and '.join(changed)} ({some(places)}): {OUTCOMES[outcome]}"


def _lines(trainable_changes: List[TrainableChange]) -> str:
    """Both lines, where both are known: ` trainable changed at a.py:41, last compile at ...`."""
    places = _each(_short(f.source) for f in trainable_changes if f.source and f.compiled_at)
    if not places:
        return ""
    compiled = next(_short(f.compiled_at) for f in trainable_changes if f.compiled_at)
    return f" trainable changed at {some(places)}, last compile at {compiled}."


def _short(source: str) -> str:
    """`train.py:41`, without the folders."""
    return source.replace("\\", "/").rsplit("/", 1)[-1]


def _each(texts: Iterable[str]) -> Tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _fix(inventory: Inventory, inside: bool) -> str:
    again = indent("\n".join(compile_again(inventory)))
    if not inside:
        return (
            "compile again, with a new optimizer, after the last change of a flag and "
            f"{before_line(inventory)}:\n{again}"
        )
    return (
        "do not change the flags while fit runs: end fit, change them, compile again and call "
        f"fit again:\n{again}\n"
        "or let bng.PhaseScheduler change them; it makes the new step inside fit"
    )
