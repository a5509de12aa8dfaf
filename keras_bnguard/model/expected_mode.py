"""The mode each BN should run in and why, the one it will run in here, the one it ran in."""

from __future__ import annotations

from typing import Iterable, Mapping, Optional, Sequence, Tuple

from keras_bnguard.records import (
    CallSite,
    ExpectedMode,
    FlagTiming,
    Inventory,
    Mode,
    NormKind,
    NormLayer,
    RunMode,
    Stack,
    Verification,
)


def expected_mode(
    norm: NormLayer, sites: Optional[Sequence[CallSite]] = None
) -> Tuple[ExpectedMode, str]:
    """The mode a BN should run in, and the fact that decides it.

    The first that applies: its own flag, a frozen layer around it, forced inference,
    `training=False` at every call of a graph, `training=False` at every observed call.

    Args:
        norm: the BN.
        sites: its calls in a real step. Defaults to None: no step was observed.

    Returns:
        (mode, reason in a few words).
    """
    if not norm.trainable:
        return ExpectedMode.INFERENCE, "its own trainable is False"
    if norm.frozen_ancestors:
        return ExpectedMode.INFERENCE, f"{norm.frozen_ancestors[-1]} around it is frozen"
    if norm.forced_inference:
        return ExpectedMode.INFERENCE, "forced by keras_bnguard"
    if norm.calls and all(call.training is False for call in norm.calls):
        return ExpectedMode.INFERENCE, f"called with training=False at {norm.calls[0].owner}"
    if sites and all(site.explicit is False for site in sites):
        return ExpectedMode.INFERENCE, "every call of it passes training=False"
    return ExpectedMode.TRAINING, "trainable"


def will_run(norm: NormLayer, stack: Stack) -> RunMode:
    """The mode a BN will run in during `fit` on a stack; never UNKNOWN.

    Args:
        norm: the BN.
        stack: the Keras and backend it belongs to.
    """
    if norm.forced_inference and norm.verification is not Verification.FAILED:
        return RunMode.INFERENCE
    behaviour = norm.behaviour
    if behaviour is not None and not behaviour.trainable_updates:
        return RunMode.INFERENCE
    if norm.kind is NormKind.KERAS:
        flag = norm.trainable
        if stack.flags is FlagTiming.COMPILE and norm.compiled_trainable is not None:
            flag = norm.compiled_trainable
        if not flag:
            uses_batch = behaviour is not None and (
                behaviour.frozen_uses_batch or behaviour.frozen_updates
            )
            return RunMode.TRAINING if uses_batch else RunMode.INFERENCE
    if norm.calls and all(call.training is False for call in norm.calls):
        return RunMode.INFERENCE if stack.behaviour.graph_false_honoured else RunMode.TRAINING
    return RunMode.TRAINING


def did_run(norm: NormLayer, sites: Optional[Sequence[CallSite]]) -> RunMode:
    """The mode a BN ran in.

    Args:
        norm: the BN.
        sites: its calls in a real step; without any the mode is UNKNOWN.
    """
    if not sites:
        return RunMode.UNKNOWN
    behaviour = norm.behaviour
    # Calls under another flag belong to the step of another model that shares this BN.
    sites = [site for site in sites if site.flag == norm.trainable] or sites
    if any(site.arrived == "tensor" for site in sites):
        return RunMode.UNKNOWN
    for site in sites:
        if site.arrived is not True and norm.kind is not NormKind.TORCH:
            continue
        if norm.kind is NormKind.TORCH and site.arrived is False:
            continue
        if site.flag or norm.kind is NormKind.TORCH:
            if behaviour is None or behaviour.trainable_updates:
                return RunMode.TRAINING
        elif behaviour is None or behaviour.frozen_updates or behaviour.frozen_uses_batch:
            return RunMode.TRAINING
    return RunMode.INFERENCE


def modes(inventory: Inventory) -> Tuple[Mode, ...]:
    """The mode table: one row per BN."""
    rows = []
    for norm in inventory.norms:
        expected, why = expected_mode(norm)
        will = will_run(norm, inventory.stack)
        rows.append(
            Mode(
                path=norm.path,
                trainable=norm.trainable,
                frozen=norm.frozen,
                expected=expected,
                why=why,
                will=will,
                agrees=(expected is ExpectedMode.TRAINING) == (will is RunMode.TRAINING),
                momentum=norm.momentum,
                at_default=norm.at_default,
                forced_inference=norm.forced_inference,
                verification=norm.verification if norm.forced_inference else None,
            )
        )
    return tuple(rows)


def _under_false(norm: NormLayer) -> bool:
    """Whether a `training=False` around every call counts more than what is written at it."""
    return bool(norm.calls) and all(
        call.training is False or call.inside_false for call in norm.calls
    )


def norms_to_force(
    norms: Iterable[NormLayer], calls: Mapping[str, Sequence[CallSite]]
) -> Tuple[str, ...]:
    """Paths of BN that should run in inference mode but would not by themselves.

    Built-in BN whose own flag is False is not among them: every Keras runs it in inference mode.
    A BN that is called with `training=True` inside a graph that is called with `training=False`
    is among them on Keras 3, which passes the outer value on.

    Args:
        norms: the BN.
        calls: path -> calls in a real step.
    """
    paths = []
    for norm in norms:
        expected, _ = expected_mode(norm, calls.get(norm.path))
        if expected is ExpectedMode.TRAINING:
            forced = _under_false(norm)
        else:
            forced = norm.trainable or not norm.builtin
        if forced:
            paths.append(norm.path)
    return tuple(paths)
