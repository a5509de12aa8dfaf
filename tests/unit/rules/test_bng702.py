"""BNG702 with hand-made records."""

from keras_bnguard.records import NormKind, SkipKind
from keras_bnguard.rules.bng702_hidden_batchnorm import HiddenBatchnorm
from tests.builders.facts import facts, norm, skipped, stack, the_violation, violations

RULE = HiddenBatchnorm


def in_tfsm(path="saved/bn", **settings):
    return norm(
        path,
        kind=NormKind.VARIABLES,
        container="",
        wrapper="TFSMLayer",
        class_name="moving_mean",
        **settings,
    )


def in_torch(path="wrapper/1"):
    return norm(
        path,
        kind=NormKind.TORCH,
        container="",
        wrapper="TorchModuleWrapper",
        class_name="BatchNorm2d",
    )


def test_it_reports_that_the_mode_of_variables_cannot_be_seen():
    violation = the_violation(RULE, facts(in_tfsm(), norm("bn")))
    assert violation.layers == ("saved/bn",)
    assert "TFSMLayer contains 1" in violation.message
    assert "its mode cannot be seen" in violation.message
    assert violation.evidence["mode_unseen"] == ("saved/bn",)
    assert "call_training_endpoint" in violation.fix


def test_it_reports_what_is_watched_of_torch_modules():
    known = facts(in_torch(), in_torch("wrapper/4"), on=stack("k3-torch"))
    violation = the_violation(RULE, known)
    assert "TorchModuleWrapper contains 2 (BatchNorm2d)" in violation.message
    assert "its statistics and its mode" in violation.message
    assert "layers=['wrapper']" in violation.fix
    assert violation.evidence["mode_unseen"] == ()


def test_it_lists_each_kind_of_wrapper_once():
    violation = the_violation(RULE, facts(in_tfsm(), in_torch(), in_tfsm("saved/bn2")))
    assert violation.evidence["wrappers"] == {"TFSMLayer": 2, "TorchModuleWrapper": 1}


def test_it_mentions_what_could_not_be_read():
    violation = the_violation(RULE, facts(in_tfsm(), unreadable=("hub",)))
    assert "Not readable at all: hub." in violation.message


def test_keras_layers_are_silent():
    assert not violations(RULE, facts(norm("bn")))
    assert skipped(RULE, facts(norm("bn"))) is None


def test_it_is_skipped_where_something_could_not_be_read():
    known = facts(norm("bn"), unreadable=("hub",))
    assert not violations(RULE, known)
    assert skipped(RULE, known) is SkipKind.NOT_KNOWN
