"""Kinds of data: each is recognized, documented and read; the others are refused."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.data import containers
from keras_bnguard.data.batches import Batches
from keras_bnguard.data.containers.base import Container, ReadingPlan, Sampling
from keras_bnguard.data.containers.registry import (
    CONTAINERS,
    DATA_ARGUMENT,
    container_of,
    readable_container,
)
from keras_bnguard.data.sample import SampleLimits, sample
from tests import ROOT

X = np.arange(20, dtype="float32").reshape(10, 2)
Y = np.arange(10)


class PyDataset:
    """Recognized by the name of its class, as no framework is imported here."""

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return X[2 * i : 2 * i + 2], Y[2 * i : 2 * i + 2]


class DatasetV2:
    """A tf.data.Dataset as far as it is recognized."""

    _variant_tensor = None

    def __iter__(self):
        return iter(())


class DataLoader:
    def __iter__(self):
        return iter([(X, Y)])


class DistributedDataset:
    def __iter__(self):
        return iter(())


class DataFrame:
    """A table of pandas, as far as it is recognized."""

    shape = (10, 2)

    def to_numpy(self):
        return X

    def __getitem__(self, name):
        raise KeyError(name)


class Series(DataFrame):
    shape = (10,)

    def to_numpy(self):
        return Y


def batches():
    yield X[:5], Y[:5]
    yield X[5:], Y[5:]


EXAMPLES = {
    "DistributedData": [DistributedDataset()],
    "Arrays": [X, (X, Y), {"a": X}, ([X, X], Y), (X, Y, None), (DataFrame(), Series())],
    "IndexedBatches": [PyDataset()],
    "TensorFlowDataset": [DatasetV2()],
    "TorchDataLoader": [DataLoader()],
    "IterableBatches": [[(X, Y)], [X, X]],
    "BatchFunction": [batches],
    "OneShotIterator": [batches(), iter([X])],
    "UnknownData": [3, "a path", b"bytes", None],
}
REFUSED = ("DistributedData", "OneShotIterator", "UnknownData")
READABLE = [name for name in EXAMPLES if name not in REFUSED]


def subclasses(cls):
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_container_is_registered_has_an_example_here_and_a_row_in_the_docs():
    for module in pkgutil.iter_modules(containers.__path__):
        importlib.import_module(f"{containers.__name__}.{module.name}")
    page = (ROOT / "docs" / "data-rules.md").read_text("utf-8")
    for cls in subclasses(Container):
        where = f"{cls.__name__} of {cls.__module__}"
        assert cls in CONTAINERS, f"{where}: add it to CONTAINERS in data/containers/registry.py"
        assert EXAMPLES.get(cls.__name__), f"{where}: add an example to EXAMPLES in this test"
        row = cls.docs_row()
        assert row in page, f"{where}: add this row to the table in docs/data-rules.md:\n{row}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_kind_is_recognized(name):
    for example in EXAMPLES[name]:
        assert type(container_of(example)).__name__ == name


# A stand-in for a tf.data.Dataset has no graph to copy: it is read in tests/scenarios/data.
@pytest.mark.parametrize("name", [name for name in READABLE if name != "TensorFlowDataset"])
def test_every_reading_starts_from_the_beginning(name):
    for example in EXAMPLES[name]:
        source = Batches(example, batch_size=4)
        first, again = ([batch.x for batch in source] for _ in range(2))
        assert len(first) == len(again) > 0


def test_data_that_can_be_read_only_once_is_left_alone():
    iterator = batches()
    with pytest.raises(bng.DataError, match="only once"):
        Batches(iterator)
    assert sample(iterator).why_empty
    assert len(list(iterator)) == 2


def test_an_error_lists_every_kind_that_is_read():
    with pytest.raises(bng.DataError) as caught:
        readable_container(3)
    for cls in CONTAINERS:
        refused = cls.__name__ not in READABLE
        assert (cls.name.replace("`", "") in str(caught.value)) is not refused


def test_the_docstrings_of_all_functions_that_take_data_describe_it_alike():
    takers = (
        bng.BNGuard,
        bng.Recalibrate,
        bng.advise,
        bng.audit,
        bng.mode_gap,
        bng.precompute_features,
        bng.recalibrate,
    )
    for taker in takers:
        text = " ".join(inspect.getdoc(taker).split())
        assert DATA_ARGUMENT in text, f"{taker.__name__}: {DATA_ARGUMENT!r} is not in its docstring"


def test_an_evenly_spaced_plan_includes_the_first_and_the_last_batch():
    plan = ReadingPlan(limit=3, sampling=Sampling.EVENLY_SPACED_BATCHES)
    assert list(plan.places(9)) == [0, 4, 8]
    assert list(plan.places(2)) == [0, 1]
    assert list(ReadingPlan(limit=3).places(9)) == list(range(9))


def test_a_sample_of_arrays_has_rows_at_random_unless_training_takes_them_in_order():
    shuffled = sample((X, Y), batch_size=4)
    assert not shuffled.ordered
    assert sorted(np.concatenate([b.y for b in shuffled.batches])) == list(range(10))
    assert shuffled.batches[0].y.tolist() != [0, 1, 2, 3]
    ordered = sample((X, Y), batch_size=4, in_order=True)
    assert ordered.ordered
    assert ordered.batches[0].y.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("data", "limit", "samples", "last_rows"),
    [
        ((X, Y), 1, 10, 2),
        (PyDataset(), 2, None, 2),
        (batches, 1, None, None),
        (batches, 2, 10, 5),
        ([(X[:7], Y[:7])], 4, 7, 7),
    ],
)
def test_a_sample_knows_the_last_batch_where_it_can(data, limit, samples, last_rows):
    found = sample(data, batch_size=4, limits=SampleLimits(batches=limit))
    assert (found.samples, found.last_rows) == (samples, last_rows)
    assert len(found.batches) == limit or data is not batches


def test_reading_stops_at_the_limit_of_bytes_and_notes_it():
    found = sample((X, Y), batch_size=2, limits=SampleLimits(max_bytes=8))
    assert len(found.batches) == 1
    assert len(found.notes) == 1
    assert (found.samples, found.last_rows) == (10, 2)


def test_data_that_fails_while_it_is_read_gives_a_reason_and_no_batch():
    def broken():
        yield X, Y
        raise ZeroDivisionError("half way")

    found = sample(broken)
    assert found.batches == []
    assert "ZeroDivisionError: half way" in found.why_empty
    assert sample([]).why_empty
