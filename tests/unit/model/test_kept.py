"""Objects that are kept with a model: found again, freed with it, absent from copies."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

from keras_bnguard.model.kept import _Kept, find_kept, forget, kept_with


class Model:
    pass


class Note:
    pass


def test_one_object_of_a_class_is_kept_with_a_model():
    model = Model()
    assert find_kept(model, Note) is None
    note = kept_with(model, Note)
    assert kept_with(model, Note) is note
    assert find_kept(model, Note) is note
    assert find_kept(Model(), Note) is None


def test_what_is_forgotten_leaves_nothing_on_the_model():
    model = Model()
    kept_with(model, Note)
    kept_with(model, list)
    forget(model, Note)
    assert find_kept(model, Note) is None
    assert find_kept(model, list) == []
    forget(model, list, Note)
    assert vars(model) == {}
    forget(model, Note)


def test_a_kept_object_that_refers_to_its_model_is_freed_with_it():
    model = Model()
    note = kept_with(model, Note)
    note.model = model
    dead = weakref.ref(model), weakref.ref(note)
    del model, note
    gc.collect()
    assert [ref() for ref in dead] == [None, None]


def test_copies_start_without():
    kept = _Kept()
    kept.by_class[Note] = Note()
    assert copy.deepcopy(kept).by_class == {}
    assert pickle.loads(pickle.dumps(kept)).by_class == {}


def test_something_without_attributes_has_nothing_kept():
    assert find_kept(3, Note) is None
