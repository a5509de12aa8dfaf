"""Schedules as YAML: written to be edited, read as if anyone could have written them."""

from __future__ import annotations

import os
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple, Union

from keras_bnguard.errors import MissingExtraError, ScheduleError
from keras_bnguard.phases.fields import Choice
from keras_bnguard.phases.phase import Phase, check_phases
from keras_bnguard.phases.train_selectors import CountingSelector
from keras_bnguard.phases.yaml_reader import Reader
from keras_bnguard.selectors import as_list


def to_yaml(phases: Sequence[Phase]) -> str:
    """The phases as YAML that `from_yaml` turns back into equal ones.

    Values that are at their default are left out. Selectors given as a tuple or a set come
    back as a list.

    Args:
        phases: as for `PhaseScheduler`.

    Raises:
        ScheduleError: a phase holds what cannot be written (a function, a class, a predicate,
            a `LearningRateSchedule`); the error names what to use instead.
        MissingExtraError: PyYAML is not installed.
    """
    yaml = _yaml()
    written = [_phase_as_plain(phase) for phase in check_phases(phases)]
    return str(yaml.safe_dump({"phases": written}, sort_keys=False, allow_unicode=True))


def from_yaml(source: Union[str, Path]) -> List[Phase]:
    """Read phases.

    The form is a mapping with the one key `phases`, a list of mappings whose keys are the
    arguments of `Phase`:

        phases:
        - name: head
          train: head*                     # or a list; {last_layers: 20}; {last_blocks: 2}
          learning_rate: 1e-3              # or {relative_rate: 0.1}, {per_optimizer: {...}}
          until: {plateau: {monitor: val_loss, patience: 3}}   # or {threshold: {...}}

    Only plain values are read: no tag in the text can make a Python object.

    Args:
        source: a path, or the text itself: a string without line breaks that ends in `.yaml`
            or `.yml` is a path.

    Raises:
        ScheduleError: a key is unknown or there twice, a value is of the wrong type, or the
            phases cannot follow one another; the error names the file and the line.
        MissingExtraError: PyYAML is not installed.
    """
    yaml = _yaml()
    if not isinstance(source, (str, os.PathLike)):
        raise ScheduleError(
            f"source={type(source).__name__}: expected YAML as text, or the path of a YAML file."
        )
    text, where = _read(source)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ScheduleError(f"{where}{line}: not valid YAML: {error.problem}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ScheduleError(f"{where}: not valid YAML: {str(error).splitlines()[0]}") from None
    return Reader(where, yaml).schedule(root)


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingExtraError(
            "schedules in YAML need PyYAML. Install it with: pip install 'keras_bnguard[yaml]'"
        ) from None
    return yaml


def _read(source: Union[str, Path]) -> Tuple[str, str]:
    if isinstance(source, str) and (
        "\n" in source or not source.lower().endswith((".yaml", ".yml"))
    ):
        return source, "<text>"
    path = Path(source)
    try:
        return path.read_text(encoding="utf-8"), str(source)
    except OSError as error:
        raise ScheduleError(f"{source}: cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise ScheduleError(f"{source}: is not UTF-8 text.") from None


# --------------------------------------------------------------------- writing
def _phase_as_plain(phase: Phase) -> Dict[str, Any]:
    written: Dict[str, Any] = {"name": str(phase.name), "train": _train(phase)}
    for each in fields(Phase):
        value = getattr(phase, each.name)
        if each.name not in written and (each.default is MISSING or value != each.default):
            written[each.name] = value.value if isinstance(value, Choice) else value
    try:
        if "learning_rate" in written:
            written["learning_rate"] = phase.learning_rate_change.as_plain()
        if phase.condition is not None:
            written["until"] = {phase.condition.key: phase.condition.as_dict()}
    except ScheduleError as error:
        raise ScheduleError(f"phase {phase.name!r}: {error}") from None
    return written


def _train(phase: Phase) -> Any:
    written = [_selector(phase, one) for one in as_list(phase.train)]  # type: ignore[arg-type]
    if not written:
        raise ScheduleError(f"phase {phase.name!r}: train is empty, so it selects nothing.")
    if isinstance(phase.train, (set, frozenset)):
        written.sort(key=str)
    several = isinstance(phase.train, (list, tuple, set, frozenset))
    return written if several else written[0]


def _selector(phase: Phase, selector: Any) -> Any:
    if isinstance(selector, str):
        return str(selector)
    if isinstance(selector, CountingSelector):
        return selector.as_dict()
    what = "class" if isinstance(selector, type) else "predicate"
    name = getattr(selector, "__name__", None) or type(selector).__name__
    raise ScheduleError(
        f"phase {phase.name!r}: the {what} {name} in train cannot be written as YAML. Use a glob "
        "or 're:...' on paths instead, or keep this schedule in Python."
    )
