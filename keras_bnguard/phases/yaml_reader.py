"""YAML nodes into phases, with a line number for every complaint."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple, Type, Union

from keras_bnguard.errors import ScheduleError, SelectorError
from keras_bnguard.phases.conditions import CONDITIONS
from keras_bnguard.phases.fields import Argument, Choice, arguments_of
from keras_bnguard.phases.learning_rates import LearningRatePerOptimizer, RelativeRate
from keras_bnguard.phases.phase import Phase, check_phases
from keras_bnguard.phases.train_selectors import SELECTORS
from keras_bnguard.selectors import check_selector


class Reader:
    """Turns YAML nodes into phases; every error names the line.

    Args:
        where: the file, or "<text>".
        yaml: the module of PyYAML.
    """

    def __init__(self, where: str, yaml: Any) -> None:
        self.where = where
        self.yaml = yaml
        self.loader = yaml.SafeLoader("")

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

    def phase(self, node: Any) -> Any:
        keys = tuple(each.name for each in fields(Phase))
        found = self.mapping(node, "a phase", keys, ("name", "train"))
        read: Dict[str, Callable[[Any, str], Any]] = {
            "name": self.text,
            "train": self.train,
            "learning_rate": self.learning_rate,
            "epochs": self.whole,
            "until": self.until,
            "batch_norm": self.text,
            "warmup": self.whole,
            "layer_decay": self.number,
            "optimizer_state": self.text,
            "restore_best": self.yes_or_no,
        }
        values = {}
        for key, value in found.items():
            if key not in ("name", "train") and self.is_null(value):
                continue
            values[key] = read[key](value, repr(key))
        return self.made(node, Phase, **values)

    def made(self, node: Any, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What `make` returns; its errors get the line of `node`."""
        try:
            return make(*args, **kwargs)
        except (ScheduleError, SelectorError) as error:
            self.refuse(node, str(error))

    def train(self, node: Any, what: str) -> Any:
        if not isinstance(node, self.yaml.SequenceNode):
            return self.selector(node, what)
        self.tag(node)
        if not node.value:
            self.refuse(node, f"{what} is an empty list, so it selects nothing.")
        return [self.selector(each, f"an entry of {what}") for each in node.value]

    def selector(self, node: Any, what: str) -> Any:
        if not isinstance(node, self.yaml.MappingNode):
            text = self.text(node, what)
            self.made(node, check_selector, text)
            return text
        known = {each.key: each for each in SELECTORS}
        key, value = self.one_of(node, what, tuple(known))
        return self.made(node, known[key], self.whole(value, repr(key)))

    def learning_rate(self, node: Any, what: str) -> Any:
        if not isinstance(node, self.yaml.MappingNode):
            return self.number(node, what)
        key, value = self.one_of(node, what, (RelativeRate.key, LearningRatePerOptimizer.key))
        if key == LearningRatePerOptimizer.key:
            names = tuple(each.value for each, _ in getattr(value, "value", ()))
            found = self.mapping(value, repr(key), names, ())
            return {name: self.number(each, repr(name)) for name, each in found.items()}
        return self.made(node, RelativeRate, self.number(value, repr(key)))

    def until(self, node: Any, what: str) -> Any:
        known = {each.key: each for each in CONDITIONS}
        key, value = self.one_of(node, what, tuple(known))
        arguments = {each.name: each for each in arguments_of(known[key])}
        needed = tuple(each.name for each in arguments.values() if each.needed)
        found = self.mapping(value, repr(key), tuple(arguments), needed)
        values = {name: self.argument(each, arguments[name]) for name, each in found.items()}
        return self.made(value, known[key].from_dict, values)

    def argument(self, node: Any, argument: Argument) -> Any:
        """The value of one argument of an end condition."""
        what = repr(argument.name)
        if argument.choices is not None:
            return self.choice(node, what, argument.choices)
        read: Dict[type, Callable[[Any, str], Any]] = {
            str: self.text,
            int: self.whole,
            float: self.number,
            bool: self.yes_or_no,
        }
        return read[argument.type](node, what)

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
                name = shortened(key) if isinstance(key, str) else "one that is no text"
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
            self.refuse(
                node, f"the tag {shortened(node.tag)} is refused: only plain values are read."
            )

    def plain(self, node: Any, what: str, expected: str) -> Any:
        if not isinstance(node, self.yaml.ScalarNode):
            self.refuse(node, f"{what} is a list or mapping, expected {expected}.")
        self.tag(node)
        if len(node.value) > (_TEXT if node.tag == _STRING else _NUMBER):
            self.refuse(
                node,
                f"{what} has {len(node.value):,} characters, expected {expected}: "
                f"{shortened(node.value)}.",
            )
        try:
            return self.loader.construct_object(node)
        except (self.yaml.YAMLError, ValueError, OverflowError):
            self.refuse(node, f"{what} is {shortened(node.value)}, expected {expected}.")

    def text(self, node: Any, what: str) -> str:
        value = self.plain(node, what, "text")
        if not isinstance(value, str):
            self.refuse(
                node, f"{what} is {shortened(node.value)}, expected text: put it in quotes."
            )
        return value

    def choice(self, node: Any, what: str, choices: Type[Choice]) -> str:
        value = self.text(node, what)
        known = [each.value for each in choices]
        if value not in known:
            self.refuse(node, f"{what} is {value!r}, expected {', '.join(known)}.")
        return value

    def number(self, node: Any, what: str) -> Union[int, float]:
        value = self.plain(node, what, "a number")
        if isinstance(value, str) and node.style is None:
            # YAML 1.1 takes 1e-3 for text, for want of a dot.
            value = _float_of(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse(node, f"{what} is {shortened(node.value)}, expected a number.")
        return value

    def whole(self, node: Any, what: str) -> int:
        value = self.plain(node, what, "a whole number")
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(node, f"{what} is {shortened(node.value)}, expected a whole number.")
        return value

    def yes_or_no(self, node: Any, what: str) -> bool:
        value = self.plain(node, what, "true or false")
        if not isinstance(value, bool):
            self.refuse(node, f"{what} is {shortened(node.value)}, expected true or false.")
        return value

    def is_null(self, node: Any) -> bool:
        return isinstance(node, self.yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


_STRING = "tag:yaml.org,2002:str"
_TEXT = 1000
"""Characters of one text: more than any selector has."""

_NUMBER = 40
"""Characters of one number, or of anything else that is no text."""


def shortened(text: str) -> str:
    """A text for a message: in quotes, and no longer than a line."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


_PLAIN = ("str", "int", "float", "bool", "null", "seq", "map", "timestamp")


def _float_of(text: str) -> Optional[float]:
    try:
        return float(text)
    except ValueError:
        return None
