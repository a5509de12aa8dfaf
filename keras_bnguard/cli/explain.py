"""`bnguard explain CODE`: the doc of one rule."""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from typing import List, Optional, Type

from keras_bnguard.rules import ALL_RULES, Rule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("code", metavar="CODE", help="a code such as BNG201, or a rule's name")


def run(arguments: argparse.Namespace) -> int:
    rule = find(arguments.code)
    if rule is None:
        near = ", ".join(nearest(arguments.code))
        print(
            f"bnguard: {arguments.code!r} is no rule. Nearest: {near}. `bnguard rules` lists all.",
            file=sys.stderr,
        )
        return 2
    print(doc(rule))
    return 0


def find(wanted: str) -> Optional[Type[Rule]]:
    """The rule with that code or name, in any case."""
    plain = wanted.strip().lower()
    for rule in ALL_RULES:
        if plain in (rule.code.lower(), rule.name):
            return rule
    return None


def nearest(wanted: str, limit: int = 3) -> List[str]:
    """The codes most like what was typed: by code, then by name."""
    names = {rule.name: rule.code for rule in ALL_RULES}
    codes = [rule.code for rule in ALL_RULES]
    by_code = difflib.get_close_matches(wanted.upper(), codes, limit, 0.6)
    by_name = [names[name] for name in difflib.get_close_matches(wanted.lower(), names, limit, 0.4)]
    first = by_name if len(wanted) > len(codes[0]) else by_code
    return list(dict.fromkeys((*first, *by_code, *by_name, codes[0])))[:limit]


def doc(rule: Type[Rule]) -> str:
    """A rule's doc for a terminal."""
    traits = [rule.severity, "certain" if rule.certain else "not certain"]
    if rule.repairable:
        traits.append("BNGuard(fix=True) repairs it")
    lines = [f"{rule.code} {rule.name}", f"({', '.join(traits)})", "", rule.title()]
    for heading, text in rule.sections().items():
        lines += ["", f"{heading}:", textwrap.indent(text, "    ")]
    return "\n".join(lines)
