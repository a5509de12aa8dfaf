"""What may change between two runs: a rule for each field, as in the table of docs/phases.md."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

from keras_bnguard.phases.conditions import Plateau
from keras_bnguard.phases.learning_rates import RelativeRate
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.resuming.changes import RULES, SCHEDULER_RULES, Effect, shown
from keras_bnguard.phases.scheduler import PhaseScheduler
from keras_bnguard.phases.train_selectors import LastBlocks
from tests import ROOT

PAGE = (ROOT / "docs" / "phases.md").read_text(encoding="utf-8")


def test_every_field_of_a_phase_and_of_the_scheduler_has_a_rule():
    assert list(RULES) == [field.name for field in fields(Phase)]
    assert list(SCHEDULER_RULES) == list(inspect.signature(PhaseScheduler).parameters)


@pytest.mark.parametrize("name", list(RULES))
def test_the_page_has_the_rule_of_each_field(name):
    assert RULES[name].docs_row(name) in PAGE.splitlines()


@pytest.mark.parametrize("name", list(SCHEDULER_RULES))
def test_the_page_has_the_rule_of_each_argument(name):
    assert f"| `{name}` | {SCHEDULER_RULES[name]} |" in PAGE.splitlines()


def test_the_page_has_no_row_of_a_field_that_is_not_there():
    table = PAGE[PAGE.index("| field of `Phase`") : PAGE.index("## Compared with")]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == len(RULES) + len(SCHEDULER_RULES)


def test_only_the_name_is_refused_in_a_later_phase():
    refused = [name for name, rule in RULES.items() if rule.to_come is Effect.REFUSED]
    assert refused == ["name"]


def judge(epochs: int, logs: object) -> bool:
    return False


class LearningRateSchedule:
    def __init__(self, first: float) -> None:
        self.first = first

    def get_config(self) -> dict:
        return {"first": self.first, "after": 3}


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("name", "top", "top"),
        ("train", "head*", "'head*'"),
        ("train", ["head*", LastBlocks(2)], "['head*', LastBlocks(count=2)]"),
        ("train", {"b", "a"}, "['a', 'b']"),
        ("train", ["head*"], "'head*'"),
        ("train", LearningRateSchedule, f"{__name__}.LearningRateSchedule"),
        ("learning_rate", 4e-3, "0.004"),
        ("learning_rate", RelativeRate(0.1), "RelativeRate(factor=0.1)"),
        (
            "learning_rate",
            LearningRateSchedule(0.1),
            "schedule LearningRateSchedule(after=3, first=0.1)",
        ),
        ("epochs", None, "None"),
        ("until", judge, f"{__name__}.judge"),
        ("batch_norm", "train", "'train'"),
        (
            "until",
            Plateau("loss"),
            "Plateau(monitor='loss', patience=3, min_delta=0.0, mode='auto')",
        ),
    ],
)
def test_a_field_is_shown_as_text_that_is_the_same_in_every_process(field, value, text):
    values = {"name": "p", "train": "*", **{field: value}}
    assert shown(Phase(**values))[field] == text
