"""keras_bnguard: the truth about every BatchNormalization layer, and a step that obeys it."""

from __future__ import annotations

import importlib
from typing import Any, List

__version__ = "0.1.0"

_NAMES = {
    "Advice": "records",
    "BNGuard": "callbacks.guard",
    "BNGuardError": "errors",
    "BNGuardWarning": "errors",
    "DataError": "errors",
    "Finding": "records",
    "FindingError": "errors",
    "GuardedTrainStep": "train_step",
    "MissingExtraError": "errors",
    "MissingKerasError": "errors",
    "Phase": "schedule",
    "PhaseScheduler": "callbacks.phases",
    "Plateau": "schedule",
    "Recalibrate": "callbacks.recalibrating",
    "Report": "records",
    "ScheduleError": "errors",
    "SelectorError": "errors",
    "SettingError": "errors",
    "Threshold": "schedule",
    "UnsupportedModelError": "errors",
    "advise": "advice",
    "audit": "auditing",
    "blocks": "schedule",
    "disable_warnings": "zero_touch",
    "enable_warnings": "zero_touch",
    "guard": "train_step",
    "hold_inference": "train_step",
    "last": "schedule",
    "mode_gap": "mode_gaps",
    "precompute_features": "features",
    "plot_drift": "report.statistics_plots",
    "plot_mode_gap": "report.statistics_plots",
    "plot_recalibration": "report.statistics_plots",
    "recalibrate": "recalibration",
    "times": "schedule",
    "unguard": "train_step",
}

__all__ = ["GuardedModel", "__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    """Resolve public names on first use, so that importing the package loads no framework."""
    if name == "GuardedModel":
        return importlib.import_module("keras_bnguard.guarded_model").guarded_model_class()
    module = _NAMES.get(name)
    if module is None:
        raise AttributeError(f"module 'keras_bnguard' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"keras_bnguard.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted(__all__)
