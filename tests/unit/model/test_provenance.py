"""Where statistics come from, over runs, models and restores, on hand-made vectors."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_bnguard.model.provenance import (
    MIN_PRETRAINING,
    StatisticsHistory,
    history_of,
    provenances,
)
from keras_bnguard.records import NormKind, NormState, Provenance

STEPS = MIN_PRETRAINING


class Model:
    """A model is only ever compared by identity."""


def state(mean=0.0, variance=1.0, gamma=1.0, beta=0.0):
    vectors = (mean, variance, gamma, beta)
    return NormState(*(np.asarray([v, v], "float32") for v in vectors))


DEFAULT = state()
FIRST, SECOND, THIRD = state(0.5, 0.4), state(0.6, 0.3), state(0.7, 0.2)


def begin(history, model, vectors, started=0, momentum=None):
    history.begin(model, vectors, started, momentum)
    return history.of(model)


def trained(model, *checks, steps=STEPS):
    """A BN at its default that a model trained, with these statistics at its checks."""
    history = StatisticsHistory()
    begin(history, model, DEFAULT)
    for vectors in checks:
        history.train(model, vectors, steps)
    return history


def test_a_new_bn_is_at_its_default_and_training_makes_it_trained_here():
    model = Model()
    history = StatisticsHistory()
    assert begin(history, model, DEFAULT) is Provenance.DEFAULT
    history.train(model, FIRST, STEPS)
    assert begin(history, model, FIRST) is Provenance.TRAINED_HERE
    history.train(model, SECOND, STEPS)
    assert begin(history, model, SECOND) is Provenance.TRAINED_HERE


def test_what_is_not_default_when_it_is_first_seen_is_loaded_and_stays_so():
    model, history = Model(), StatisticsHistory()
    assert begin(history, model, FIRST) is Provenance.LOADED
    history.train(model, SECOND, STEPS)
    assert begin(history, model, SECOND) is Provenance.LOADED


def test_a_run_that_was_not_seen_from_the_start_is_unknown():
    assert begin(StatisticsHistory(), Model(), FIRST, started=100) is Provenance.UNKNOWN
    model, history = Model(), StatisticsHistory()
    begin(history, model, DEFAULT)
    assert begin(history, model, FIRST, started=20) is Provenance.UNKNOWN


def test_what_was_loaded_between_two_checks_is_loaded():
    model, history = Model(), StatisticsHistory()
    begin(history, model, DEFAULT)
    assert begin(history, model, FIRST) is Provenance.LOADED


def test_what_changed_after_training_while_nothing_was_observed_is_unknown():
    model = Model()
    assert begin(trained(model, FIRST), model, SECOND) is Provenance.UNKNOWN


def test_restored_statistics_are_what_they_were():
    model = Model()
    history = trained(model, FIRST, SECOND)
    assert begin(history, model, FIRST) is Provenance.TRAINED_HERE
    history = StatisticsHistory()
    begin(history, model, FIRST)
    history.train(model, SECOND, STEPS)
    assert begin(history, model, FIRST) is Provenance.LOADED


def test_a_reset_starts_again_as_in_the_next_fold():
    model = Model()
    history = trained(model, FIRST)
    begin(history, Model(), FIRST)
    history.freeze(model)
    assert begin(history, model, DEFAULT) is Provenance.DEFAULT
    history.train(model, SECOND, STEPS)
    assert begin(history, model, SECOND) is Provenance.TRAINED_HERE


def test_a_pretraining_counts_as_loaded_once_it_is_frozen():
    model = Model()
    history = trained(model, FIRST)
    begin(history, model, FIRST)
    history.freeze(model)
    assert history.of(model) is Provenance.LOADED
    assert history.of(Model()) is Provenance.LOADED


def test_a_bn_that_is_frozen_at_its_default_has_no_pretraining():
    model, history = Model(), StatisticsHistory()
    begin(history, model, DEFAULT)
    history.freeze(model)
    history.train(model, FIRST, STEPS)
    assert history.of(model) is Provenance.TRAINED_HERE


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(STEPS, Provenance.LOADED), (STEPS - 1, Provenance.TRAINED_HERE)],
)
def test_a_pretraining_by_another_model_counts_as_loaded_from_some_steps_on(steps, expected):
    other, model = Model(), Model()
    history = trained(other, FIRST, steps=steps)
    assert begin(history, model, FIRST) is expected
    assert history.of(other) is Provenance.TRAINED_HERE


def test_the_last_steps_of_a_pretraining_need_not_have_been_seen():
    other, model = Model(), Model()
    assert begin(trained(other, FIRST), model, SECOND) is Provenance.LOADED


def test_models_that_train_a_bn_in_turn_pretrain_nothing():
    one, two = Model(), Model()
    history = trained(one, FIRST)
    history.train(two, SECOND, STEPS)
    assert history.of(two) is Provenance.LOADED
    history.train(one, THIRD, STEPS)
    assert history.of(two) is Provenance.TRAINED_HERE
    history.train(two, FIRST, STEPS)
    assert history.of(one) is Provenance.TRAINED_HERE


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        (state(0.3, 0.99), Provenance.TRAINED_HERE),
        (state(0.3, 0.97), Provenance.LOADED),
        (state(0.3, 0.99, gamma=1.1), Provenance.LOADED),
        (state(0.3, 0.99, beta=0.1), Provenance.LOADED),
    ],
)
def test_one_or_two_forward_passes_before_a_loop_is_seen_are_no_pretraining(vectors, expected):
    assert begin(StatisticsHistory(), Model(), vectors, momentum=0.99) is expected
    assert begin(StatisticsHistory(), Model(), vectors) is Provenance.LOADED


def test_one_record_a_layer_and_none_where_only_variables_are_visible():
    layer = Model()
    handle = SimpleNamespace(path="bn", layer=layer, module=None, kind=NormKind.KERAS)
    assert history_of(handle) is history_of(handle)
    history_of(handle).begin(model := Model(), FIRST, 0)
    assert provenances({"bn": handle}, model) == {"bn": Provenance.LOADED}
    hidden = SimpleNamespace(path="x", layer=layer, module=None, kind=NormKind.VARIABLES)
    assert history_of(hidden) is None
    assert provenances({"x": hidden}, model) == {}


def test_updates_of_all_runs_without_a_gap_count_together():
    model = Model()
    history = StatisticsHistory()
    begin(history, model, DEFAULT)
    history.train(model, FIRST, STEPS)
    assert history.decay(0.5) == (DEFAULT, 0.5)
    begin(history, model, FIRST)
    history.train(model, SECOND, STEPS)
    assert history.decay(0.5) == (DEFAULT, 0.25)
    begin(history, model, THIRD)  # Something was not observed.
    assert history.decay(0.5) == (THIRD, 0.5)
    begin(history, model, DEFAULT)
    assert history.decay(0.5) == (DEFAULT, 0.5)


def test_a_bn_that_its_first_step_built_began_at_the_default():
    model, history = Model(), StatisticsHistory()
    history.train(model, FIRST, STEPS)
    start, left = history.decay(0.5)
    assert (start.mean.tolist(), start.variance.tolist(), left) == ([0.0, 0.0], [1.0, 1.0], 0.5)
    assert begin(history, model, FIRST) is Provenance.TRAINED_HERE
