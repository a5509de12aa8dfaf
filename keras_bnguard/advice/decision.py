"""Which policy to take, from scores and losses of the same held-out rows."""

from __future__ import annotations

from typing import List, Mapping, NamedTuple, Tuple

import numpy as np

from keras_bnguard.records import Policy, PolicyScore
from keras_bnguard.statistics.uncertainty import bootstrap_standard_error

RowValues = Mapping[Policy, np.ndarray]
"""Policy -> one number for each held-out row, shape `(rows,)`; the rows in the same order."""

SIGNIFICANT = 2.0
"""Standard errors from which on a difference counts."""
LEAD = 1.0
"""Standard errors from which on the best policy is the better guess."""


class Decision(NamedTuple):
    """The recommendation.

    Attributes:
        policy: the one to take.
        difference: whether the policies differ beyond noise.
        unsure: whether they do not, but `policy` leads by more than one standard error.
        reason: why, in a sentence.
    """

    policy: Policy
    difference: bool
    unsure: bool
    reason: str


class Margin(NamedTuple):
    """By how much one policy is ahead of another on the same rows.

    Attributes:
        mean: mean over the rows; negative where it is behind.
        standard_error: of that mean.
    """

    mean: float
    standard_error: float

    @classmethod
    def of(cls, values: RowValues, policy: Policy, other: Policy) -> Margin:
        difference = values[policy] - values[other]
        return cls(float(np.mean(difference)), bootstrap_standard_error(difference))

    def beyond(self, standard_errors: float) -> bool:
        return self.mean > standard_errors * self.standard_error

    def __str__(self) -> str:
        return f"{self.mean:.3f} +- {self.standard_error:.3f}"


def decide(scores: RowValues, losses: RowValues, tolerance: float = 0.0) -> Decision:
    """Take the best score; of equal ones the lower loss, then the policy that changes least.

    Policies differ where one is behind it by more than two standard errors of the difference
    on the same rows, in score or in loss. Where one is behind by more than one, the best leads.

    Args:
        scores: larger is better.
        losses: smaller is better.
        tolerance: mean scores no more than this apart are equal; for accuracy that of one row.
    """
    best = _best(scores, losses, tolerance)
    beaten = _beaten(scores, losses, best, SIGNIFICANT)
    if beaten:
        return Decision(best, True, False, "; ".join(beaten))
    leads = _beaten(scores, losses, best, LEAD)
    if leads:
        reason = (
            f"not sure: {'; '.join(leads)}, which may be noise; it is the better guess, and more "
            "rows would make it sure"
        )
        return Decision(best, False, True, reason)
    reason = (
        "no difference beyond noise between the policies on these rows; choose what changes "
        "least, or pass more rows"
    )
    return Decision(best, False, False, reason)


def table(
    scores: RowValues, losses: RowValues, untrained: RowValues, best: Policy
) -> Tuple[PolicyScore, ...]:
    """A row for each policy.

    Args:
        scores: after the trials.
        losses: after the trials.
        untrained: scores before the first step.
        best: the policy that the others are compared with.
    """
    rows = []
    for policy in Policy:
        behind = Margin.of(scores, best, policy)
        rows.append(
            PolicyScore(
                policy=policy,
                loss=float(np.mean(losses[policy])),
                loss_error=bootstrap_standard_error(losses[policy]),
                score=float(np.mean(scores[policy])),
                score_error=bootstrap_standard_error(scores[policy]),
                behind=behind.mean,
                behind_error=behind.standard_error,
                untrained_score=float(np.mean(untrained[policy])),
            )
        )
    return tuple(rows)


def _beaten(
    scores: RowValues, losses: RowValues, best: Policy, standard_errors: float
) -> List[str]:
    """By how much the best policy beats each one that is so many standard errors behind."""
    parts, rest = [], []
    for policy in Policy:
        ahead, lower = Margin.of(scores, best, policy), Margin.of(losses, policy, best)
        if ahead.beyond(standard_errors):
            parts.append(f"{ahead} better than {policy}")
        elif lower.beyond(standard_errors):
            parts.append(f"loss {lower} lower than {policy}")
        elif policy is not best:
            rest.append(str(policy))
    if parts and rest:
        parts.append(f"not significantly different from {' and '.join(rest)}")
    return parts


def _best(scores: RowValues, losses: RowValues, tolerance: float) -> Policy:
    means = {policy: float(np.mean(scores[policy])) for policy in Policy}
    equal = [p for p in Policy if means[p] >= max(means.values()) - tolerance - 1e-9]
    return min(equal, key=lambda policy: round(float(np.mean(losses[policy])), 9))
