"""All rules, in code order. A rule is one file in this folder and one line here."""

from __future__ import annotations

from typing import Dict, Tuple, Type

from keras_bnguard.rules.base import Hit, Rule
from keras_bnguard.rules.bng101_trainable_changed_after_compile import TrainableChangedAfterCompile
from keras_bnguard.rules.bng102_live_batchnorm_under_frozen_parent import (
    LiveBatchnormUnderFrozenParent,
)
from keras_bnguard.rules.bng103_live_batchnorm_among_frozen_layers import (
    LiveBatchnormAmongFrozenLayers,
)
from keras_bnguard.rules.bng104_pretrained_batchnorm_thawed import PretrainedBatchnormThawed
from keras_bnguard.rules.bng105_frozen_batchnorm_uses_batch_statistics import (
    FrozenBatchnormUsesBatchStatistics,
)
from keras_bnguard.rules.bng106_batchnorm_shared_by_compiled_models import (
    BatchnormSharedByCompiledModels,
)
from keras_bnguard.rules.bng201_training_false_ignored import TrainingFalseIgnored
from keras_bnguard.rules.bng202_training_true_hard_wired import TrainingTrueHardWired
from keras_bnguard.rules.bng203_training_flag_leaks_to_later_layers import (
    TrainingFlagLeaksToLaterLayers,
)
from keras_bnguard.rules.bng204_augmentation_switches_batchnorm_to_training import (
    AugmentationSwitchesBatchnormToTraining,
)
from keras_bnguard.rules.bng205_subclass_drops_training import SubclassDropsTraining
from keras_bnguard.rules.bng206_train_step_runs_inference import TrainStepRunsInference
from keras_bnguard.rules.bng401_statistics_never_loaded import StatisticsNeverLoaded
from keras_bnguard.rules.bng402_non_finite_statistics import NonFiniteStatistics
from keras_bnguard.rules.bng403_dead_or_negative_variance import DeadOrNegativeVariance
from keras_bnguard.rules.bng404_frozen_statistics_moved import FrozenStatisticsMoved
from keras_bnguard.rules.bng405_live_statistics_stuck import LiveStatisticsStuck
from keras_bnguard.rules.bng406_statistics_drifted import StatisticsDrifted
from keras_bnguard.rules.bng601_optimizer_does_not_know_variable import OptimizerDoesNotKnowVariable
from keras_bnguard.rules.bng603_averaged_weights_stale_statistics import (
    AveragedWeightsStaleStatistics,
)
from keras_bnguard.rules.bng605_learning_rate_schedule_conflict import LearningRateScheduleConflict
from keras_bnguard.rules.bng606_fine_tuning_rate_too_high import FineTuningRateTooHigh
from keras_bnguard.rules.bng607_recompiled_inside_fit import RecompiledInsideFit
from keras_bnguard.rules.bng608_phase_boundary_loss_spike import PhaseBoundaryLossSpike
from keras_bnguard.rules.bng702_hidden_batchnorm import HiddenBatchnorm

ALL_RULES: Tuple[Type[Rule], ...] = (
    TrainableChangedAfterCompile,
    LiveBatchnormUnderFrozenParent,
    LiveBatchnormAmongFrozenLayers,
    PretrainedBatchnormThawed,
    FrozenBatchnormUsesBatchStatistics,
    BatchnormSharedByCompiledModels,
    TrainingFalseIgnored,
    TrainingTrueHardWired,
    TrainingFlagLeaksToLaterLayers,
    AugmentationSwitchesBatchnormToTraining,
    SubclassDropsTraining,
    TrainStepRunsInference,
    StatisticsNeverLoaded,
    NonFiniteStatistics,
    DeadOrNegativeVariance,
    FrozenStatisticsMoved,
    LiveStatisticsStuck,
    StatisticsDrifted,
    OptimizerDoesNotKnowVariable,
    AveragedWeightsStaleStatistics,
    LearningRateScheduleConflict,
    FineTuningRateTooHigh,
    RecompiledInsideFit,
    PhaseBoundaryLossSpike,
    HiddenBatchnorm,
)

BY_CODE: Dict[str, Type[Rule]] = {rule.code: rule for rule in ALL_RULES}

__all__ = ["ALL_RULES", "BY_CODE", "Hit", "Rule"]
