"""What a rule is: a class with a code, a doc in fixed headings, its needs and one `check`."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass, field
from enum import Enum
from typing import (
    Any,
    ClassVar,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from keras_bnguard.records import (
    CallSite,
    ExpectedMode,
    Facts,
    Inventory,
    NormKind,
    NormLayer,
    RunFacts,
    Severity,
    StatisticsChange,
    Trigger,
)

HEADINGS = (
    "What it checks",
    "Why it matters",
    "How it decides",
    "Example",
    "Fix",
    "Known limits",
    "Source",
)


@dataclass(frozen=True)
class Violation:
    """What a rule's `check` yields: the layers, the numbers and what to type.

    message: one or two sentences with the measured numbers and what this stack does.
    fix: imperative, with code to paste. severity: only where it differs from the rule's.
    """

    layers: Tuple[str, ...]
    message: str
    fix: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    severity: Optional[Severity] = None
    source: Optional[str] = None


class RepairAction(Enum):
    """What `fix=True` does to the model; the guard knows how."""

    PUT_FLAGS_INTO_EFFECT = "the training step is built again with the present flags"
    FORCE_INFERENCE = "frozen BN layers are forced into inference mode"


@dataclass(frozen=True)
class Repair:
    """How `fix=True` repairs a finding.

    Attributes:
        action: what is done to the model.
        done: what a report prints when it is done. Defaults to "": the action describes it.
    """

    action: RepairAction
    done: str = ""


class ExpensiveFact(Enum):
    """A fact that is only collected where a selected rule wants it."""

    SHARED_MODELS = "other compiled models that hold the same BN: a walk over all objects"
    BLOCKS = "the residual blocks of the graph"
    WEIGHT_DECAY = "which gamma and beta the optimizer decays"


ON_SNAPSHOT: FrozenSet[Trigger] = frozenset({Trigger.SNAPSHOT})
ON_CHANGE = ON_SNAPSHOT | {Trigger.CHANGE}
AT_EVERY_CHECK = ON_CHANGE | {Trigger.CHECK}
AT_THE_END = ON_SNAPSHOT | {Trigger.TRAIN_END}


class Rule:
    """Base of all rules; a subclass is one file and is listed in `rules.ALL_RULES`.

    Attributes:
        code: "BNG101"; never given to another rule.
        name: kebab-case; names the pattern found, not the cure.
        severity: how bad a violation is, where the violation itself has no other severity.
        needs: which parts of `Facts` it looks at: "A", "O", "R", "P", "H".
        certain: it has no false positive. Any other rule documents where it stays silent.
        evaluated_at: what makes the rule run. Defaults to `ON_SNAPSHOT`. A rule that reads
            `RunFacts.statistics_changes` needs more: they are empty at `Trigger.CHECK`.
        repair: what `fix=True` does about it. Defaults to None: nothing.
        consequence_of: codes of rules whose findings explain this one, the nearest cause first.
        wants: facts that are only collected where this rule is selected. Defaults to none.
        needs_calls: it cannot be judged unless the guard can see how each BN is called.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity]
    needs: ClassVar[Tuple[str, ...]]
    certain: ClassVar[bool] = True
    evaluated_at: ClassVar[FrozenSet[Trigger]] = ON_SNAPSHOT
    repair: ClassVar[Optional[Repair]] = None
    consequence_of: ClassVar[Tuple[str, ...]] = ()
    wants: ClassVar[FrozenSet[ExpensiveFact]] = frozenset()
    needs_calls: ClassVar[bool] = False

    def check(self, facts: Facts) -> Iterable[Violation]:
        """Yield a hit per fault; nothing where all is well. Must not change the facts."""
        raise NotImplementedError

    def skip_reason(self, facts: Facts) -> Optional[str]:
        """Why facts that are there still do not suffice; None where they do.

        A rule that yields no hit and gives a reason here ends as *skipped*, never as *clear*.
        """
        return None

    @classmethod
    def title(cls) -> str:
        """First line of the doc."""
        return inspect.cleandoc(cls.__doc__ or "").split("\n", 1)[0]

    @classmethod
    def sections(cls) -> Mapping[str, str]:
        """The doc under each of `HEADINGS`, in order."""
        found: Dict[str, List[str]] = {}
        current = None
        for line in inspect.cleandoc(cls.__doc__ or "").split("\n")[1:]:
            if line.rstrip(":") in HEADINGS and line.endswith(":"):
                current = line.rstrip(":")
                found[current] = []
            elif current is not None:
                found[current].append(line)
        return {h: textwrap.dedent("\n".join(t)).strip() for h, t in found.items()}


