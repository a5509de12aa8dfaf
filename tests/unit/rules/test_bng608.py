"""BNG608 on hand-made facts."""

import pytest

from keras_bnguard.records import SkipKind
from keras_bnguard.rules.bng608_phase_boundary_loss_spike import PhaseBoundaryLossSpike as RULE
from tests.builders.facts import facts, layer, past, run, skipped, the_violation, violations


def known(first=0.7, last=0.2, after=1.0, was=False, more=(), loss="mse", **before):
    before = {"first_loss": first, "loss": last, "loss_function": "mse", **before}
    return facts(
        layers=[layer("base/conv", 1)],
        run=run(
            before=past(layers=[layer("base/conv", 1, trainable=was)], **before),
            losses=(after, *more),
            loss_function=loss,
        ),
    )


def test_a_jump_over_more_than_half_of_what_was_gained():
    violation = the_violation(RULE, known())
    assert violation.layers == ("base/conv",)
    assert "Loss 0.2 in" in violation.message
    assert "5 times as much (limit 2)" in violation.message


@pytest.mark.parametrize(
    "losses",
    [
        {"after": 0.39},  # less than twice
        {"first": 9.0},  # little of what was gained
        {"first": 1e-4, "last": 1e-5, "after": 9e-4},  # small
        {"after": 0.1},
    ],
)
def test_silent_at_small_steps(losses):
    assert not violations(RULE, known(**losses))


def test_regularisation_is_taken_off_on_both_sides():
    assert not violations(RULE, known(after=1.0, regularisation=(0.0, 0.9)))
    violation = the_violation(RULE, known(after=2.0, regularisation=(0.1, 0.9)))
    assert violation.evidence["after"] == pytest.approx(1.1)
    assert "left out: 0.1 before, 0.9 after" in violation.message


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_silent_for_losses_that_cannot_be_compared(bad):
    assert not violations(RULE, known(last=bad))
    assert not violations(RULE, known(after=bad))


def test_silent_where_the_same_layers_train_or_the_loss_is_another():
    assert not violations(RULE, known(was=True))
    assert not violations(RULE, known(loss="mae"))


def test_only_the_first_epoch_after_is_judged():
    assert not violations(RULE, known(more=(3.0,)))
    assert not violations(RULE, facts(run=run(losses=(1.0,))))


def test_it_is_skipped_where_nothing_came_before():
    assert skipped(RULE, facts(run=run())) is SkipKind.NOT_KNOWN
    assert skipped(RULE, known()) is None
