"""Warnings in pipelines nobody edits: a guard in every `fit`, a monitor on every other loop.

`backends.global_hooks` replaces the functions of Keras; this package is framework-free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, List, Mapping, Optional, Sequence, Union

from keras_bnguard.arguments import short_traceback
from keras_bnguard.auto.auto_warnings import AutoWarnings
from keras_bnguard.auto.options import project_settings
from keras_bnguard.auto.run_log import ignore
from keras_bnguard.report.files import check_writable

if TYPE_CHECKING:  # The records load NumPy; that is left to the script.
    from keras_bnguard.records import Finding
    from keras_bnguard.report.report import Report
    from keras_bnguard.settings import Settings

__all__ = [
    "AutoWarnings",
    "collect_findings",
    "disable_warnings",
    "enable_warnings",
    "internal_errors",
    "reports",
]


@short_traceback
def enable_warnings(
    select: Union[str, Sequence[str], None] = None,
    ignore: Union[str, Sequence[str], Mapping[str, Union[str, Sequence[str]]], None] = None,
    every: Union[str, int, None] = None,
    fix: Optional[bool] = None,
    on_finding: Union[str, Callable[[Finding], Any], None] = None,
    report: Optional[str] = None,
) -> None:
    """Put a guard into every `fit` of every Keras, and monitor every other training loop.

    Works before or after Keras is imported, for tf.keras, tf_keras and Keras 3 at once.
    History, logs, progress bar, weights and random state of the runs stay what they were. A
    `fit` that has a `BNGuard` already gets no second one. Calling it again with other settings
    replaces them. A `BNGuardWarning` is given for each finding, once per model.

    An argument that is None is read from the environment variable BNGUARD, then from
    `[tool.bnguard]` in pyproject.toml, then from `[bnguard]` in setup.cfg. Where none of them
    has it, the default of the project counts.

    Args:
        select: rule codes or prefixes to run, "ALL" for the info rules too. Default of the
            project: all rules but info.
        ignore: rule codes or prefixes to ignore, `"BNG404:siamese/*"` in a layer only, or a
            mapping from a code to layer globs. Default of the project: nothing.
        every: "epoch", or the number of training batches between two checks. Default of the
            project: "epoch".
        fix: repair what is safe, for the length of each `fit`. Default of the project: False.
        on_finding: "warn" (`BNGuardWarning`), "raise" (`FindingError`), "log" (logger
            "keras_bnguard"), or a function of the `Finding`. Default of the project: "warn".
        report: path of a report to write when the process ends, as "report.html"; the ending
            chooses the format (docs/reports.md). Default of the project: no file.

    Raises:
        SettingError: a value, here or in one of the other places, that a setting cannot have; a
            report in a place that cannot be written.
        MissingExtraError: an HTML report without jinja2, or a `[tool.bnguard]` table that this
            Python cannot read.
    """
    given = {
        "select": select,
        "ignore": ignore,
        "every": every,
        "fix": fix,
        "on_finding": on_finding,
        "report": report,
    }
    chosen = project_settings(given)
    if chosen.report:
        check_writable(chosen.report)
    _STATE.enable(chosen, by_warning=True)


def collect_findings(
    settings: Settings, collected: Callable[[Report], None] = ignore
) -> AutoWarnings:
    """Do as `enable_warnings` does, for a program that prints the findings itself.

    A finding is a warning only where `settings.on_finding` asks for it.

    Args:
        settings: from `options.project_settings`.
        collected: gets each report of a run that has ended. Defaults to nothing.

    Returns:
        What the program reads: `finish()` checks every loop a last time, then `all_runs()`,
        `faults` and `unseen` are complete; `settings` are those that count.
    """
    _STATE.enable(settings, by_warning=False, collected=collected)
    return _STATE


def disable_warnings() -> None:
    """Restore the original Keras functions. Does nothing where warnings are off."""
    _STATE.disable()


def reports() -> List[Report]:
    """One report per model and `fit` (or loop) since warnings were enabled, in order.

    The newest 500; report files and `bnguard run` have the findings of all.
    """
    return _STATE.reports()


def internal_errors() -> List[str]:
    """The internal errors of this process, with their tracebacks; each was reported once."""
    return list(_STATE.faults)


_STATE = AutoWarnings()
"""The one of this process."""
