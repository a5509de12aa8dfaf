"""The command line: one file a subcommand, each with `add_arguments` and `run`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Optional, Sequence

from keras_bnguard.cli.parser import Parser
from keras_bnguard.errors import BNGuardError

USAGE = 2

SUBCOMMANDS = {
    "demo": "train on real digits and show what happens to BatchNormalization",
    "rules": "list every rule",
    "explain": "print what one rule checks, why, and what to do",
    "run": "run a training script unchanged and print what was found",
    "audit": "audit the BatchNormalization layers of a saved model",
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a subcommand.

    Args:
        argv: the arguments after the program's name; those of the process where None.

    Returns:
        0 when all is well, 1 for findings, 2 for what cannot be done: wrong arguments, as
        argparse does, a file that cannot be read, or a package that is not installed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["run"]:
        # Before anything else is loaded or set: what follows belongs to the script.
        from keras_bnguard.cli import run

        return run.main(words[1:])
    # A framework writes pages to stderr while it loads; set this variable to see them.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    module = importlib.import_module(f"keras_bnguard.cli.{arguments.command}")
    try:
        return int(module.run(arguments))
    except BNGuardError as error:
        from keras_bnguard.report.grouping import one_line

        print(f"bnguard: {one_line(error)}", file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    from keras_bnguard.cli.installed import version  # It reads metadata; `run` does without.

    parser = Parser(
        prog="bnguard",
        description="Audits and monitors the BatchNormalization layers of Keras models.",
        epilog=(
            "Exit codes: 0 all is well, 1 findings of audit, 2 wrong usage or an unreadable file. "
            "`bnguard run` ends with the exit code of the script, or with 1 where --fail-on "
            "matches a finding."
        ),
    )
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, what in SUBCOMMANDS.items():
        module = importlib.import_module(f"keras_bnguard.cli.{name}")
        module.add_arguments(commands.add_parser(name, help=what, description=what))
    return parser
