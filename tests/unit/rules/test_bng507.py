"""BNG507 with hand-made records."""

from keras_bnguard.records import Alone, Facts
from keras_bnguard.rules.bng507_output_depends_on_batch import OutputDependsOnBatch
from tests.builders.facts import facts, hits, norm, peeked, the_hit

RULE = OutputDependsOnBatch


def known(**alone):
    return facts(norm("bn"), norm("other"), batches=peeked(alone=Alone(**alone)))


def test_it_fires_where_a_row_alone_gives_another_output():
    hit = the_hit(RULE, known(difference=0.4, layers=("bn",)))
    assert hit.layers == ("bn",)
    assert "the difference is 0.4" in hit.message
    assert "layers=['bn']" in hit.fix


def test_where_no_call_was_seen_all_bn_are_named():
    assert the_hit(RULE, known(difference=0.4)).layers == ("bn", "other")


def test_rounding_is_silent():
    assert not hits(RULE, known(difference=1e-5))


def test_half_precision_is_silent_for_the_rest_of_the_model_rounds_too():
    assert not hits(RULE, known(difference=4e-3, held=3e-3))


def test_a_model_that_compares_rows_by_design_is_silent():
    assert not hits(RULE, known(difference=0.4, held=0.4))


def test_dropout_that_stays_on_is_skipped():
    random = known(difference=0.4, random=True)
    assert not hits(RULE, random)
    assert "the same batch twice" in RULE().cannot_look(random)


def test_a_graph_that_proves_inference_mode_is_clear():
    proven = known(proven=True)
    assert not hits(RULE, proven)
    assert RULE().cannot_look(proven) is None


def test_it_says_why_it_cannot_look():
    data = peeked(missing={"alone": "the model is not built yet"})
    assert RULE().cannot_look(facts(norm("bn"), batches=data)).startswith("needs P: the model")
    assert RULE().cannot_look(Facts()) is None
