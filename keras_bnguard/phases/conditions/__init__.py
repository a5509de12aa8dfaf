"""End conditions: what ends a phase before its epochs are over."""

from keras_bnguard.phases.conditions.base import EndCondition
from keras_bnguard.phases.conditions.function import FunctionCondition, Until, as_condition
from keras_bnguard.phases.conditions.named import CONDITIONS, Plateau, Threshold

__all__ = [
    "CONDITIONS",
    "EndCondition",
    "FunctionCondition",
    "Plateau",
    "Threshold",
    "Until",
    "as_condition",
]
