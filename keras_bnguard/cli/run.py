"""`bnguard run train.py args...`: run a script as Python would, and print what was found.

The script sees what it would see under `python train.py`: its own `__main__`, `sys.argv`,
`sys.path[0]`, working directory, stdin and exit code. What is found goes to stderr at the end.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import io
import sys
from typing import List, Optional, Tuple

from keras_bnguard.auto import AutoWarnings, collect_findings
from keras_bnguard.auto.options import add_options, option_name, project_settings, usage
from keras_bnguard.cli.children import Children
from keras_bnguard.cli.ending import Ending
from keras_bnguard.cli.parser import Parser
from keras_bnguard.cli.run_summary import fails
from keras_bnguard.cli.script import USAGE, CannotRun, Prepared, become, find_module, find_script
from keras_bnguard.cli.tracebacks import hide_our_frames
from keras_bnguard.errors import BNGuardError
from keras_bnguard.report.files import check_writable
from keras_bnguard.report.formats import PRINTED, TEXT, format_named
from keras_bnguard.settings import SETTINGS

PREFIX = "--"
KEYS = ("report", "select", "ignore", "every", "fail_on", "fix")
"""Settings that have an option."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        f"bnguard run {usage(PREFIX, KEYS)} [-q] [-v] [--no-children] "
        f"[--output-format {'|'.join(PRINTED)}] (train.py | -m module) [args...]"
    )
    add_options(parser.add_argument, PREFIX, KEYS)
    parser.add_argument("-q", "--quiet", action="store_true", help="do not print the findings")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the whole report")
    parser.add_argument(
        "--no-children", action="store_true", help="do not watch the Python processes it starts"
    )
    parser.add_argument("--output-format", choices=PRINTED, default=TEXT.name, help="on stderr")
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module, as python -m")
    parser.add_argument("command_line", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def split(argv: List[str]) -> Tuple[List[str], Optional[str], List[str]]:
    """Our own arguments, the module of `-m`, and the script with its arguments.

    What follows the script's name is the script's, also where it looks like one of ours.
    """
    valued = {option_name(PREFIX, key) for key in KEYS if SETTINGS[key].metavar}
    valued.add("--output-format")
    place = 0
    while place < len(argv):
        word = argv[place]
        if word == "-m":
            return argv[:place], "".join(argv[place + 1 : place + 2]), argv[place + 2 :]
        if word.startswith("-m") and not word.startswith("--"):
            return argv[:place], word[2:], argv[place + 1 :]
        if word == "--":
            return argv[:place], None, argv[place + 1 :]
        if not word.startswith("-"):
            return argv[:place], None, argv[place:]
        place += 2 if word in valued else 1
    return argv, None, []


def main(argv: List[str]) -> int:
    """The subcommand, with everything after the word `run`. Does not catch what is the script's."""
    parser = Parser(
        prog="bnguard run",
        description=__doc__,
        epilog=(
            "Exit code: that of the script; 1 where the script ends well and --fail-on matches a "
            "finding that was not repaired; 2 for wrong usage, and nothing is run."
        ),
    )
    add_arguments(parser)
    own, module, rest = split(argv)
    arguments = parser.parse_args(own)
    if module == "" or (module is None and not rest):
        parser.error("expected a script, or -m and a module")
    given = {key: getattr(arguments, key) for key in KEYS}
    try:
        settings = project_settings(given)
        if settings.report:
            check_writable(settings.report)
        prepared = find_module(module) if module is not None else find_script(rest[0])
    except BNGuardError as error:
        print(f"bnguard run: {error}", file=sys.stderr)
        return USAGE
    except CannotRun as error:
        print(error, file=sys.stderr)
        return error.code
    state = collect_findings(settings)
    # The first to be registered is the last to be called: after the script's own.
    form = None if arguments.quiet else format_named(arguments.output_format)
    children = None
    with contextlib.suppress(OSError):  # No place for temporary files: children go unwatched.
        children = None if arguments.no_children else Children(given)
    ending = Ending(state, form, full=arguments.verbose, children=children)
    atexit.register(_after, ending)
    ending.listen()
    become(prepared, rest[1:] if module is None else rest)
    return _run(prepared, state, ending)


def run(arguments: argparse.Namespace) -> int:
    """For the parser of all subcommands."""
    rest = list(arguments.command_line)
    return main((["-m", arguments.module] if arguments.module else []) + rest)


# ------------------------------------------------------------------------- run
def _run(prepared: Prepared, state: AutoWarnings, ending: Ending) -> int:
    names = sys.modules["__main__"].__dict__
    try:
        code = prepared.code
        if code is None:
            with io.open_code(names["__file__"]) as file:
                code = compile(file.read(), names["__file__"], "exec", dont_inherit=True)
        exec(code, names)
    except SystemExit as error:
        ending.finish()
        if error.code in (None, 0) and fails(state):
            raise SystemExit(1) from None
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            _INTERRUPTED.append(True)
        # Python itself prints it, ends the process and chooses the code; ours are not shown.
        hide_our_frames()
        with contextlib.suppress(BaseException):
            ending.finish()
        raise
    ending.finish()
    return int(fails(state))


def _after(ending: Ending) -> None:
    ending.exit()
    _still_interrupted()


def _still_interrupted() -> None:
    """Python ends by SIGINT (130 in a shell) where the last code it ran was left by Ctrl-C.
    Code for the report may have run since, so the exception is raised again."""
    if _INTERRUPTED:
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")


_INTERRUPTED: List[bool] = []
