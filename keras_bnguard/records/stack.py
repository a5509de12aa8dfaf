"""The Keras a model belongs to, and what its self-test and its BN classes did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Behaviour:
    """What the running Keras does with `training` and `trainable`, as its self-test found.

    graph_false_honoured: `layer(x, training=False)` in a functional graph holds in `fit`.
    graph_true_at_inference: `layer(x, training=True)` in a functional graph holds in `predict`.
    false_leaks_in_graph: that False also reaches later layers of the functional graph.
    false_leaks_in_call: an explicit False in a subclassed `call` reaches layers called after it.
    default_leaks: a layer whose `call` defaults to `training=True` switches layers after it.
    setter_skips_equal: setting a container's `trainable` to the value it has does not reach
        its children.
    """

    graph_false_honoured: bool
    graph_true_at_inference: bool
    false_leaks_in_graph: bool
    false_leaks_in_call: bool
    default_leaks: bool
    setter_skips_equal: bool


@dataclass(frozen=True)
class Stack:
    """The Keras a model belongs to: `package` and `version`, and the `backend` that computes.

    flags: what makes a changed `trainable` count: "compile" (the flags at `compile()` run),
    "trace" (those at the first step run), "positional" (a change makes the step raise or
    mixes weights up) or "live" (a change counts at once).
    """

    name: str
    package: str
    version: str
    backend: str
    flags: str
    behaviour: Behaviour

    def __str__(self) -> str:
        return f"{self.package} {self.version} on {self.backend}"


@dataclass(frozen=True)
class NormBehaviour:
    """What one BN class did when a fresh layer of it was called on two small batches.

    trainable_updates: trainable, `training=True`: moving statistics changed.
    frozen_updates: not trainable, `training=True`: moving statistics changed.
    frozen_uses_batch: not trainable, `training=True`: output differs from inference mode's.
    """

    trainable_updates: bool
    frozen_updates: bool
    frozen_uses_batch: bool


BUILTIN = NormBehaviour(trainable_updates=True, frozen_updates=False, frozen_uses_batch=False)
