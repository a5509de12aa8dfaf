"""BNG602 on hand-made facts."""

from keras_bnguard.rules.bng602_weight_decay_on_batchnorm import WeightDecayOnBatchnorm as RULE
from tests.builders.facts import adam, facts, norm, the_violation, violations


def known(*norms, **settings):
    decays = {"weight_decay": 0.05, "decayed": ("a", "b"), "learning_rate": 1e-3}
    return facts(*norms, optimizer=adam(**{**decays, **settings}))


def test_it_names_what_decays():
    violation = the_violation(RULE, known(norm("a"), norm("b", trainable=False), norm("c")))
    assert violation.layers == ("a",)
    assert "by 0.05 times the learning rate" in violation.message


def test_silent_without_decay_or_with_all_excluded():
    assert not violations(RULE, known(norm("a"), weight_decay=None))
    assert not violations(RULE, known(norm("a"), decayed=()))
    assert not violations(RULE, known(norm("a"), decayed=None))
