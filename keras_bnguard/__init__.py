"""keras_bnguard: Keras callbacks and a training step that audit BatchNormalization layers.

Importing the package loads no framework and no NumPy: each public name is imported when it is
first used. Type checkers and editors see ordinary imports.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from keras_bnguard.advice.advise import advise as advise
    from keras_bnguard.auto import disable_warnings as disable_warnings
    from keras_bnguard.auto import enable_warnings as enable_warnings
    from keras_bnguard.data.mode_gap import mode_gap as mode_gap
    from keras_bnguard.errors import BNGuardError as BNGuardError
    from keras_bnguard.errors import BNGuardWarning as BNGuardWarning
    from keras_bnguard.errors import DataError as DataError
    from keras_bnguard.errors import FindingError as FindingError
    from keras_bnguard.errors import InferenceNotForcedError as InferenceNotForcedError
    from keras_bnguard.errors import MissingExtraError as MissingExtraError
    from keras_bnguard.errors import MissingKerasError as MissingKerasError
    from keras_bnguard.errors import ScheduleError as ScheduleError
    from keras_bnguard.errors import SelectorError as SelectorError
    from keras_bnguard.errors import SettingError as SettingError
    from keras_bnguard.errors import UnsupportedModelError as UnsupportedModelError
    from keras_bnguard.features.precompute import precompute_features as precompute_features
    from keras_bnguard.guard.audit import audit as audit
    from keras_bnguard.guard.callback import BNGuard as BNGuard
    from keras_bnguard.inference.force_inference import force_inference as force_inference
    from keras_bnguard.inference.guarded_model import GuardedModel as GuardedModel
    from keras_bnguard.inference.train_step import GuardedTrainStep as GuardedTrainStep
    from keras_bnguard.phases.conditions.named import Plateau as Plateau
    from keras_bnguard.phases.conditions.named import Threshold as Threshold
    from keras_bnguard.phases.learning_rates import RelativeRate as RelativeRate
    from keras_bnguard.phases.phase import Phase as Phase
    from keras_bnguard.phases.scheduler import PhaseScheduler as PhaseScheduler
    from keras_bnguard.phases.train_selectors import LastBlocks as LastBlocks
    from keras_bnguard.phases.train_selectors import LastLayers as LastLayers
    from keras_bnguard.recalibration.callback import Recalibrate as Recalibrate
    from keras_bnguard.recalibration.recalibrate import recalibrate as recalibrate
    from keras_bnguard.records import Advice as Advice
    from keras_bnguard.records import Finding as Finding
    from keras_bnguard.records import Policy as Policy
    from keras_bnguard.report.report import Report as Report
    from keras_bnguard.report.statistics_plots import plot_drift as plot_drift
    from keras_bnguard.report.statistics_plots import plot_mode_gap as plot_mode_gap
    from keras_bnguard.report.statistics_plots import plot_recalibration as plot_recalibration

__version__ = "0.1.0"

# A public name stands in three places: here, in `__all__` and in the imports above.
# tests/unit/test_public_names.py names the place that was forgotten.
_MODULES = {
    "Advice": "records",
    "BNGuard": "guard.callback",
    "BNGuardError": "errors",
    "BNGuardWarning": "errors",
    "DataError": "errors",
    "Finding": "records",
    "FindingError": "errors",
    "InferenceNotForcedError": "errors",
    "GuardedModel": "inference.guarded_model",
    "GuardedTrainStep": "inference.train_step",
    "LastBlocks": "phases.train_selectors",
    "LastLayers": "phases.train_selectors",
    "MissingExtraError": "errors",
    "MissingKerasError": "errors",
    "Phase": "phases.phase",
    "PhaseScheduler": "phases.scheduler",
    "Plateau": "phases.conditions.named",
    "Policy": "records",
    "Recalibrate": "recalibration.callback",
    "RelativeRate": "phases.learning_rates",
    "Report": "report.report",
    "ScheduleError": "errors",
    "SelectorError": "errors",
    "SettingError": "errors",
    "Threshold": "phases.conditions.named",
    "UnsupportedModelError": "errors",
    "advise": "advice.advise",
    "audit": "guard.audit",
    "disable_warnings": "auto",
    "enable_warnings": "auto",
    "force_inference": "inference.force_inference",
    "mode_gap": "data.mode_gap",
    "plot_drift": "report.statistics_plots",
    "plot_mode_gap": "report.statistics_plots",
    "plot_recalibration": "report.statistics_plots",
    "precompute_features": "features.precompute",
    "recalibrate": "recalibration.recalibrate",
}
"""Public name -> the module below this package that defines it."""

__all__ = [
    "Advice",
    "BNGuard",
    "BNGuardError",
    "BNGuardWarning",
    "DataError",
    "Finding",
    "FindingError",
    "GuardedModel",
    "GuardedTrainStep",
    "InferenceNotForcedError",
    "LastBlocks",
    "LastLayers",
    "MissingExtraError",
    "MissingKerasError",
    "Phase",
    "PhaseScheduler",
    "Plateau",
    "Policy",
    "Recalibrate",
    "RelativeRate",
    "Report",
    "ScheduleError",
    "SelectorError",
    "SettingError",
    "Threshold",
    "UnsupportedModelError",
    "__version__",
    "advise",
    "audit",
    "disable_warnings",
    "enable_warnings",
    "force_inference",
    "mode_gap",
    "plot_drift",
    "plot_mode_gap",
    "plot_recalibration",
    "precompute_features",
    "recalibrate",
]

if not TYPE_CHECKING:  # A type checker must see an unknown name as an error.

    def __getattr__(name: str) -> Any:
        module = _MODULES.get(name)
        if module is None:
            raise AttributeError(f"module 'keras_bnguard' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"keras_bnguard.{module}"), name)
        # `GuardedModel` depends on the Keras that is imported at the time of use.
        if name != "GuardedModel":
            globals()[name] = value
        return value


def __dir__() -> List[str]:
    return sorted(__all__)
