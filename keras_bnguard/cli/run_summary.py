"""What `bnguard run` prints at the end: the findings to stderr, the report to its file."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, List, Optional, Sequence

from keras_bnguard.auto.failing import failing
from keras_bnguard.backends.processes.voice import speaks
from keras_bnguard.errors import BNGuardError
from keras_bnguard.report.files import not_written
from keras_bnguard.report.formats import Format

if TYPE_CHECKING:  # The script has not loaded NumPy yet, and may never do.
    from keras_bnguard.auto import AutoWarnings
    from keras_bnguard.report.report import Report


def fails(state: AutoWarnings) -> bool:
    """Whether `--fail-on` matches a finding that was not repaired; a fork never fails by it."""
    if state.settings.fail_on is None or state.is_forked:
        return False
    return bool(failing(state.all_runs().report().findings, state.settings.fail_on))


def print_summary(
    state: AutoWarnings,
    form: Optional[Format],
    unfinished: bool = False,
    full: bool = False,
    children: Optional[int] = None,
) -> None:
    """Print the findings, and write the report where one is asked for. Never raises.

    Each is done whatever becomes of the other. Of several processes that train together, as
    torchrun starts them, the chief alone does it.

    Args:
        state: the automatic warnings of this process.
        form: the format to print in, None to print nothing.
        unfinished: whether a `fit` may be running. Defaults to False.
        full: whether to print the whole report. Defaults to False: a summary.
        children: how many Python processes were started below this one, None where they were not
            watched.
    """
    if not speaks():
        return
    if not _is_empty(state):
        runs = state.all_runs(unfinished)
        unseen = (*state.unseen, TERMINATED) if unfinished else state.unseen
        if not runs.count:
            unseen = (*unseen, _nothing_seen(children))
        report = runs.report(unseen)
        written = _write(report, state.settings.report)
        if form is not None:
            with contextlib.suppress(*CANNOT_PRINT):
                last = [*last_lines(state, report, unseen), *written]
                if full:
                    form.print(report, sys.stderr)
                    for line in last:
                        form.note(line, sys.stderr)
                else:
                    form.print_summary(report, runs.count, last, sys.stderr)
    elif form is not None:
        with contextlib.suppress(*CANNOT_PRINT):
            form.note(f"keras_bnguard: {_nothing_seen(children)}", sys.stderr)


TERMINATED = "the end of a run that was going on: the process was ended by a signal"
"""What could not be seen where SIGTERM ended the process."""
CANNOT_PRINT = (OSError, ValueError, RuntimeError, AttributeError)
"""What printing raises where stderr is closed, None, or in use by what a signal interrupted."""


def _nothing_seen(children: Optional[int]) -> str:
    """The line about a run in which nothing was watched."""
    if children is None:
        where = "this process; those it started were not watched"
    elif children:
        where = f"this process and in {children} Python processes that it started"
    else:
        where = "this process"
    return (
        f"no training was seen in {where}. Where another program starts the training, put the "
        "guard there: torchrun ... -m keras_bnguard run train.py"
    )


def _is_empty(state: AutoWarnings) -> bool:
    seen = state.reports() or state.unseen or state.faults
    return not (seen or state.settings.report)


def _write(report: Report, path: Optional[str]) -> List[str]:
    """Write the report where one is asked for; a line about where it is."""
    if not path:
        return []
    problem = ""
    try:
        report.save(path)
    except OSError as error:
        problem = not_written(path, error)
    except BNGuardError as error:
        problem = str(error)
    if problem:
        with contextlib.suppress(*CANNOT_PRINT):
            print(f"bnguard run: {problem}", file=sys.stderr)
    return [] if problem else [f"report written to {path}"]


def last_lines(state: AutoWarnings, report: Report, unseen: Sequence[str]) -> List[str]:
    """What can be repaired and how, what could not be seen, and an internal error."""
    from keras_bnguard.rules import ALL_RULES

    repairable = {rule.code for rule in ALL_RULES if rule.repair is not None}
    codes = sorted({f.code for f in report.findings if f.repaired is None} & repairable)
    lines = []
    if codes and not state.settings.fix:
        lines.append(f"without an edit: bnguard run --fix ... repairs {', '.join(codes)} in fit")
    lines += [f"not seen: {line}" for line in unseen]
    lines += ["keras_bnguard failed: " + fault.strip() for fault in state.faults[:1]]
    return lines
