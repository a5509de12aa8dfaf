"""The base of the callbacks: how they are made, shown, copied and pickled."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import keras_bnguard as bng
from keras_bnguard.backends.callback_base import Hooks
from tests.stack import keras


class Counter(Hooks):
    def __init__(self, start: int = 0, *, step: int = 1) -> None:
        super().__init__()
        self.start, self.step = start, step
        self.seen = []


def test_a_callback_is_one_of_the_keras_that_is_imported():
    assert isinstance(Counter(), keras.callbacks.Callback)
    assert isinstance(Counter(), Counter)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_a_copy_is_made_with_the_same_arguments_and_shares_nothing(way):
    made = Counter(3, step=2)
    made.seen.append(1)
    copied = way(made)
    assert type(copied) is type(made)
    assert (copied.start, copied.step, copied.seen) == (3, 2, [])


def test_the_signature_shows_the_arguments_of_the_class_and_of_its_instances():
    assert str(inspect.signature(Counter)) == "(start: 'int' = 0, *, step: 'int' = 1)"
    assert inspect.signature(type(Counter())) == inspect.signature(Counter)
    assert list(inspect.signature(bng.BNGuard).parameters)[:3] == ["on_finding", "fix", "select"]


def test_a_subclass_shows_its_own_arguments():
    class Mine(bng.BNGuard):
        def __init__(self, folder):
            super().__init__(on_finding="log")
            self.folder = folder

    assert list(inspect.signature(Mine).parameters) == ["folder"]
    assert copy.deepcopy(Mine("here")).folder == "here"


def test_a_batch_hook_is_there_for_the_object_that_asked_alone():
    plain, listening = Counter(), Counter()
    listening.call_at_batch_begin(lambda batch, logs=None: listening.seen.append(batch))
    assert listening._implements_train_batch_hooks()
    assert not plain._implements_train_batch_hooks()
    listening.on_train_batch_begin(7)
    plain.on_train_batch_begin(7)
    assert (listening.seen, plain.seen) == ([7], [])
