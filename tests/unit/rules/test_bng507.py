"""BNG507 with hand-made records."""

from keras_bnguard.records import BatchDependence, DataPart, SkipKind
from keras_bnguard.rules.bng507_output_depends_on_batch import OutputDependsOnBatch
from tests.builders.facts import facts, norm, sampled, skipped, the_violation, violations

RULE = OutputDependsOnBatch


def known(**dependence):
    return facts(
        norm("bn"), norm("other"), data=sampled(batch_dependence=BatchDependence(**dependence))
    )


def test_it_fires_where_a_row_alone_gives_another_output():
    violation = the_violation(RULE, known(difference=0.4, layers=("bn",)))
    assert violation.layers == ("bn",)
    assert "the difference is 0.4" in violation.message
    assert "layers=['bn']" in violation.fix


def test_where_no_call_was_seen_all_bn_are_named():
    assert the_violation(RULE, known(difference=0.4)).layers == ("bn", "other")


def test_rounding_is_silent():
    assert not violations(RULE, known(difference=1e-5))


def test_half_precision_is_silent_for_the_rest_of_the_model_rounds_too():
    assert not violations(RULE, known(difference=4e-3, difference_forced=3e-3))


def test_a_model_that_compares_rows_by_design_is_silent():
    assert not violations(RULE, known(difference=0.4, difference_forced=0.4))


def test_dropout_that_stays_on_is_skipped():
    random = known(difference=0.4, random=True)
    assert not violations(RULE, random)
    assert skipped(RULE, random) is SkipKind.NOT_MEASURED


def test_a_graph_that_proves_inference_mode_is_clear():
    proven = known(proven=True)
    assert not violations(RULE, proven)
    assert skipped(RULE, proven) is None


def test_it_is_skipped_where_no_row_was_measured():
    data = sampled(missing={DataPart.BATCH_DEPENDENCE: "the model is not built yet"})
    assert skipped(RULE, facts(norm("bn"), data=data)) is SkipKind.NOT_MEASURED
