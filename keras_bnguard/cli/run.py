"""`bnguard run train.py args...`: run a script as Python would, and say what was found.

The script sees what it would see under `python train.py`: its own `__main__`, `sys.argv`,
`sys.path[0]`, working directory, stdin and exit code. What is found goes to stderr at the end.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib.machinery
import io
import os
import sys
import types
from typing import Any, Dict, List, Optional, Tuple

from keras_bnguard.errors import BNGuardError

OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "bnguard run [--report FILE] [--select CODES] [--ignore CODES] [--every N] "
        "[--fail-on error|warning] [--fix] [--quiet] (train.py | -m module) [args...]"
    )
    parser.add_argument("--report", metavar="FILE", help="write .html, .json, .sarif or .txt")
    parser.add_argument("--select", metavar="CODES", help="rules to run: BNG2,BNG401 or ALL")
    parser.add_argument("--ignore", metavar="CODES", help="BNG404, or BNG404:siamese/*")
    parser.add_argument("--every", metavar="N", help="look each N batches, or 'epoch'")
    parser.add_argument("--fail-on", metavar="SEVERITY", help="exit with 1 on error, or warning")
    parser.add_argument("--fix", action="store_true", default=None, help="repair what is safe")
    parser.add_argument("--quiet", action="store_true", help="do not print the findings")
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module, as python -m")
    parser.add_argument("command_line", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def split(argv: List[str]) -> Tuple[List[str], Optional[str], List[str]]:
    """Our own arguments, the module of `-m`, and the script with its arguments.

    What follows the script's name is the script's, also where it looks like one of ours.
    """
    valued = {"--report", "--select", "--ignore", "--every", "--fail-on"}
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
    parser = argparse.ArgumentParser(prog="bnguard run", description=__doc__)
    add_arguments(parser)
    own, module, rest = split(argv)
    arguments = parser.parse_args(own)
    if module == "" or (module is None and not rest):
        parser.error("expected a script, or -m and a module")
    from keras_bnguard.settings import read_settings
    from keras_bnguard.zero_touch import _STATE

    try:
        keys = ("select", "ignore", "every", "fix", "fail_on", "report")
        settings = read_settings({key: getattr(arguments, key) for key in keys})
        prepared = _module(module) if module is not None else _script(rest[0])
    except BNGuardError as error:
        print(f"bnguard run: {error}", file=sys.stderr)
        return USAGE
    except _CannotRun as error:
        print(error, file=sys.stderr)
        return error.code
    _STATE.enable(settings, by_warning=False)
    # The first to be registered is the last to be called: after the script's own.
    atexit.register(_tell, _STATE, arguments.quiet)
    _become(prepared, rest[1:] if module is None else rest)
    return _run(prepared, _STATE)


def run(arguments: argparse.Namespace) -> int:
    """For the parser of all subcommands."""
    rest = list(arguments.command_line)
    return main((["-m", arguments.module] if arguments.module else []) + rest)


# ------------------------------------------------------------------- what to run
class _CannotRun(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class _Prepared:
    """How `__main__` will look. argv0: sys.argv[0]. path0: sys.path[0]."""

    def __init__(self, names: Dict[str, Any], argv0: str, path0: str) -> None:
        self.names = names
        self.argv0 = argv0
        self.path0 = path0
        self.code: Any = None


def _script(path: str) -> _Prepared:
    whole = os.path.abspath(path)
    if os.path.isdir(whole) or _is_zip(whole):
        return _folder(path, whole)
    if not os.path.isfile(whole):
        error = "[Errno 2] No such file or directory"
        raise _CannotRun(f"{sys.executable}: can't open file {whole!r}: {error}", USAGE)
    names = {
        "__doc__": None,
        "__package__": None,
        "__loader__": importlib.machinery.SourceFileLoader("__main__", whole),
        "__spec__": None,
        "__file__": whole,
        "__cached__": None,
    }
    return _Prepared(names, path, os.path.dirname(os.path.realpath(whole)))


def _folder(path: str, whole: str) -> _Prepared:
    """A folder or an archive with a `__main__.py` in it."""
    import runpy

    sys.path.insert(0, whole)
    try:
        _, spec, code = runpy._get_main_module_details()  # type: ignore[attr-defined]
    except ImportError as error:
        raise _CannotRun(f"{sys.executable}: {error}", 1) from None
    finally:
        sys.path.remove(whole)
    return _with_spec(spec, code, path, whole, package="")


def _module(name: str) -> _Prepared:
    import runpy

    here = os.getcwd()
    first, sys.path[:1] = sys.path[:1], [here]
    try:
        _, spec, code = runpy._get_module_details(name)  # type: ignore[attr-defined]
    except ImportError as error:
        raise _CannotRun(f"{sys.executable}: {error}", 1) from None
    finally:
        sys.path[:1] = first
    return _with_spec(spec, code, spec.origin, here, package=spec.parent)


def _with_spec(spec: Any, code: Any, argv0: str, path0: str, package: str) -> _Prepared:
    names = {
        "__doc__": None,
        "__package__": package,
        "__loader__": spec.loader,
        "__spec__": spec,
        "__file__": spec.origin,
        "__cached__": spec.cached,
    }
    prepared = _Prepared(names, argv0, path0)
    prepared.code = code
    return prepared


def _is_zip(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(4)
    if start[:2] == b"#!":
        import zipfile

        return zipfile.is_zipfile(path)
    return start == b"PK\x03\x04"


# ------------------------------------------------------------------------- run
def _become(prepared: _Prepared, arguments: List[str]) -> None:
    """Make this process look as if Python had been started with the script."""
    module = types.ModuleType("__main__")
    module.__dict__.update(prepared.names)
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    module.__dict__.setdefault("__annotations__", {})
    # Kept: a module nobody refers to is emptied, and this very code may live in it.
    _BEFORE.append(sys.modules["__main__"])
    sys.modules["__main__"] = module
    sys.argv[:] = [prepared.argv0, *arguments]
    if not getattr(sys.flags, "safe_path", False):
        sys.path[:1] = [prepared.path0]


_BEFORE: List[Any] = []


def _run(prepared: _Prepared, state: Any) -> int:
    names = sys.modules["__main__"].__dict__
    try:
        code = prepared.code
        if code is None:
            with io.open_code(names["__file__"]) as file:
                code = compile(file.read(), names["__file__"], "exec", dont_inherit=True)
        exec(code, names)
    except SystemExit as error:
        state.finish()
        if error.code in (None, 0) and _fails(state):
            raise SystemExit(1) from None
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            _INTERRUPTED.append(True)
        # Python itself prints it, ends the process and chooses the code; ours are not shown.
        _hide_our_frames()
        with contextlib.suppress(BaseException):
            state.finish()
        raise
    state.finish()
    return int(_fails(state))


def _still_interrupted() -> None:
    """Python ends by SIGINT (130 in a shell) where the last code it ran was left by Ctrl-C.
    What the report needs may have run since, so the same is said again."""
    if _INTERRUPTED:
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")


_INTERRUPTED: List[bool] = []


def _hide_our_frames() -> None:
    shown = sys.excepthook

    def excepthook(kind: Any, value: Any, trace: Any) -> None:
        with contextlib.suppress(Exception):
            seen: List[Any] = []
            _clean(value, seen)
            trace = value.__traceback__
        shown(kind, value, trace)

    sys.excepthook = excepthook


def _clean(error: Any, seen: List[Any]) -> None:
    """Take frames of this package, and what called it, out of an exception's traceback."""
    if error is None or any(error is other for other in seen):
        return
    seen.append(error)
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    ours = [_is_ours(each) for each in frames]
    outer = any(each.tb_frame.f_code.co_name == "_run" and mine for each, mine in zip(frames, ours))
    kept = []
    for each, mine in zip(frames, ours):
        if outer:
            outer = not (mine and each.tb_frame.f_code.co_name == "_run")
        elif not mine:
            kept.append(each)
    for each, after in zip(kept, [*kept[1:], None]):
        each.tb_next = after
    error.__traceback__ = kept[0] if kept else None
    _clean(error.__cause__, seen)
    _clean(error.__context__, seen)
    for inner in getattr(error, "exceptions", ()):
        _clean(inner, seen)


