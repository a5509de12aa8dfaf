"""Schedules as YAML: written to be edited, read as if anyone could have written them."""

from __future__ import annotations

import numbers
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence, Tuple, Union

from keras_bnguard.errors import MissingExtraError, ScheduleError
from keras_bnguard.schedule import Phase, Plateau, Threshold, blocks, check_phases, last, times
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
    return _Reader(where, yaml).schedule(root)


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
            plain[each.name] = _rate(phase, value)
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


def _rate(phase: Phase, value: Any) -> Any:
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


# --------------------------------------------------------------------- reading
class _Reader:
    """Turns YAML nodes into phases; every complaint names the line."""

    def __init__(self, where: str, yaml: Any) -> None:
        self.where = where
        self.yaml = yaml
        self.made = yaml.SafeLoader("")

    def refuse(self, node: Any, text: str) -> NoReturn:
        line = f":{node.start_mark.line + 1}" if node is not None else ""
        raise ScheduleError(f"{self.where}{line}: {text}")

    def schedule(self, root: Any) -> List[Phase]:
        if root is None:
            self.refuse(None, "is empty, expected a mapping with the key 'phases'.")
        top = self.mapping(root, "the file", ("phases",), ("phases",))
        if not isinstance(top["phases"], self.yaml.SequenceNode):
            self.refuse(top["phases"], "'phases' is no list; begin each phase with '- name: ...'.")
        self.tag(top["phases"])
        items = top["phases"].value
        found = [self.phase(node) for node in items]
        try:
            return list(check_phases(found))
        except ScheduleError as error:
            names = [phase.name for phase in found]
            again = [n for i, n in enumerate(names) if n in names[:i]]
            at = items[len(names) - 1 - names[::-1].index(again[0])] if again else top["phases"]
            self.refuse(at, str(error) if found else "there are no phases.")

    def phase(self, node: Any) -> Phase:
        keys = tuple(each.name for each in fields(Phase))
        found = self.mapping(node, "a phase", keys, ("name", "train"))
        read: Dict[str, Callable[[Any, str], Any]] = {
            "name": self.text,
            "train": self.train,
            "learning_rate": self.rate,
            "epochs": self.whole,
            "until": self.until,
            "batch_norm": self.text,
            "warmup": self.whole,
            "optimizer_state": self.text,
            "restore_best": self.yes_or_no,
        }
        values = {}
        for key, value in found.items():
            if key not in ("name", "train") and self.is_null(value):
                continue
            values[key] = read[key](value, repr(key))
        try:
            return Phase(**values)
        except ScheduleError as error:
            self.refuse(node, str(error))

    def train(self, node: Any, what: str) -> Any:
        if not isinstance(node, self.yaml.SequenceNode):
            return self.selector(node, what)
        self.tag(node)
        if not node.value:
            self.refuse(node, f"{what} is an empty list, so it selects nothing.")
        return [self.selector(each, f"an entry of {what}") for each in node.value]

    def selector(self, node: Any, what: str) -> Any:
        if isinstance(node, self.yaml.MappingNode):
            kind, value = self.one_of(node, what, ("last", "blocks"))
            return {"last": last, "blocks": blocks}[kind](self.whole(value, repr(kind)))
        return self.text(node, what)

    def rate(self, node: Any, what: str) -> Any:
        if isinstance(node, self.yaml.MappingNode):
            return times(self.number(self.one_of(node, what, ("times",))[1], "'times'"))
        return self.number(node, what)

    def until(self, node: Any, what: str) -> Any:
        kind, value = self.one_of(node, what, ("plateau", "threshold"))
        read: Dict[str, Callable[[Any, str], Any]] = {
            "monitor": self.text,
            "mode": self.text,
            "patience": self.whole,
            "min_delta": self.number,
            "value": self.number,
        }
        cls: Any = Plateau if kind == "plateau" else Threshold
        needed = tuple(f.name for f in fields(cls) if f.default is MISSING)
        found = self.mapping(value, repr(kind), tuple(f.name for f in fields(cls)), needed)
        mode = found.get("mode")
        if mode is not None and self.text(mode, "'mode'") not in ("min", "max", "auto"):
            self.refuse(mode, f"'mode' is {mode.value!r}, expected min, max or auto.")
        try:
            return cls(**{key: read[key](each, repr(key)) for key, each in found.items()})
        except ScheduleError as error:
            self.refuse(value, str(error))

    # ------------------------------------------------------------------- nodes
    def mapping(
        self, node: Any, what: str, known: Tuple[str, ...], needed: Tuple[str, ...]
    ) -> Dict[str, Any]:
        if not isinstance(node, self.yaml.MappingNode):
            self.refuse(node, f"{what} is no mapping; expected keys of {', '.join(known)}.")
        self.tag(node)
        found: Dict[str, Any] = {}
        for key_node, value in node.value:
            key = key_node.value if isinstance(key_node, self.yaml.ScalarNode) else None
            if key not in known or not isinstance(key, str):
                name = repr(key) if isinstance(key, str) else "one that is no text"
                self.refuse(
                    key_node, f"unknown key {name} in {what}; known are {', '.join(known)}."
                )
            self.tag(key_node)
            if key in found:
                self.refuse(key_node, f"the key {key!r} is there twice in {what}.")
            found[key] = value
        for key in needed:
            if key not in found:
                self.refuse(node, f"{what} lacks the key {key!r}.")
        return found

    def one_of(self, node: Any, what: str, known: Tuple[str, ...]) -> Tuple[str, Any]:
        found = self.mapping(node, what, known, ())
        if len(found) != 1:
            self.refuse(node, f"{what} takes exactly one of {', '.join(known)}.")
        return next(iter(found.items()))

    def tag(self, node: Any) -> None:
        kind = node.tag.rsplit(":", 1)[-1]
        if not node.tag.startswith("tag:yaml.org,2002:") or kind not in _PLAIN:
            self.refuse(node, f"the tag {node.tag!r} is refused: only plain values are read.")

    def plain(self, node: Any, what: str, expected: str) -> Any:
        if not isinstance(node, self.yaml.ScalarNode):
            self.refuse(node, f"{what} is a list or mapping, expected {expected}.")
        self.tag(node)
        try:
            return self.made.construct_object(node)
        except (self.yaml.YAMLError, ValueError):
            self.refuse(node, f"{what} is {node.value!r}, expected {expected}.")

    def text(self, node: Any, what: str) -> str:
        value = self.plain(node, what, "text")
        if not isinstance(value, str):
            self.refuse(node, f"{what} is {node.value!r}, expected text: put it in quotes.")
        return value

    def number(self, node: Any, what: str) -> Union[int, float]:
        value = self.plain(node, what, "a number")
        if isinstance(value, str) and node.style is None:
            # YAML 1.1 takes 1e-3 for text, for want of a dot.
            value = _float_of(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse(node, f"{what} is {node.value!r}, expected a number.")
        return value

    def whole(self, node: Any, what: str) -> int:
        value = self.plain(node, what, "a whole number")
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(node, f"{what} is {node.value!r}, expected a whole number.")
        return value

    def yes_or_no(self, node: Any, what: str) -> bool:
        value = self.plain(node, what, "true or false")
        if not isinstance(value, bool):
            self.refuse(node, f"{what} is {node.value!r}, expected true or false.")
        return value

    def is_null(self, node: Any) -> bool:
        return isinstance(node, self.yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


_PLAIN = ("str", "int", "float", "bool", "null", "seq", "map", "timestamp")


def _float_of(text: str) -> Optional[float]:
    try:
        return float(text)
    except ValueError:
        return None
