"""keras_bnguard: the truth about every BatchNormalization layer, and a step that obeys it."""

from __future__ import annotations

import importlib
from typing import Any, List

__version__ = "0.1.0"

_NAMES = {
    "Advice": "records",
    "BNGuard": "guard.callback",
    "BNGuardError": "errors",
    "BNGuardWarning": "errors",
    "DataError": "errors",
    "Finding": "records",
    "FindingError": "errors",
    "GuardedTrainStep": "inference.train_step",
    "MissingExtraError": "errors",
    "MissingKerasError": "errors",
    "Phase": "phases.phase",
    "PhaseScheduler": "phases.scheduler",
    "Plateau": "phases.phase",
    "Recalibrate": "recalibration.callback",
    "Report": "records",
    "ScheduleError": "errors",
    "SelectorError": "errors",
    "SettingError": "errors",
    "Threshold": "phases.phase",
    "UnsupportedModelError": "errors",
    "advise": "advice.advise",
    "audit": "guard.audit",
    "blocks": "phases.phase",
    "disable_warnings": "auto",
    "enable_warnings": "auto",
    "force_inference": "inference.force_inference",
    "last": "phases.phase",
    "mode_gap": "data.mode_gap",
    "precompute_features": "features.precompute",
    "plot_drift": "report.statistics_plots",
    "plot_mode_gap": "report.statistics_plots",
    "plot_recalibration": "report.statistics_plots",
    "recalibrate": "recalibration.recalibrate",
    "times": "phases.phase",
}

__all__ = ["GuardedModel", "__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    """Resolve public names on first use, so that importing the package loads no framework."""
    if name == "GuardedModel":
        return importlib.import_module(
            "keras_bnguard.inference.guarded_model"
        ).guarded_model_class()
    module = _NAMES.get(name)
    if module is None:
        raise AttributeError(f"module 'keras_bnguard' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"keras_bnguard.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted(__all__)
