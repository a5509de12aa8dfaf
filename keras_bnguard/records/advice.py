"""What `advise` returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Tuple

from keras_bnguard.records.shown import Shown


class Policy(Enum):
    """What to do with the BN of a pretrained model during fine-tuning.

    Attributes:
        FROZEN: BN in inference mode, with the statistics as loaded.
        RECALIBRATED: BN in inference mode, with statistics of the new data.
        TRAINABLE: BN in training mode; the statistics are updated.
    """

    FROZEN = "frozen"
    RECALIBRATED = "recalibrated"
    TRAINABLE = "trainable"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class PolicyScore:
    """How one policy for BN did on held-out rows.

    Attributes:
        policy: which one.
        loss: mean over the held-out rows after the trial training.
        loss_error: its standard error.
        score: accuracy, minus the loss, or the user's metric, mean over the same rows; larger is
            better.
        score_error: its standard error.
        behind: how far the score is behind that of the best policy on the same rows.
        behind_error: standard error of that difference.
        untrained_score: the score before the trial's first step.
    """

    policy: Policy
    loss: float
    loss_error: float
    score: float
    score_error: float
    behind: float
    behind_error: float
    untrained_score: float


@dataclass(frozen=True, repr=False)
class Advice(Shown):
    """What `advise` measured and recommends.

    Attributes:
        policy: the one to use.
        difference: whether the policies differ beyond noise.
        reason: why, in a sentence.
        metric: name of the score.
        scores: a row of the table for each policy.
        layers: paths of the BN that the policies are about.
        rows: held-out rows that were scored.
        trainings: number of trial trainings.
        steps: training steps of each trial.
        planned_steps: steps of the training that the trials stand for.
        code: what to paste.
        unsure: whether the policies do not differ beyond noise, but `policy` leads by more than one
            standard error. Neither `difference` nor `unsure` is "no difference".
    """

    policy: Policy
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

    def score(self, policy: Policy) -> PolicyScore:
        """The row of one policy.

        Raises:
            KeyError: there is none.
        """
        for item in self.scores:
            if item.policy is policy:
                return item
        raise KeyError(policy)

    def _summary(self) -> str:
        sure = "" if self.difference else ", not sure" if self.unsure else ", no difference seen"
        return f"{self.policy}{sure}; {len(self.layers)} BN, {self.trainings} trial trainings"

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
                f"{item.policy!s:14s}{f'{item.loss:.4f} +- {item.loss_error:.4f}':>16s}"
                f"{f'{item.score:.4f} +- {item.score_error:.4f}':>18s}{behind:>20s}"
                f"{item.untrained_score:11.4f}"
            )
        code = "\n".join(f"    {line}" for line in self.code.splitlines())
        return "\n".join([*lines, "", f"{self.policy}: {self.reason}", code])
