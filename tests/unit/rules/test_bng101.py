"""BNG101 with hand-made records."""

import pytest

from keras_bnguard.records import Facts
from keras_bnguard.rules.bng101_trainable_changed_after_compile import (
    OUTCOMES,
    TrainableChangedAfterCompile,
)
from tests.builders.facts import facts, flip, hits, layers_of, norm, run, stack, the_hit

RULE = TrainableChangedAfterCompile


def test_it_lists_all_changed_layers_with_bn_first():
    flips = (flip("backbone"), flip("backbone/conv"), flip("backbone/bn", is_norm=True))
    hit = the_hit(RULE, facts(norm("backbone/bn"), run=run(flips=flips)))
    assert hit.layers == ("backbone/bn", "backbone", "backbone/conv")
    assert "3 layers (1 BN)" in hit.message
    assert "3 frozen (before fit)" in hit.message
    assert "keras 3.15.1 on tensorflow" in hit.message


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_it_says_what_the_engine_does_with_the_change(outcome):
    hit = the_hit(RULE, facts(run=run(flips=(flip("bn", outcome=outcome),))))
    assert OUTCOMES[outcome] in hit.message


def test_it_groups_by_outcome_and_counts_frozen_and_thawed_layers():
    flips = (
        flip("a", now=False, outcome="ignored"),
        flip("b", now=True, outcome="ignored"),
        flip("c", now=True, outcome="raises"),
    )
    hit = the_hit(RULE, facts(run=run(flips=flips)))
    assert "1 frozen and 1 thawed (before fit)" in hit.message
    assert "1 thawed (before fit): the next step will raise" in hit.message
    assert hit.evidence["frozen"] == 1
    assert hit.evidence["thawed"] == 2
    assert hit.evidence["outcomes"] == {"ignored": 2, "raises": 1}


def test_it_names_the_line_of_the_users_code():
    change = flip("bn", where="epoch 2 begin", source="train.py:41")
    hit = the_hit(RULE, facts(run=run(flips=(change,)), on=stack("k3-jax")))
    assert hit.source == "train.py:41"
    assert "epoch 2 begin at train.py:41" in hit.message


def test_a_change_inside_fit_is_sent_to_the_phase_scheduler():
    before = the_hit(RULE, facts(run=run(flips=(flip("bn"),))))
    inside = the_hit(RULE, facts(run=run(flips=(flip("bn", where="epoch 2 begin"),))))
    assert "PhaseScheduler" not in before.fix
    assert "PhaseScheduler" in inside.fix


def test_it_needs_no_step_to_fire():
    assert layers_of(RULE, facts(run=run(flips=(flip("bn"),), steps=0))) == ("bn",)


def test_flags_flipped_and_compiled_again_are_silent():
    assert not hits(RULE, facts(norm("bn", trainable=False), run=run(flips=())))


def test_a_phase_scheduler_transition_is_silent():
    change = flip("bn", where="epoch 2 begin", excused_by="PhaseScheduler")
    assert not hits(RULE, facts(run=run(flips=(change,))))


def test_models_that_share_layers_with_their_own_compiled_flags_are_silent():
    assert not hits(RULE, facts(run=run(flips=(flip("bn", excused_by="BNG106"),))))


def test_one_excused_change_does_not_excuse_the_others():
    flips = (flip("a", excused_by="BNG106"), flip("b"))
    assert layers_of(RULE, facts(run=run(flips=flips))) == ("b",)


def test_it_is_silent_without_a_run():
    assert not hits(RULE, facts(norm("bn")))
    assert RULE().cannot_look(facts(norm("bn"))) is None


def test_it_cannot_look_at_a_model_that_is_not_compiled():
    assert "not compiled" in RULE().cannot_look(facts(run=run(), compiled=False))


def test_it_cannot_look_where_the_flags_of_an_existing_step_are_not_known():
    unknown = facts(run=run(), compiled_flags_known=False, step_built=True)
    fresh = facts(run=run(), compiled_flags_known=False, step_built=False)
    assert "not known" in RULE().cannot_look(unknown)
    assert RULE().cannot_look(fresh) is None
    assert RULE().cannot_look(facts(run=run())) is None
    assert RULE().cannot_look(Facts()) is None


def test_the_models_own_flag_is_told_but_is_no_layer():
    alone = the_hit(RULE, facts(run=run(flips=(flip(""),))))
    assert alone.layers == ()
    assert "for the model itself. With" in alone.message
    both = the_hit(RULE, facts(run=run(flips=(flip(""), flip("bn", is_norm=True)))))
    assert both.layers == ("bn",)
    assert "for the model itself and 1 layer (1 BN): bn." in both.message
