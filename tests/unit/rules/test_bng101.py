"""BNG101 with hand-made records."""

import pytest

from keras_bnguard.records import ChangeOutcome, Moment, MomentKind, SkipKind
from keras_bnguard.rules.bng101_trainable_changed_after_compile import (
    OUTCOMES,
    TrainableChangedAfterCompile,
)
from tests.builders.facts import (
    facts,
    layers_of,
    norm,
    run,
    skipped,
    stack,
    the_violation,
    trainable_change,
    violations,
)

EPOCH_2 = Moment(MomentKind.EPOCH_START, 2)
RULE = TrainableChangedAfterCompile


def test_it_lists_all_changed_layers_with_bn_first():
    trainable_changes = (
        trainable_change("backbone"),
        trainable_change("backbone/conv"),
        trainable_change("backbone/bn", is_norm=True),
    )
    violation = the_violation(
        RULE, facts(norm("backbone/bn"), run=run(trainable_changes=trainable_changes))
    )
    assert violation.layers == ("backbone/bn", "backbone", "backbone/conv")
    assert "3 layers (1 BN)" in violation.message
    assert "3 frozen (before fit)" in violation.message
    assert "keras 3.15.1 on tensorflow" in violation.message


@pytest.mark.parametrize("outcome", list(ChangeOutcome))
def test_it_reports_what_the_backend_does_with_the_change(outcome):
    violation = the_violation(
        RULE, facts(run=run(trainable_changes=(trainable_change("bn", outcome=outcome),)))
    )
    assert OUTCOMES[outcome] in violation.message


def test_it_groups_by_outcome_and_counts_frozen_and_unfrozen_layers():
    trainable_changes = (
        trainable_change("a", now=False, outcome=ChangeOutcome.IGNORED),
        trainable_change("b", now=True, outcome=ChangeOutcome.IGNORED),
        trainable_change("c", now=True, outcome=ChangeOutcome.RAISES),
    )
    violation = the_violation(RULE, facts(run=run(trainable_changes=trainable_changes)))
    assert "1 frozen and 1 unfrozen (before fit)" in violation.message
    assert "1 unfrozen (before fit): the next step will raise" in violation.message
    assert violation.evidence["frozen"] == 1
    assert violation.evidence["unfrozen"] == 2
    assert violation.evidence["outcomes"] == {"ignored": 2, "raises": 1}


def test_it_names_the_line_of_the_users_code():
    change = trainable_change("bn", where=EPOCH_2, source="train.py:41")
    violation = the_violation(RULE, facts(run=run(trainable_changes=(change,)), on=stack("k3-jax")))
    assert violation.source == "train.py:41"
    assert f"{EPOCH_2} at train.py:41" in violation.message


def test_a_change_inside_fit_is_sent_to_the_phase_scheduler():
    before = the_violation(RULE, facts(run=run(trainable_changes=(trainable_change("bn"),))))
    inside = the_violation(
        RULE, facts(run=run(trainable_changes=(trainable_change("bn", where=EPOCH_2),)))
    )
    assert "PhaseScheduler" not in before.fix
    assert "PhaseScheduler" in inside.fix


def test_it_needs_no_step_to_fire():
    assert layers_of(
        RULE, facts(run=run(trainable_changes=(trainable_change("bn"),), steps=0))
    ) == ("bn",)


def test_flags_changed_and_compiled_again_are_silent():
    assert not violations(RULE, facts(norm("bn", trainable=False), run=run(trainable_changes=())))


def test_a_phase_scheduler_transition_is_silent():
    change = trainable_change("bn", where=EPOCH_2, explained_by="PhaseScheduler")
    assert not violations(RULE, facts(run=run(trainable_changes=(change,))))


def test_models_that_share_layers_with_their_own_compiled_flags_are_silent():
    assert not violations(
        RULE, facts(run=run(trainable_changes=(trainable_change("bn", explained_by="BNG106"),)))
    )


def test_one_explained_change_does_not_explain_the_others():
    trainable_changes = (trainable_change("a", explained_by="BNG106"), trainable_change("b"))
    assert layers_of(RULE, facts(run=run(trainable_changes=trainable_changes))) == ("b",)


def test_it_is_skipped_for_a_model_that_is_not_compiled():
    assert skipped(RULE, facts(run=run(), compiled=False)) is SkipKind.NOT_KNOWN


def test_it_is_skipped_where_the_flags_of_an_existing_step_are_not_known():
    unknown = facts(run=run(), compiled_flags_known=False, step_built=True)
    fresh = facts(run=run(), compiled_flags_known=False, step_built=False)
    assert skipped(RULE, unknown) is SkipKind.NOT_KNOWN
    assert skipped(RULE, fresh) is None
    assert skipped(RULE, facts(run=run())) is None


def test_the_models_own_flag_is_reported_but_is_no_layer():
    violation = the_violation(RULE, facts(run=run(trainable_changes=(trainable_change(""),))))
    assert violation.layers == ()
    assert "for the model itself. With" in violation.message
    both = the_violation(
        RULE,
        facts(
            run=run(trainable_changes=(trainable_change(""), trainable_change("bn", is_norm=True)))
        ),
    )
    assert both.layers == ("bn",)
    assert "for the model itself and 1 layer (1 BN): bn." in both.message
