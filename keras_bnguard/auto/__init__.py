"""Warnings in pipelines nobody edits: a guard in every `fit`, a watch on every other loop.

What replaces functions of Keras is `backends.patches.global_hooks`; this part is framework-free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

from keras_bnguard.auto.switch import AutoWarnings
from keras_bnguard.settings import read_settings

if TYPE_CHECKING:  # Loading the records loads NumPy, before the script has asked for it.
    from keras_bnguard.records import Report

__all__ = ["AutoWarnings", "disable_warnings", "enable_warnings", "reports"]


def enable_warnings(**settings: Any) -> None:
    """Put a guard into every `fit` of every Keras, and watch every other training loop.

    Works before or after Keras is imported, for tf.keras, tf_keras and Keras 3 at once.
    History, logs, progress bar, weights and random state of the runs stay what they were. A
    `fit` that has a `BNGuard` already gets no second one. Calling it again with other settings
    replaces them. A `BNGuardWarning` is given for each finding, once per model.

    Args:
        select: rule codes or prefixes. ignore: codes, "BNG404:siamese/*", or a mapping from a
            code to layer globs. every: "epoch" or a number of batches. fix: repair what is
            safe. on_finding: "warn", "raise", "log" or a function. report: a file to write at
            exit. What is not given is read from the environment variable BNGUARD, then
            `[tool.bnguard]` in pyproject.toml, then `[bnguard]` in setup.cfg.

    Raises:
        SettingError: an unknown setting, or one with a value it cannot have.
    """
    _STATE.enable(read_settings(settings), by_warning=True)


def disable_warnings() -> None:
    """Take everything off again: each Keras has its very own functions back. Never raises
    where nothing was on."""
    _STATE.disable()


def reports() -> List[Report]:
    """One report per model and fit (or loop) since warnings were switched on, in order."""
    return _STATE.reports()


_STATE = AutoWarnings()
