"""`bnguard explain CODE`: the doc of one rule."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
import textwrap
from typing import List, Optional, Type

from keras_bnguard.cli.rules import facts
from keras_bnguard.rules import ALL_RULES, Rule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("code", metavar="CODE", help="a code such as BNG201, or a rule's name")
    parser.add_argument("--output-format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    rule = find(arguments.code)
    if rule is None:
        near = ", ".join(f"{near.code} {near.name}" for near in nearest(arguments.code))
        print(
            f"bnguard: {arguments.code!r} is no rule. Nearest: {near}. `bnguard rules` lists all.",
            file=sys.stderr,
        )
        return 2
    print(as_json(rule) if arguments.output_format == "json" else doc(rule))
    return 0


def find(wanted: str) -> Optional[Type[Rule]]:
    """The rule with that code or name, in any case."""
    plain = wanted.strip().lower()
    for rule in ALL_RULES:
        if plain in (rule.code.lower(), rule.name):
            return rule
    return None


def nearest(wanted: str, limit: int = 3) -> List[Type[Rule]]:
    """The rules most like what was typed: by code, by a part of the name, by likeness."""
    plain = wanted.strip().lower()
    digits = sorted(re.findall(r"\d", plain))

    def likeness(rule: Type[Rule]) -> float:
        code = rule.code.lower()
        if plain and (code.startswith(plain) or plain in rule.name):
            return 2.0
        shared = next((i for i, (a, b) in enumerate(zip(plain, code)) if a != b), 6) / 6
        swapped = bool(digits) and digits == sorted(code[3:])  # Digits in the wrong order.
        ratios = (difflib.SequenceMatcher(None, plain, name).ratio() for name in (code, rule.name))
        return max(ratios) + (shared + swapped) / 3

    return sorted(ALL_RULES, key=lambda rule: (-likeness(rule), rule.code))[:limit]


def doc(rule: Type[Rule]) -> str:
    """A rule's doc for a terminal."""
    traits = [rule.severity, "certain" if rule.certain else "not certain"]
    if rule.repair is not None:
        traits.append("BNGuard(fix=True) repairs it")
    lines = [f"{rule.code} {rule.name}", f"({', '.join(traits)})", "", rule.title()]
    for heading, text in rule.sections().items():
        lines += ["", f"{heading}:", textwrap.indent(text, "    ")]
    return "\n".join(lines)


def as_json(rule: Type[Rule]) -> str:
    """A rule's doc as a JSON object: what `bnguard rules` prints, and its sections."""
    return json.dumps({**facts(rule), "sections": dict(rule.sections())}, indent=2)
