"""Comments that ignore a rule at one line."""

from dataclasses import replace

import pytest

from keras_bnguard.records import OutcomeStatus, UserCode
from keras_bnguard.rules.bng102_trainable_batchnorm_under_frozen_parent import (
    TrainableBatchnormUnderFrozenParent as RULE,
)
from keras_bnguard.rules.evaluate import evaluate
from tests.builders.facts import facts, norm


@pytest.mark.parametrize(
    ("comment", "ignored"),
    [
        ("# bnguard: ignore[BNG102]", True),
        ("# why not  # bnguard: ignore[BNG404, bng102]", True),
        ("# bnguard: ignore[BNG1]", True),
        ("# bnguard: ignore", True),
        ("# bnguard: ignore[BNG404]", False),
        ("# ignore[BNG102]", False),
    ],
)
@pytest.mark.parametrize("place", ["source", "fit"])
def test_a_comment_at_the_line_of_the_finding_or_of_fit(tmp_path, comment, ignored, place):
    file = tmp_path / "train.py"
    file.write_text(f"first\nsecond  {comment}\n")
    line = f"{file}:2"
    source = line if place == "source" else None
    known = facts(norm("base/bn", frozen_ancestors=("base",), flag_source=source))
    if place == "fit":
        known = replace(known, inventory=replace(known.inventory, user_code=UserCode(line=line)))
    findings, (outcome,) = evaluate(known, rules=[RULE])
    assert (not findings) is ignored
    assert (outcome.status is OutcomeStatus.IGNORED) is ignored


def test_a_file_that_is_not_there_ignores_nothing():
    known = facts(norm("base/bn", frozen_ancestors=("base",), flag_source="gone.py:3"))
    assert evaluate(known, rules=[RULE])[0]
