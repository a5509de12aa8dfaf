"""`bnguard rules`: every rule, one line each."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import Any, Dict, Type

from keras_bnguard.records import FACT_DESCRIPTIONS
from keras_bnguard.rules import ALL_RULES, Rule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output-format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    print(as_json() if arguments.output_format == "json" else as_text())
    return 0


def facts(rule: Type[Rule]) -> Dict[str, Any]:
    """What is fixed about a rule, ready for JSON."""
    return {
        "code": rule.code,
        "name": rule.name,
        "severity": rule.severity,
        "needs": list(rule.needs()),
        "certain": rule.certain,
        "repairable": rule.repair is not None,
        "title": rule.title(),
    }


def as_json() -> str:
    """All rules with their title, as a JSON list."""
    return json.dumps([facts(rule) for rule in ALL_RULES], indent=2)


def as_text() -> str:
    """All rules as a table of at most 80 columns, and which facts they need besides the model."""
    width = max(len(rule.name) for rule in ALL_RULES)
    lines = [f"{'code':6}  {'name':{width}}  {'severity':8}  fix=True"]
    for rule in ALL_RULES:
        repairs = "repairs" if rule.repair is not None else ""
        lines.append(f"{rule.code}  {rule.name:{width}}  {rule.severity:8}  {repairs}".rstrip())
    for fact, words in FACT_DESCRIPTIONS.items():
        codes = [rule.code for rule in ALL_RULES if fact in rule.needs()]
        if codes and len(codes) < len(ALL_RULES) // 2:
            text = f"Need {words}: {', '.join(codes)}."
            lines += ["", *textwrap.wrap(text, 80, subsequent_indent="  ")]
    lines += ["", "bnguard explain CODE prints more."]
    return "\n".join(lines)
