"""Facts in which every rule finds something.

No single run can have every fault: a rule that compares with the phase before is silent while
flags are pending. So there are three: a run full of faults, a run right after a phase boundary,
and a file that Keras 2 wrote, opened in Keras 3.
"""

from __future__ import annotations

from typing import Tuple

from keras_bnguard.records import (
    TRAIN_START,
    AssignedWeights,
    Averaging,
    BatchDependence,
    BlockFlags,
    Convolution,
    ExpectedMode,
    Facts,
    GraphContext,
    LostMask,
    NormBehaviour,
    NormKind,
    OutsideChange,
    RunMode,
    TimeSteps,
)
from tests.builders.facts import (
    adam,
    call,
    changed,
    ema_bias,
    facts,
    gap,
    labels,
    layer,
    norm,
    past,
    reached,
    run,
    sampled,
    shared,
    site,
    stack,
    stuck,
    trainable_change,
    training_default,
)

CONTEXT = GraphContext(
    axis=-1,
    convolution=Convolution("conv", 1, 4),
    lost_mask=LostMask("masking", "conv"),
    time_steps=TimeSteps("td", 4, True),
    call_sites=2,
    positions=1,
)
OF_TORCH = NormBehaviour(trainable_updates=True, frozen_updates=True, frozen_uses_batch=True)
DROPS = NormBehaviour(trainable_updates=False, frozen_updates=False, frozen_uses_batch=False)


def a_run_full_of_faults() -> Facts:
    return facts(
        norm("backbone/a", frozen_ancestors=("backbone",)),
        norm("backbone/b", trainable=False, at_default=True),
        norm(
            "wrapper/0",
            kind=NormKind.TORCH,
            trainable=False,
            wrapper="TorchModuleWrapper",
            behaviour=OF_TORCH,
        ),
        norm(
            "c",
            momentum=0.1,
            stats_dtype="float16",
            renorm=True,
            graph_context=CONTEXT,
            calls=(call(None, "", 5),),
        ),
        norm("dropping", class_name="MyBN", builtin=False, behaviour=DROPS),
        norm("told_false", calls=(call(False), call(True))),
        norm("few_values"),
        norm("still"),
        norm("back_at_start"),
        norm("moved_far"),
        norm("frozen_moved", trainable=False),
        # A BN for each rule that was just started: tools/new_rule.py adds it here.
        on=stack("k3-jax", graph_true_at_inference=True),
        replicas=2,
        functional=True,
        steps_per_execution=2,
        blocks=(BlockFlags("block", ("a",), ("b",)),),
        training_defaults=(training_default("crop", 0),),
        shared=(shared("c", True, False),),
        optimizer=adam(
            weight_decay=0.1,
            decayed=("c",),
            accumulation=2,
            learning_rate_is_schedule=True,
            learning_rate_writers=("ReduceLROnPlateau",),
            learning_rate=1.0,
        ),
        run=run(
            changed("frozen_moved", ExpectedMode.INFERENCE, dead_channels=1),
            changed("moved_far", distance=9.0),
            changed("backbone/a", nonfinite=("gamma",)),
            changed("c"),
            stuck("still", ran=RunMode.INFERENCE),
            stuck("back_at_start", ran=RunMode.TRAINING),
            trainable_changes=(trainable_change("c"), trainable_change("d", set_for="gan")),
            unmoved=("d",),
            unmoved_steps=10,
            calls={
                "c": (site(False, leaked_from="a"), site(True)),
                "frozen_moved": (site(True),),
                "still": (site(False),),
                "back_at_start": (site(True),),
            },
            recompiled="epoch 1 end",
            ema_biases=(
                ema_bias("c", initial_weight=0.5, start_shift=3.0),
                ema_bias("moved_far", shift=3.0),
            ),
            averaging=Averaging("Adam(use_ema=True)", assigned=True, distance=0.5),
            assigned=AssignedWeights(TRAIN_START, ("c",), distance=0.5),
            ended=True,
            outside=OutsideChange({"c": 1.5}),
        ),
        fit_settings={"epochs": 1, "steps": 10, "batch_size": 32, "samples": 65},
        data=sampled(
            reached("backbone/a", variance_ratio=1e-6),
            reached("few_values", values_per_row=0.25),
            reached("back_at_start", values_per_row=0.1),
            reached("frozen_moved", mean_shift=3.0, container="other"),
            gap=gap(0.1, 2.0),
            batch_dependence=BatchDependence(difference=1.0),
        ),
    )


def a_run_after_a_phase_boundary() -> Facts:
    flags = [layer(f"base/conv{i}", i, trainable=False) for i in range(3)]
    unfrozen = [layer("base/conv0", 0), *flags[1:]]
    return facts(
        norm("base/bn", position=5),
        norm("base/bn2", position=6),
        layers=unfrozen,
        run=run(
            before=past(norm("base/bn", trainable=False), layers=flags, first_loss=2.0, loss=1.0),
            losses=(9.0,),
            phase_steps=10,
        ),
        optimizer=adam(learning_rate=1.0, adaptive=True, learning_rate_settled=True),
        data=sampled(labels=labels(single_class_batches=16, within_batch_variance_ratio=0.0)),
    )


def a_file_of_keras_2() -> Facts:
    flags = [layer(f"base/conv{i}", i, trainable=False) for i in range(3)]
    return facts(
        norm("base/bn", position=5, graph_context=GraphContext(positions=2)),
        layers=flags,
        saved_by="keras 2.15.0",
        optimizer=adam(unknown=("c/gamma",)),
    )


EVERYTHING_WRONG: Tuple[Facts, ...] = (
    a_run_full_of_faults(),
    a_run_after_a_phase_boundary(),
    a_file_of_keras_2(),
)
