"""What `advise` hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple


@dataclass(frozen=True)
class PolicyScore:
    """How one policy for BN did on held-out rows.

    policy: "frozen" (statistics as loaded), "recalibrated" or "live".
    loss, score: mean over the held-out rows after the trial training, with the standard error
        of each; the score is accuracy, minus the loss, or the user's metric: larger is better.
    untrained_score: the score before the trial's first step.
    behind, behind_error: how far the score is behind that of the best policy on the same
        rows, and the standard error of that difference.
    """

    policy: str
    loss: float
    loss_error: float
    score: float
    score_error: float
    behind: float
    behind_error: float
    untrained_score: float


@dataclass(frozen=True)
class Advice:
    """What `advise` measured and recommends.

    policy: the one to use. difference: whether the policies differ beyond noise. unsure: they do
    not, but `policy` leads by more than one standard error; neither of both is "no difference".
    metric: name of the score. layers: paths of the BN it is about. rows: held-out rows scored.
    trainings: trial trainings of `steps` steps. planned_steps: how long the training is that the
    trials stand for. code: what to paste.
    """

    policy: str
    difference: bool
    reason: str
    metric: str
    scores: Tuple[PolicyScore, ...]
    layers: Tuple[str, ...]
    rows: int
    trainings: int
    steps: int
    planned_steps: int
    code: str
    unsure: bool = False

    def score(self, policy: str) -> PolicyScore:
        """The row of one policy; KeyError where there is none."""
        for item in self.scores:
            if item.policy == policy:
                return item
        raise KeyError(policy)

    def __str__(self) -> str:
        lines = [
            f"{len(self.layers)} BN, {self.trainings} trial trainings of {self.steps} steps for "
            f"{self.planned_steps} planned ones, {self.rows} held-out rows",
            f"{'policy':14s}{'loss':>16s}{self.metric:>18s}{'behind the best':>20s}"
            f"{'untrained':>11s}",
        ]
        for item in self.scores:
            behind = "-" if item.behind == 0.0 else f"{item.behind:.4f} +- {item.behind_error:.4f}"
            lines.append(
                f"{item.policy:14s}{f'{item.loss:.4f} +- {item.loss_error:.4f}':>16s}"
                f"{f'{item.score:.4f} +- {item.score_error:.4f}':>18s}{behind:>20s}"
                f"{item.untrained_score:11.4f}"
            )
        code = "\n".join(f"    {line}" for line in self.code.splitlines())
        return "\n".join([*lines, "", f"{self.policy}: {self.reason}", code])
