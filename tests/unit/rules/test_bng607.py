"""BNG607 with hand-made records."""

from keras_bnguard.rules.bng607_recompiled_inside_fit import RecompiledInsideFit
from tests.builders.facts import facts, run, stack, the_violation, violations

RULE = RecompiledInsideFit
WHERE = "epoch 0 end, Unfreeze.on_epoch_end"


def test_it_reports_where_compile_ran_and_what_follows():
    violation = the_violation(RULE, facts(run=run(recompiled=WHERE)))
    assert violation.layers == ()
    assert f"compile() ran inside fit ({WHERE})" in violation.message
    assert "'NoneType' object is not callable" in violation.message
    assert "PhaseScheduler" in violation.fix
    assert "initial_epoch" in violation.fix


def test_it_is_at_the_line_of_compile_where_that_is_known():
    assert the_violation(RULE, facts(run=run(recompiled="/a/train.py:7"))).source == "/a/train.py:7"
    assert the_violation(RULE, facts(run=run(recompiled=WHERE))).source is None


def test_jax_fails_with_another_error():
    assert (
        "shapes"
        in the_violation(RULE, facts(on=stack("k3-jax"), run=run(recompiled=WHERE))).message
    )


def test_a_phase_scheduler_leaves_a_train_function_and_is_silent():
    assert not violations(RULE, facts(run=run(recompiled=None)))
