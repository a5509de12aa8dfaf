"""The nouns that travel: frozen, free of frameworks, with the few answers they compute."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import pickle
import re

import pytest

from keras_bnguard import records
from keras_bnguard.records import (
    FACT_DESCRIPTIONS,
    DataFacts,
    DataPart,
    DriftSnapshot,
    Facts,
    Finding,
    Moment,
    MomentKind,
    Outcome,
    OutcomeStatus,
    RunFacts,
    Severity,
)
from keras_bnguard.report.report import Report
from tests.builders.facts import inventory, norm, stack
from tests.builders.reports import epoch_end

RECORDS = [
    thing
    for thing in vars(records).values()
    if isinstance(thing, type) and dataclasses.is_dataclass(thing)
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_record_is_frozen_and_has_a_doc(record):
    assert record.__dataclass_params__.frozen
    assert not record.__doc__.startswith(f"{record.__name__}(")


def described(cls):
    """Names that the Attributes of a docstring describe."""
    _, _, attributes = inspect.getdoc(cls).partition("Attributes:\n")
    return re.findall(r"^    (\w+): \S", attributes, flags=re.M)


@pytest.mark.parametrize("record", [*RECORDS, Report], ids=lambda record: record.__name__)
def test_the_docstring_describes_each_field_in_order(record):
    assert described(record) == [field.name for field in dataclasses.fields(record)]


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        norm("bn").path = "other"


def test_frozen_counts_the_own_flag_and_those_above():
    assert not norm("bn").frozen
    assert norm("bn", trainable=False).frozen
    assert norm("bn", frozen_ancestors=("base",)).frozen


def test_an_inventory_finds_a_bn_by_its_path():
    known = inventory(norm("a"), norm("b"))
    assert known.norm("b") is known.norms[1]
    with pytest.raises(KeyError, match="c"):
        known.norm("c")


@pytest.mark.parametrize("name", FACT_DESCRIPTIONS)
def test_facts_know_which_of_them_are_there(name):
    known = Facts(**{name: DataFacts() if name == "data" else {}})
    assert [each for each in FACT_DESCRIPTIONS if known.has(each)] == [name]


def test_every_fact_has_a_description():
    assert list(FACT_DESCRIPTIONS) == [field.name for field in dataclasses.fields(Facts)]


def test_batches_that_could_not_be_read_are_not_there():
    known = Facts(data=DataFacts(missing={DataPart.BATCHES: "no batch came out"}))
    assert not known.has("data")
    assert known.data.unreadable == "no batch came out"


def test_the_total_drift_is_that_of_the_bn_that_drifted_most():
    assert DriftSnapshot(epoch_end(0), 0, 1, {"a": 0.1, "b": 2.0}, {"a": 9.0}).total == 2.0
    assert DriftSnapshot(epoch_end(0), 0, 1, {}).total == 0.0
    for values in ({"a": float("nan"), "b": 2.0}, {"b": 2.0, "a": float("nan")}):
        assert math.isnan(DriftSnapshot(epoch_end(0), 0, 1, values).total)


def test_a_report_lists_codes_once_and_which_rules_were_skipped():
    def finding(code):
        return Finding(code, "x", Severity.ERROR, (), "m", "f")

    report = Report(
        "model",
        None,
        (finding("BNG101"), finding("BNG404"), finding("BNG101")),
        (
            Outcome("BNG101", OutcomeStatus.FIRED),
            Outcome("BNG601", OutcomeStatus.SKIPPED, "needs O"),
        ),
    )
    assert report.codes == ("BNG101", "BNG404")
    assert report.skipped == (Outcome("BNG601", OutcomeStatus.SKIPPED, "needs O"),)


def test_records_survive_pickle_and_copies():
    report = Report(
        "m", stack(), modes=(), drift=(DriftSnapshot(epoch_end(0), 0, 1, {"a": 0.5}, {"a": 0.1}),)
    )
    assert pickle.loads(pickle.dumps(report)) == copy.deepcopy(report) == report


@pytest.mark.parametrize(
    ("moment", "text", "phrase"),
    [
        (Moment(MomentKind.EPOCH_END, 3), "end of epoch 4", "at end of epoch 4"),
        (Moment(MomentKind.STEP, 8), "step 8", "at step 8"),
        (Moment(MomentKind.STEP_START), "before a step", "before a step"),
        (Moment(MomentKind.INSIDE_FIT), "inside fit", "inside fit"),
    ],
)
def test_a_moment_is_described_alone_and_in_a_sentence(moment, text, phrase):
    assert str(moment) == text
    assert moment.from_zero == text.replace("epoch 4", "epoch 3")
    assert moment.phrase == phrase


def test_a_run_of_which_nothing_is_known_claims_nothing():
    known = RunFacts()
    assert (known.steps, known.called, known.recompiled) == (0, False, None)
    assert not known.trainable_changes
    assert not known.statistics_changes
    assert not known.calls


def test_a_stack_and_a_finding_read_well():
    assert str(stack("k3-jax")) == "keras 3.15.1 on jax"
    assert str(Finding("BNG101", "name", Severity.ERROR, (), "what", "do")) == "BNG101 name: what"