def count(number: int, noun: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def some(paths: Sequence[str], limit: int = 3) -> str:
    """The first few paths and how many more: `a, b, c (+4 more)`."""
    head = ", ".join(paths[:limit])
    return head if len(paths) <= limit else f"{head} (+{len(paths) - limit} more)"


def expects_inference(norm: NormLayer) -> bool:
    """Whether a BN is meant to run in inference mode: by a flag, a hold or all its graph calls."""
    return norm.frozen or norm.forced_inference or called_with_false(norm)


def called_with_false(norm: NormLayer) -> bool:
    """It has graph calls, and every one of them carries `training=False`."""
    return bool(norm.calls) and all(call.training is False for call in norm.calls)


def drops_training(norm: NormLayer) -> bool:
    """A subclass that did not update its statistics when it was trainable and told to train."""
    behaviour = norm.behaviour
    return (
        norm.kind is NormKind.KERAS
        and not norm.builtin
        and behaviour is not None
        and not behaviour.trainable_updates
    )


def stack_of(facts: Facts) -> str:
    """`keras 3.15.1 on jax`, or `this stack` where the model was not looked at."""
    return str(facts.inventory.stack) if facts.inventory is not None else "this stack"


def norms_of(facts: Facts) -> Dict[str, NormLayer]:
    """Every BN by each path that leads to it."""
    norms = facts.inventory.norms if facts.inventory is not None else ()
    found = {alias: norm for norm in norms for alias in norm.aliases}
    found.update((norm.path, norm) for norm in norms)
    return found


def sites_of(run: RunFacts, norm: NormLayer) -> Tuple[CallSite, ...]:
    """How a BN was called in the observed step, under any of its paths."""
    paths = (norm.path, *norm.aliases)
    return tuple(site for path in paths for site in run.calls.get(path, ()))


def stuck(facts: Facts) -> List[StatisticsChange]:
    """BN meant to train that did not move, where no fact explains it: BNG206 and BNG405 share it.

    Left out: statistics that are NaN or Inf, which stay so whatever the step does (BNG402),
    momentum 1.0, layers of which only variables can be seen, a flag that the step
    ignores (BNG101), a subclass that drops `training` (BNG205), a leaked False (BNG203),
    `training=False` at every call site, and BN that the observed step did not run.
    """
    run = facts.run
    norms = norms_of(facts)
    if run is None or run.steps < 1:
        return []
    flipped = {trainable_change.path for trainable_change in run.trainable_changes}
    found = []
    for statistics_change in run.statistics_changes:
        norm = norms.get(statistics_change.path)
        if (
            norm is None
            or statistics_change.expected is not ExpectedMode.TRAINING
            or statistics_change.changed
        ):
            continue
        sites = sites_of(run, norm)
        explained = (
            norm.kind is NormKind.VARIABLES
            or not {"moving_mean", "moving_variance"}.isdisjoint(statistics_change.nonfinite)
            or norm.path in flipped
            or (norm.momentum is not None and norm.momentum >= 1.0)
            or drops_training(norm)
            or any(site.leaked_from is not None for site in sites)
            or ((run.called or bool(sites)) and all(site.explicit is False for site in sites))
        )
        if not explained:
            found.append(statistics_change)
    return found


def step_is_in_doubt(facts: Facts) -> bool:
    """Whether flags changed after `compile()` (BNG101) or the optimizer knows other variables
    (BNG601): then what the present flags say is not what the step does, and those rules speak."""
    run, optimizer = facts.run, facts.optimizer
    flipped = run is not None and any(
        trainable_change.explained_by is None for trainable_change in run.trainable_changes
    )
    return flipped or (optimizer is not None and bool(optimizer.unknown))


def nothing_before(facts: Facts) -> Optional[str]:
    """Why rules that compare with the phase before cannot look; None where they can."""
    if facts.run is not None and facts.run.before is None:
        return "no fit or phase of this model was seen before this one"
    return None


def reach(path: str) -> str:
    """Code that gets the layer at `path`: `model.get_layer("backbone")`."""
    return "model" + "".join(f'.get_layer("{name}")' for name in path.split("/") if name)


def wrappers_of(norms: Sequence[NormLayer]) -> List[str]:
    """Paths of the Keras layers that wrap modules inside them: the step below the container."""
    found: Dict[str, None] = {}
    for norm in norms:
        depth = len(norm.container.split("/")) if norm.container else 0
        found["/".join(norm.path.split("/")[: depth + 1])] = None
    return list(found)


def by_container(norms: Sequence[NormLayer]) -> Dict[str, List[NormLayer]]:
    """The BN layers under the path of the sub-model that holds them, in order."""
    found: Dict[str, List[NormLayer]] = {}
    for norm in norms:
        found.setdefault(norm.container, []).append(norm)
    return found


def names_code(norms: Sequence[NormLayer]) -> str:
    """A list literal with the names of layers that one sub-model holds."""
    names = ", ".join(f'"{norm.path.rsplit("/", 1)[-1]}"' for norm in norms)
    return "[" + "\n    ".join(textwrap.wrap(names, 84, break_long_words=False)) + "]"


def freeze_code(inventory: Inventory, norms: Sequence[NormLayer]) -> str:
    """Code to paste that freezes these BN by their own flag and compiles again.

    A sub-model whose BN are all meant gets a loop over its layers, any other one a list of
    names, so that a head's own BN is left alone.
    """
    lines: List[str] = []
    everywhere = by_container([norm for norm in inventory.norms if norm.kind is NormKind.KERAS])
    for container, held in by_container(norms).items():
        lines.append(f"base = {reach(container)}")
        if len(everywhere.get(container, ())) == len(held):
            lines += [
                "for layer in base.layers:",
                "    if isinstance(layer, keras.layers.BatchNormalization):",
                "        layer.trainable = False",
            ]
        else:
            lines += [
                f"for name in {names_code(held)}:",
                "    base.get_layer(name).trainable = False",
            ]
    return indent("\n".join([*lines, COMPILE_AGAIN]))


def indent(code: str) -> str:
    """Code as it stands in a fix: four spaces in."""
    return textwrap.indent(code, "    ")


COMPILE_AGAIN = (
    "old = model.optimizer\n"
    "optimizer = type(old).from_config(old.get_config())\n"
    "model.compile(optimizer=optimizer, loss=..., metrics=...)"
)


def line_of_call(norms: Iterable[NormLayer], training: bool) -> Optional[str]:
    """ "file.py:12" of the first graph call that carries this value, where it was seen."""
    lines = (c.source for norm in norms for c in norm.calls if c.training is training)
    return next((line for line in lines if line), None)
