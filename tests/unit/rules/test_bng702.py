"""BNG702 with hand-made records."""

from keras_bnguard.records import Facts
from keras_bnguard.rules.bng702_hidden_batchnorm import HiddenBatchnorm
from tests.builders.facts import facts, hits, norm, stack, the_hit

RULE = HiddenBatchnorm


def in_tfsm(path="saved/bn", **settings):
    return norm(
        path, kind="variables", container="", host="TFSMLayer", class_name="moving_mean", **settings
    )


def in_torch(path="wrapper/1"):
    return norm(
        path, kind="torch", container="", host="TorchModuleWrapper", class_name="BatchNorm2d"
    )


def test_it_says_that_the_mode_of_variables_cannot_be_seen():
    hit = the_hit(RULE, facts(in_tfsm(), norm("bn")))
    assert hit.layers == ("saved/bn",)
    assert "TFSMLayer holds 1" in hit.message
    assert "its mode cannot be seen" in hit.message
    assert hit.evidence["mode_unseen"] == ("saved/bn",)
    assert "call_training_endpoint" in hit.fix


def test_it_says_what_is_watched_of_torch_modules():
    known = facts(in_torch(), in_torch("wrapper/4"), on=stack("k3-torch"))
    hit = the_hit(RULE, known)
    assert "TorchModuleWrapper holds 2 (BatchNorm2d)" in hit.message
    assert "its statistics and its mode" in hit.message
    assert "layers=['wrapper']" in hit.fix
    assert hit.evidence["mode_unseen"] == ()


def test_it_lists_each_kind_of_wrapper_once():
    hit = the_hit(RULE, facts(in_tfsm(), in_torch(), in_tfsm("saved/bn2")))
    assert hit.evidence["hosts"] == {"TFSMLayer": 2, "TorchModuleWrapper": 1}


def test_it_mentions_what_could_not_be_read():
    hit = the_hit(RULE, facts(in_tfsm(), unreadable=("hub",)))
    assert "Not readable at all: hub." in hit.message


def test_keras_layers_are_silent():
    assert not hits(RULE, facts(norm("bn")))
    assert RULE().cannot_look(facts(norm("bn"))) is None
    assert RULE().cannot_look(Facts()) is None


def test_it_cannot_look_into_what_could_not_be_read():
    known = facts(norm("bn"), unreadable=("hub",))
    assert not hits(RULE, known)
    assert RULE().cannot_look(known) == "could not be read: hub"
