"""Hand a finding to the user: a warning, an exception, the log, or a function of theirs."""

from __future__ import annotations

import logging
from typing import Any, Callable, Union

from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.processes.voice import speaks
from keras_bnguard.errors import FindingError, SettingError
from keras_bnguard.records import Finding
from keras_bnguard.records.report import Severity
from keras_bnguard.report.text import finding_text

LOGGER = logging.getLogger("keras_bnguard")


class Emitter:
    """Does with a finding what `on_finding` asks for.

    Of several processes the chief alone warns and logs; an error is raised, and a function called,
    in each process that found something.

    Args:
        on_finding: "warn", "raise", "log" or a function of the finding.

    Raises:
        SettingError: anything else.
    """

    def __init__(self, on_finding: Union[str, Callable[[Finding], Any]]) -> None:
        is_word = isinstance(on_finding, str) and on_finding in ("warn", "raise", "log")
        # A model is a function too, and a likely slip: `fit` gives the guard its model.
        if not is_word and (not callable(on_finding) or hasattr(on_finding, "get_layer")):
            raise SettingError(
                f"on_finding={on_finding!r}: expected 'warn', 'raise', 'log' or a function "
                "that takes the finding."
            )
        self._how = on_finding

    def __call__(self, finding: Finding) -> None:
        if callable(self._how):
            self._how(finding)
            return
        about_training = finding.severity is not Severity.INFO
        if self._how == "raise" and about_training and finding.repaired is None:
            raise FindingError(finding_text(finding), finding)
        if not speaks():
            return
        if finding.severity is Severity.INFO:
            LOGGER.info(finding_text(finding))
        elif self._how == "log":
            level = logging.ERROR if finding.severity is Severity.ERROR else logging.WARNING
            LOGGER.log(level, finding_text(finding))
        else:
            warn_user(finding_text(finding))
