"""What may change in a schedule between two runs, and from when each new value counts."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, Dict, Mapping, Sequence, Tuple

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.cursor import PhaseCursor
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.plan import Plan
from keras_bnguard.phases.resuming.checkpoint import SavedState
from keras_bnguard.selectors import as_list

Shown = Dict[str, str]
"""The fields of a phase as text, by name."""


class Effect(Enum):
    """What becomes of a new value, as it stands at the end of a line for the user."""

    NEXT_EPOCH = "the new value is used from the next epoch"
    JUDGED_AGAIN = "the new value is used from the next epoch, without what was judged before"
    AT_ITS_START = "the new value is used when the phase begins"
    NONE = "without effect, the phase has begun"
    OVER = "without effect, the phase is over"
    REFUSED = "refused"


class Unless(Enum):
    """Where a new value is not used in the phase under way."""

    NEVER = ""
    OTHER_WEIGHTS = "refused where other weights would train"
    ONE_SCHEDULE = "refused where one of the two values is a LearningRateSchedule"
    WARMED_UP = "without effect once the warm-up is over"


@dataclass(frozen=True)
class Rule:
    """What becomes of a changed field. In a phase that is over, no field but the name counts.

    Attributes:
        under_way: its effect in the phase training goes on in.
        to_come: its effect in a later phase.
        unless: where the phase under way does not use it.
    """

    under_way: Effect
    to_come: Effect = Effect.AT_ITS_START
    unless: Unless = Unless.NEVER

    def docs_row(self, name: str) -> str:
        """Its row in the table of docs/phases.md."""
        under_way = self.under_way.value + (f"; {self.unless.value}" if self.unless.value else "")
        return f"| `{name}` | {under_way} | {self.to_come.value} |"


RULES: Mapping[str, Rule] = {
    "name": Rule(Effect.REFUSED, Effect.REFUSED),
    "train": Rule(Effect.NEXT_EPOCH, unless=Unless.OTHER_WEIGHTS),
    "learning_rate": Rule(Effect.NEXT_EPOCH, unless=Unless.ONE_SCHEDULE),
    "epochs": Rule(Effect.NEXT_EPOCH),
    "until": Rule(Effect.JUDGED_AGAIN),
    "batch_norm": Rule(Effect.NEXT_EPOCH, unless=Unless.OTHER_WEIGHTS),
    "warmup": Rule(Effect.NEXT_EPOCH, unless=Unless.WARMED_UP),
    "optimizer_state": Rule(Effect.NONE),
    "restore_best": Rule(Effect.NEXT_EPOCH),
    "layer_decay": Rule(Effect.NEXT_EPOCH),
}
"""By field of `Phase`."""

SCHEDULER_RULES: Mapping[str, str] = {
    "phases": "another number or order of phases is refused; their fields as above",
    "optimizer_state": "as `optimizer_state` of the phases without one of their own",
    "state": "not compared: the folder may have been moved",
    "verbose": "not compared",
    "on_failure": "not compared",
}
"""By argument of `PhaseScheduler`."""


@dataclass(frozen=True)
class Change:
    """A field of a phase that differs from the run before.

    Attributes:
        phase: name of the phase.
        field: name of the field.
        was: the old value as text.
        now: the new value as text.
        effect: what becomes of it.
        reason: why it is refused; "" where it is not.
    """

    phase: str
    field: str
    was: str
    now: str
    effect: Effect
    reason: str = ""

    def describe(self) -> str:
        """One line for the user."""
        end = self.effect.value + (f": {self.reason}" if self.reason else "")
        return f"{self.field} of phase {self.phase!r} was {self.was}, is {self.now}: {end}"


@dataclass(frozen=True)
class Adapted:
    """A saved state as this schedule goes on with it.

    Attributes:
        saved: the state.
        changes: what differs from the schedule it was written by.
        new_learning_rate: that of the schedule counts, not that of the state.
    """

    saved: SavedState
    changes: Tuple[Change, ...]
    new_learning_rate: bool


def shown(phase: Phase) -> Shown:
    """The fields of a phase as text: what a state file keeps, and what users read."""
    return {each.name: _text(each.name, getattr(phase, each.name)) for each in fields(Phase)}


def adapt(saved: SavedState, plan: Plan) -> Adapted:
    """A saved state for a schedule whose phases have the same names, and maybe other fields.

    Raises:
        ScheduleError: a change is refused; lists every one that is.
    """
    index = saved.cursor.phase
    changed = [
        (i, name, saved.schedule[i][name], now)
        for i, planned in enumerate(plan)
        for name, now in shown(planned.phase).items()
        if saved.schedule[i].get(name, now) != now
    ]
    in_phase = {name: was for i, name, was, _ in changed if i == index}
    phase = plan[index].phase
    cursor = saved.cursor.copy()
    if "until" in in_phase:
        cursor.forget()
    cursor.count_again(phase)
    changes = tuple(
        Change(plan[i].phase.name, name, was, now, *_effect(i, name, was, now, saved, plan, cursor))
        for i, name, was, now in changed
    )
    refused = [change for change in changes if change.effect is Effect.REFUSED]
    if refused:
        raise ScheduleError(
            "; ".join(change.describe() for change in refused)
            + f". The state after epoch {saved.epoch + 1} belongs to the old schedule: go on with "
            "that one, or begin a new run with initial_epoch=0."
        )
    drops_best = "until" in in_phase or not phase.restore_best
    new_learning_rate = "learning_rate" in in_phase and not cursor.over
    adapted = replace(
        saved,
        cursor=cursor,
        best=[] if drops_best and in_phase else saved.best,
        learning_rate=saved.learning_rate.with_warmup(phase.warmup),
    )
    return Adapted(adapted, changes, new_learning_rate)


def _effect(
    i: int, name: str, was: str, now: str, saved: SavedState, plan: Plan, cursor: PhaseCursor
) -> Tuple[Effect, str]:
    """The effect of one change, and why it is refused.

    Args:
        i: index of the phase.
        name: of the field.
        was: the old value.
        now: the new value.
        saved: the state.
        plan: of the new schedule.
        cursor: the place in the new schedule.
    """
    rule = RULES[name]
    if i > saved.cursor.phase:
        return rule.to_come, ""
    if i < saved.cursor.phase:
        return Effect.OVER, ""
    if rule.unless is Unless.OTHER_WEIGHTS and set(plan[i].trains) != set(saved.trains):
        return Effect.REFUSED, _difference(plan[i].trains, saved.trains)
    if rule.unless is Unless.ONE_SCHEDULE and _is_schedule(was) is not _is_schedule(now):
        return Effect.REFUSED, "the optimizer state is that of the other kind"
    if rule.unless is Unless.WARMED_UP and saved.learning_rate.warmup_target is None:
        return Effect.NONE, ""
    # A phase that was over may go on with its new `epochs` or `until`, or be over by them.
    over = saved.cursor.over and cursor.over if name in ("epochs", "until") else cursor.over
    return (Effect.OVER if over else rule.under_way), ""


def _difference(now: Sequence[str], before: Sequence[str]) -> str:
    more = [path for path in now if path not in before]
    less = [path for path in before if path not in now]
    parts = [
        f"{word} {', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''}"
        for word, paths in (("trains", more), ("no longer trains", less))
        if paths
    ]
    return f"the phase {' and '.join(parts)}, and the optimizer state lacks these weights"


_SCHEDULE = "schedule "


def _is_schedule(text: str) -> bool:
    return text.startswith(_SCHEDULE)


def _text(name: str, value: Any) -> str:
    if name == "name":
        return str(value)
    if name == "train":
        listed = [_named(each) for each in as_list(value)]
        if isinstance(value, (set, frozenset)):
            listed.sort()
        return listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
    config = getattr(value, "get_config", None)
    if config is not None:
        return f"{_SCHEDULE}{type(value).__name__}({_arguments(config())})"
    return _named(value)


def _named(value: Any) -> str:
    """A value as text that is the same in every process: a function and a class by their names."""
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    text = repr(value)
    return f"{type(value).__name__}(...)" if " at 0x" in text else text


def _arguments(config: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_named(value)}" for key, value in sorted(config.items()))
