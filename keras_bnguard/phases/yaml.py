"""Schedules as YAML: written to be edited, read as if anyone could have written them."""

from __future__ import annotations

import numbers
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Dict, List, NoReturn, Sequence, Tuple, Union

from keras_bnguard.errors import MissingExtraError, ScheduleError
from keras_bnguard.phases.phase import Phase, Plateau, Threshold, blocks, check_phases, last, times
from keras_bnguard.phases.yaml_reader import Reader
from keras_bnguard.selectors import as_list


def to_yaml(phases: Sequence[Phase]) -> str:
    """The phases as YAML that `from_yaml` turns back into equal ones.

    Values that are at their default are left out. Selectors given as a tuple or a set come
    back as a list.

    Raises:
        ScheduleError: a phase holds what cannot be written (a function, a class, a predicate,
            a `LearningRateSchedule`); says what to use instead.
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
          train: head*                     # or a list; {last: 20}; {blocks: 2}
          learning_rate: 1e-3              # or {times: 0.1}
          until: {plateau: {monitor: val_loss, patience: 3}}   # or {threshold: {...}}

    Only plain values are read: no tag in the text can make a Python object.

    Args:
        source: a path, or the text itself: a string without line breaks that ends in `.yaml`
            or `.yml` is a path.

    Raises:
        ScheduleError: a key is unknown or there twice, a value is of the wrong type, or the
            phases cannot follow one another; names the file and the line.
        MissingExtraError: PyYAML is not installed.
    """
    yaml = _yaml()
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
    plain: Dict[str, Any] = {"name": str(phase.name), "train": _train(phase)}
    for each in fields(Phase):
        value = getattr(phase, each.name)
        if each.name in plain or (each.default is not MISSING and value == each.default):
            continue
        if each.name == "learning_rate":
            plain[each.name] = _learning_rate(phase, value)
        elif each.name == "until":
            plain[each.name] = _until(phase, value)
        else:
            plain[each.name] = value
    return plain


def _train(phase: Phase) -> Any:
    written = []
    for one in as_list(phase.train):
        if isinstance(one, str):
            written.append(str(one))
        elif isinstance(one, (last, blocks)):
            written.append({type(one).__name__: int(one.count)})
        elif isinstance(one, type):
            _cannot(phase, f"the class {one.__name__} in train", "a glob or 're:...' on paths")
        else:
            _cannot(phase, f"the predicate {_called(one)} in train", "a glob or 're:...' on paths")
    if not written:
        raise ScheduleError(f"phase {phase.name!r}: train is empty, so it selects nothing.")
    several = isinstance(phase.train, (list, tuple, set, frozenset))
    if isinstance(phase.train, (set, frozenset)):
        written.sort(key=str)
    return written if several else written[0]


def _learning_rate(phase: Phase, value: Any) -> Any:
    if isinstance(value, times):
        return {"times": _number(value.factor)}
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return _number(value)
    _cannot(phase, f"the learning rate {_called(value)}", "a number, or times(...)")


def _until(phase: Phase, value: Any) -> Any:
    if isinstance(value, (Plateau, Threshold)):
        return {
            type(value).__name__.lower(): {
                each.name: _plain(getattr(value, each.name))
                for each in fields(value)
                if each.default is MISSING or getattr(value, each.name) != each.default
            }
        }
    _cannot(phase, f"the function {_called(value)} in until", "Plateau(...) or Threshold(...)")


def _cannot(phase: Phase, what: str, instead: str) -> NoReturn:
    raise ScheduleError(
        f"phase {phase.name!r}: {what} cannot be written as YAML. Use {instead} instead, "
        "or keep this schedule in Python."
    )


def _called(thing: Any) -> str:
    return str(getattr(thing, "__name__", None) or type(thing).__name__)


def _plain(value: Any) -> Any:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return _number(value) if number else value


def _number(value: Any) -> Union[int, float]:
    return int(value) if isinstance(value, numbers.Integral) else float(value)
