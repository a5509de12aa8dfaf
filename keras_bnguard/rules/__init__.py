"""All rules, in code order. A rule is one file in this folder and one line here."""

from __future__ import annotations

from typing import Dict, Tuple, Type

from keras_bnguard.rules.base import Rule
from keras_bnguard.rules.bng101_trainable_changed_after_compile import TrainableChangedAfterCompile
from keras_bnguard.rules.bng102_trainable_batchnorm_under_frozen_parent import (
    TrainableBatchnormUnderFrozenParent,
)
from keras_bnguard.rules.bng103_trainable_batchnorm_among_frozen_layers import (
    TrainableBatchnormAmongFrozenLayers,
)
from keras_bnguard.rules.bng104_pretrained_batchnorm_unfrozen import PretrainedBatchnormUnfrozen
from keras_bnguard.rules.bng105_frozen_batchnorm_uses_batch_statistics import (
    FrozenBatchnormUsesBatchStatistics,
)
from keras_bnguard.rules.bng106_batchnorm_shared_by_compiled_models import (
    BatchnormSharedByCompiledModels,
)
from keras_bnguard.rules.bng107_block_cut_in_half import BlockCutInHalf
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
from keras_bnguard.rules.bng207_batchnorm_inside_time_distributed import (
    BatchnormInsideTimeDistributed,
)
from keras_bnguard.rules.bng208_mask_does_not_reach_batchnorm import MaskDoesNotReachBatchnorm
from keras_bnguard.rules.bng209_batchnorm_called_on_several_inputs import (
    BatchnormCalledOnSeveralInputs,
)
from keras_bnguard.rules.bng301_momentum_too_slow_for_run import MomentumTooSlowForRun
from keras_bnguard.rules.bng302_momentum_or_epsilon_out_of_range import MomentumOrEpsilonOutOfRange
from keras_bnguard.rules.bng303_wrong_axis import WrongAxis
from keras_bnguard.rules.bng304_half_precision_statistics import HalfPrecisionStatistics
from keras_bnguard.rules.bng305_renorm import Renorm
from keras_bnguard.rules.bng401_statistics_never_loaded import StatisticsNeverLoaded
from keras_bnguard.rules.bng402_non_finite_statistics import NonFiniteStatistics
from keras_bnguard.rules.bng403_dead_or_negative_variance import DeadOrNegativeVariance
from keras_bnguard.rules.bng404_frozen_statistics_updated import FrozenStatisticsUpdated
from keras_bnguard.rules.bng405_trainable_statistics_unchanged import TrainableStatisticsUnchanged
from keras_bnguard.rules.bng406_statistics_drifted import StatisticsDrifted
from keras_bnguard.rules.bng407_statistics_still_converging import StatisticsStillConverging
from keras_bnguard.rules.bng501_input_scale_mismatch import InputScaleMismatch
from keras_bnguard.rules.bng502_batch_too_small import BatchTooSmall
from keras_bnguard.rules.bng503_tiny_last_batch import TinyLastBatch
from keras_bnguard.rules.bng504_domain_shift import DomainShift
from keras_bnguard.rules.bng505_batches_not_shuffled import BatchesNotShuffled
from keras_bnguard.rules.bng506_train_inference_gap import TrainInferenceGap
from keras_bnguard.rules.bng507_output_depends_on_batch import OutputDependsOnBatch
from keras_bnguard.rules.bng601_optimizer_does_not_know_variable import OptimizerDoesNotKnowVariable
from keras_bnguard.rules.bng602_weight_decay_on_batchnorm import WeightDecayOnBatchnorm
from keras_bnguard.rules.bng603_averaged_weights_stale_statistics import (
    AveragedWeightsStaleStatistics,
)
from keras_bnguard.rules.bng604_gradient_accumulation import GradientAccumulation
from keras_bnguard.rules.bng605_learning_rate_schedule_conflict import LearningRateScheduleConflict
from keras_bnguard.rules.bng606_fine_tuning_rate_too_high import FineTuningRateTooHigh
from keras_bnguard.rules.bng607_recompiled_inside_fit import RecompiledInsideFit
from keras_bnguard.rules.bng608_phase_boundary_loss_spike import PhaseBoundaryLossSpike
from keras_bnguard.rules.bng701_per_replica_statistics import PerReplicaStatistics
from keras_bnguard.rules.bng702_hidden_batchnorm import HiddenBatchnorm
from keras_bnguard.rules.bng703_steps_per_execution_hides_batches import (
    StepsPerExecutionHidesBatches,
)
from keras_bnguard.rules.bng704_variance_convention_changed import VarianceConventionChanged

ALL_RULES: Tuple[Type[Rule], ...] = (
    TrainableChangedAfterCompile,
    TrainableBatchnormUnderFrozenParent,
    TrainableBatchnormAmongFrozenLayers,
    PretrainedBatchnormUnfrozen,
    FrozenBatchnormUsesBatchStatistics,
    BatchnormSharedByCompiledModels,
    BlockCutInHalf,
    TrainingFalseIgnored,
    TrainingTrueHardWired,
    TrainingFlagLeaksToLaterLayers,
    AugmentationSwitchesBatchnormToTraining,
    SubclassDropsTraining,
    TrainStepRunsInference,
    BatchnormInsideTimeDistributed,
    MaskDoesNotReachBatchnorm,
    BatchnormCalledOnSeveralInputs,
    MomentumTooSlowForRun,
    MomentumOrEpsilonOutOfRange,
    WrongAxis,
    HalfPrecisionStatistics,
    Renorm,
    StatisticsNeverLoaded,
    NonFiniteStatistics,
    DeadOrNegativeVariance,
    FrozenStatisticsUpdated,
    TrainableStatisticsUnchanged,
    StatisticsDrifted,
    StatisticsStillConverging,
    InputScaleMismatch,
    BatchTooSmall,
    TinyLastBatch,
    DomainShift,
    BatchesNotShuffled,
    TrainInferenceGap,
    OutputDependsOnBatch,
    OptimizerDoesNotKnowVariable,
    WeightDecayOnBatchnorm,
    AveragedWeightsStaleStatistics,
    GradientAccumulation,
    LearningRateScheduleConflict,
    FineTuningRateTooHigh,
    RecompiledInsideFit,
    PhaseBoundaryLossSpike,
    PerReplicaStatistics,
    HiddenBatchnorm,
    StepsPerExecutionHidesBatches,
    VarianceConventionChanged,
)

BY_CODE: Dict[str, Type[Rule]] = {rule.code: rule for rule in ALL_RULES}

__all__ = ["ALL_RULES", "BY_CODE", "Rule"]
