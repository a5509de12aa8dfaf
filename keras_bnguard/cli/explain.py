"""`bnguard explain CODE`: the doc of one rule."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
import textwrap
from typing import List, Sequence, Type

from keras_bnguard.cli.rules import facts
from keras_bnguard.rules import ALL_RULES, Rule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "codes",
        metavar="CODE",
        nargs="+",
        help="a code such as BNG201 or 201, a prefix such as BNG2, or a rule's name",
    )
    parser.add_argument("--output-format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    rules: List[Type[Rule]] = []
    for wanted in arguments.codes:
        found = find(wanted)
        if not found:
            near = ", ".join(f"{near.code} {near.name}" for near in nearest(wanted))
            print(
                f"bnguard: {wanted!r} is no rule. Nearest: {near}. `bnguard rules` lists all.",
                file=sys.stderr,
            )
            return 2
        rules += [rule for rule in found if rule not in rules]
    if arguments.output_format == "json":
        print(as_json(rules[0]) if len(rules) == 1 else as_json_list(rules))
    else:
        print("\n\n\n".join(map(doc, rules)))
    return 0


def find(wanted: str) -> List[Type[Rule]]:
    """The rules with that code, number, prefix of a code, or name, in any case."""
    plain = wanted.strip().strip(",").lower()
    code = f"bng{plain}" if re.fullmatch("[1-9][0-9]{0,2}", plain) else plain
    exact = [rule for rule in ALL_RULES if code == rule.code.lower() or plain == rule.name]
    if exact or not re.fullmatch("bng[1-9][0-9]?", code):
        return exact
    return [rule for rule in ALL_RULES if rule.code.lower().startswith(code)]


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


def as_json_list(rules: Sequence[Type[Rule]]) -> str:
    """The docs of several rules as a JSON list."""
    return json.dumps([json.loads(as_json(rule)) for rule in rules], indent=2)


def as_json(rule: Type[Rule]) -> str:
    """A rule's doc as a JSON object: what `bnguard rules` prints, and its sections."""
    return json.dumps({**facts(rule), "sections": dict(rule.sections())}, indent=2)
