"""BNG701: each replica of a distributed model has BN statistics of its own."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, ReplicaStatistics, Severity, Stack
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import expects_inference
from keras_bnguard.rules.text import after_line, count, recalibrate_code, some


class PerReplicaStatistics(Rule):
    """Several replicas train, and trainable BN uses the share of each alone.

    What it checks:
        Trainable BN without `synchronized=True` in a model with more than one replica.

    Why it matters:
        A batch of 64 on eight devices is a batch of 8 for BN. What is stored in the end is
        no statistic of the whole batch: Keras 2 averages the variances of the shares and loses
        what lies between them, Keras 3 on TensorFlow keeps those of the first replica alone.

    How it decides:
        The number of replicas the model was built for, and the setting of each BN.

    Example:
        with tf.distribute.MirroredStrategy().scope():
            model = build()                      # BatchNormalization()

    Fix:
        `synchronized=True`, or frozen BN, or `bng.recalibrate` at the end.

    Known limits:
        Not certain: with large shares of shuffled data the statistics agree. Silent for
        synchronised and frozen BN, and with JAX, where one program sees the whole batch.

    Source:
        Measured with two replicas, one fed 0 and one fed 10 (true mean 5, variance 25): Keras 2
        stores 5 and 0, Keras 3 on TensorFlow 0 and 0, synchronised BN 5 and 25; tensorflow
        issues 7439 and 46488.
    """

    code = "BNG701"
    name = "per-replica-statistics"
    severity = Severity.WARNING
    certain = False

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        if inventory.replicas < 2:
            return
        violation = [n for n in inventory.norms if not n.synchronized and not expects_inference(n)]
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        yield Violation(
            layers=paths,
            message=(
                f"{inventory.replicas} replicas and {count(len(violation), 'trainable BN layer')} "
                f"without synchronized=True: {some(paths)}. Each uses 1/{inventory.replicas} of "
                f"the batch. {_stores(inventory.stack)}"
            ),
            fix=_fix(inventory),
            evidence={"replicas": inventory.replicas},
        )


def _stores(stack: Stack) -> str:
    if stack.replica_statistics is ReplicaStatistics.AVERAGED:
        return (
            f"{stack} stores the average of the replicas' means and variances, without the "
            "variance between replicas."
        )
    if stack.replica_statistics is ReplicaStatistics.FIRST_REPLICA:
        return f"{stack} stores the statistics of the first replica alone."
    return f"{stack} stores in each process what that process saw."


def _fix(inventory: Inventory) -> str:
    code = recalibrate_code(inventory)
    if inventory.stack.replica_statistics is ReplicaStatistics.PER_PROCESS:
        return (
            "freeze the BN, or take new statistics over the rows of all processes, in every "
            f"process, {after_line(inventory)}; each passes its part:\n{code}"
        )
    recompute = f"take new statistics over the data, {after_line(inventory)}:\n"
    return f"build the BN with synchronized=True, or {recompute}{code}"
