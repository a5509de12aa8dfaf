"""The Keras a model belongs to, and what its self-test and its BN classes did."""

from __future__ import annotations

from dataclasses import dataclass

from keras_bnguard.records.enums import TextEnum


class FlagTiming(TextEnum):
    """Which `trainable` flags a training step follows.

    COMPILE: those at `compile()`.
    FIRST_STEP: those at the first step after it.
    POSITIONAL: those at the first step; a later change makes a step raise or mixes weights up.
    IMMEDIATE: those of the moment.
    """

    COMPILE = "compile"
    FIRST_STEP = "first step"
    POSITIONAL = "positional"
    IMMEDIATE = "immediate"


class ReplicaStatistics(TextEnum):
    """What is stored of the moving statistics of several replicas of a BN."""

    AVERAGED = "averaged"
    FIRST_REPLICA = "first replica"
    PER_PROCESS = "per process"


@dataclass(frozen=True)
class Behaviour:
    """What the running Keras does with `training` and `trainable`, as its self-test measured.

    Attributes:
        graph_false_honoured: `layer(x, training=False)` in a functional graph counts in `fit`.
        graph_true_at_inference: `layer(x, training=True)` in a functional graph counts in
            `predict`.
        false_leaks_in_graph: that False also reaches later layers of the functional graph.
        false_leaks_in_call: an explicit False in a subclassed `call` reaches layers called
            after it.
        default_leaks: a layer whose `call` defaults to `training=True` switches layers after it.
        setter_skips_equal: setting a container's `trainable` to the value it already has does
            not reach its children.
    """

    graph_false_honoured: bool
    graph_true_at_inference: bool
    false_leaks_in_graph: bool
    false_leaks_in_call: bool
    default_leaks: bool
    setter_skips_equal: bool


@dataclass(frozen=True)
class Stack:
    """The Keras a model belongs to.

    Attributes:
        name: the name of the stack, for settings of tests and reports.
        package: the import name of the Keras.
        version: its version.
        backend: what computes.
        flags: which `trainable` flags a training step follows.
        behaviour: what its self-test found.
        replica_statistics: what is stored where several replicas train.
    """

    name: str
    package: str
    version: str
    backend: str
    flags: FlagTiming
    behaviour: Behaviour
    replica_statistics: ReplicaStatistics = ReplicaStatistics.FIRST_REPLICA

    @property
    def keras_major(self) -> int:
        """2 for `tf.keras` and `tf_keras`, 3 for Keras 3."""
        return int(self.version.partition(".")[0])

    def __str__(self) -> str:
        return f"{self.package} {self.version} on {self.backend}"


@dataclass(frozen=True)
class NormBehaviour:
    """What one BN class did when a fresh layer of it was called on two small batches.

    Attributes:
        trainable_updates: trainable and `training=True`: the moving statistics changed.
        frozen_updates: not trainable and `training=True`: the moving statistics changed.
        frozen_uses_batch: not trainable and `training=True`: the output differs from that in
            inference mode.
    """

    trainable_updates: bool
    frozen_updates: bool
    frozen_uses_batch: bool


BUILTIN = NormBehaviour(trainable_updates=True, frozen_updates=False, frozen_uses_batch=False)
