"""Which of several processes this one is: the one place that asks frameworks and launchers.

Nothing is imported: a framework that is not loaded is not asked, and its launcher has left
environment variables.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from enum import Enum
from typing import Any, Mapping, Optional, Tuple

from keras_bnguard.backends.known_stacks import JAX, TENSORFLOW, TORCH

HOROVOD = ("horovod.torch", "horovod.tensorflow", "horovod.keras", "horovod.tensorflow.keras")
"""Modules of Horovod, each with state of its own."""
_PAIRS = (
    ("RANK", "WORLD_SIZE"),
    ("HOROVOD_RANK", "HOROVOD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)
"""Environment variables of launchers: torchrun, horovodrun, mpirun."""


class Source(Enum):
    """Who was asked for the place of this process."""

    NOBODY = "nobody: one process"
    STRATEGY = "tf.distribute"
    TORCH = "torch.distributed"
    JAX = "jax.distributed"
    HOROVOD = "Horovod"
    LAUNCHER = "the environment of the launcher"


@dataclass(frozen=True)
class Place:
    """One of the processes that train together.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
        source: who was asked.
        strategy: the strategy of `tf.distribute` that connects the processes, else None.
    """

    rank: int = 0
    count: int = 1
    source: Source = Source.NOBODY
    strategy: Any = None

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that prints and writes files: rank 0."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether no other process trains with this one."""
        return self.count < 2


def current_place(model: Any = None) -> Place:
    """Return the place of this process, as it is known now.

    Frameworks that have connected their processes are asked first, then the environment of the
    launcher. Ask when it is needed, not earlier: a process learns its place when its script
    calls `init_process_group` or `jax.distributed.initialize`, or makes a strategy.

    Args:
        model: the model in training; its strategy is asked. Defaults to None.
    """
    places = (_strategy(model), _torch(), _jax(), _horovod())
    return next((place for place in places if place is not None), None) or _environment(os.environ)


def _strategy(model: Any) -> Optional[Place]:
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is None and (tensorflow := sys.modules.get(TENSORFLOW)) is not None:
        distribute = getattr(tensorflow, "distribute", None)  # None while it is being imported.
        if distribute is not None and distribute.has_strategy():
            strategy = distribute.get_strategy()
    resolver = getattr(strategy, "cluster_resolver", None)
    kind = getattr(resolver, "task_type", None)
    if resolver is None or kind is None:
        return None
    cluster = {name: len(tasks) for name, tasks in resolver.cluster_spec().as_dict().items()}
    rank, count = _in_cluster(cluster, kind, int(resolver.task_id or 0))
    return Place(rank, count, Source.STRATEGY, strategy) if count > 1 else None


def _torch() -> Optional[Place]:
    distributed = sys.modules.get(f"{TORCH}.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return Place(int(distributed.get_rank()), int(distributed.get_world_size()), Source.TORCH)


def _jax() -> Optional[Place]:
    jax = sys.modules.get(JAX)
    distributed = getattr(jax, "distributed", None)
    # Asked before `initialize`, `jax.process_count` would start the devices too early.
    if distributed is None or not getattr(distributed, "is_initialized", bool)():
        return None
    assert jax is not None
    return Place(int(jax.process_index()), int(jax.process_count()), Source.JAX)


def _horovod() -> Optional[Place]:
    for name in HOROVOD:
        module = sys.modules.get(name)
        if module is not None and getattr(module, "is_initialized", bool)():
            return Place(int(module.rank()), int(module.size()), Source.HOROVOD)
    return None


def _environment(variables: Mapping[str, str]) -> Place:
    for rank, count in _PAIRS:
        found = _number(variables.get(rank)), _number(variables.get(count))
        if found[0] is not None and found[1] is not None and found[1] > 1:
            return Place(found[0], found[1], Source.LAUNCHER)
    try:
        config = json.loads(variables.get("TF_CONFIG") or "{}")
        cluster = {name: len(tasks) for name, tasks in config["cluster"].items()}
        rank_, count_ = _in_cluster(cluster, str(config["task"]["type"]), config["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return Place()
    return Place(rank_, count_, Source.LAUNCHER) if count_ > 1 else Place()


def _in_cluster(tasks: Mapping[str, int], kind: str, index: int) -> Tuple[int, int]:
    """(rank, number of processes) of a task in a cluster of `tf.distribute`.

    The chief is rank 0, or worker 0 where the cluster has no chief. An evaluator and a parameter
    server come after all workers: they are neither the chief nor part of the training.
    """
    chiefs = min(tasks.get("chief", 0) + tasks.get("master", 0), 1)
    count = chiefs + tasks.get("worker", 0)
    if kind in ("chief", "master"):
        return 0, count
    index = int(index)
    return (chiefs + index if kind == "worker" else count + index), count


def _number(text: Optional[str]) -> Optional[int]:
    return int(text) if text is not None and text.strip().isdecimal() else None
