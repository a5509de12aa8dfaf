"""A parser of arguments that names the nearest word where one is mistyped."""

from __future__ import annotations

import argparse
import re
from typing import Any, List, NoReturn


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser`, with "did you mean" for commands and options."""

    def error(self, message: str) -> NoReturn:
        near = self._nearest(message)
        super().error(f"{message}. Did you mean {near}?" if near else message)

    def _nearest(self, message: str) -> str:
        """The word that was meant, "" where none is near."""
        typed = re.search(r"invalid choice: '([^']*)'", message)
        if typed is not None:
            return _near(typed[1], self._choices())
        typed = re.search(r"unrecognized arguments: (--?[^ =]+)", message)
        return _near(typed[1], self._options()) if typed is not None else ""

    def _choices(self) -> List[str]:
        return [str(c) for action in self._actions for c in action.choices or ()]

    def _options(self) -> List[str]:
        """Options of this parser and of its subcommands."""
        found = [option for action in self._actions for option in action.option_strings]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name in action.choices:
                    parser: Any = action.choices[name]
                    found += parser._option_string_actions
        return found


def _near(typed: str, words: List[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(typed, words, n=1, cutoff=0.6)), "")