def _is_ours(trace: Any) -> bool:
    return bool(trace.tb_frame.f_code.co_filename.startswith(OURS))


# ----------------------------------------------------------------------- after
def _fails(state: Any) -> bool:
    wanted = state.settings.fail_on
    if wanted is None:
        return False
    bad = {"error"} if wanted == "error" else {"error", "warning"}
    return any(
        finding.severity in bad and finding.repaired is None
        for report in state.reports()
        for finding in report.findings
    )


def _tell(state: Any, quiet: bool) -> None:
    """At the very end: the findings to stderr, the report to its file."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        try:
            _report(state, quiet)
        except (OSError, BNGuardError) as error:
            print(f"bnguard run: {error}", file=sys.stderr)
    _still_interrupted()


def _report(state: Any, quiet: bool) -> None:
    if not (state.reports() or state.settings.report or state.faults):
        if not quiet:
            print("keras_bnguard: no training was seen in this process", file=sys.stderr)
        return
    from keras_bnguard.report.several import merged

    report = merged(state.reports())
    if state.settings.report:
        from keras_bnguard.report import write_report

        write_report(report, state.settings.report)
    if not quiet:
        print(summary(state, report), end="", file=sys.stderr)


def summary(state: Any, report: Any) -> str:
    """What `bnguard run` prints: the verdict, the findings, what could not be seen."""
    from keras_bnguard.report import text

    count = len(state.reports())
    lines = []
    if count:
        runs = "1 run" if count == 1 else f"{count} runs"
        lines = [f"keras_bnguard: {text.verdict(report)} ({runs}, model {report.model})"]
    for finding in report.findings:
        if finding.severity != "info":
            lines += ["", text.finding_text(finding)]
    lines += [f"not seen: {line}" for line in state.unseen]
    lines += ["keras_bnguard failed: " + fault.strip() for fault in state.faults[:1]]
    return "\n".join(lines) + "\n"
