"""All rules, in code order. A rule is one file in this folder and one line here."""

from __future__ import annotations

from typing import Dict, Tuple, Type

from keras_bnguard.rules.base import Hit, Rule
from keras_bnguard.rules.bng201_training_false_ignored import TrainingFalseIgnored

ALL_RULES: Tuple[Type[Rule], ...] = (TrainingFalseIgnored,)

BY_CODE: Dict[str, Type[Rule]] = {rule.code: rule for rule in ALL_RULES}

__all__ = ["ALL_RULES", "BY_CODE", "Hit", "Rule"]
