"""How many values per channel a BN gets from one batch: settings, data, an observed step."""

from __future__ import annotations

import pytest

from keras_bnguard.records import DataPart
from keras_bnguard.rules.batch_sizes import BatchSizes
from tests.builders.facts import norm, reached, run, sampled, site

BN = norm("bn")
SYNCHRONIZED = norm("bn", synchronized=True)


def observed(*sites):
    return run(calls={"bn": sites})


def sizes(run=None, data=None, fit_settings=None):
    return BatchSizes(run, data, fit_settings)


@pytest.mark.parametrize(
    ("data", "fit_settings", "replicas"),
    [
        (None, None, 1),
        (None, {}, 1),
        (None, {"replicas": None}, 1),
        (None, {"replicas": 4}, 4),
        (sampled(replicas=2), {"replicas": 4}, 2),
    ],
)
def test_replicas_are_those_of_the_data_then_those_of_fit(data, fit_settings, replicas):
    assert sizes(data=data, fit_settings=fit_settings).replicas == replicas


@pytest.mark.parametrize(
    ("data", "fit_settings", "rows"),
    [
        (None, None, None),
        (None, {"batch_size": 8}, 8),
        (sampled(full_rows=32), {"batch_size": 8}, 8),
        (sampled(full_rows=32), {"batch_size": None}, 32),
        (sampled(full_rows=32, ordered=False), {}, 32),
        (sampled(full_rows=32, ordered=False), None, None),
        (sampled(full_rows=32, missing={DataPart.BATCHES: "a generator"}), {}, None),
        (sampled(full_rows=0), {}, None),
    ],
)
def test_rows_are_those_of_fit_then_those_of_the_data(data, fit_settings, rows):
    assert sizes(data=data, fit_settings=fit_settings).rows == rows


def test_values_of_one_row_come_from_the_data_then_from_the_largest_call():
    calls = observed(site(values_per_row=3), site(values_per_row=5), site(values_per_row=None))
    assert sizes().values_per_row(BN) is None
    assert sizes(run=observed(site())).values_per_row(BN) is None
    assert sizes(run=calls).values_per_row(BN) == 5.0
    assert sizes(run=calls, data=sampled(reached("bn"))).values_per_row(BN) == 8.0
    assert sizes(run=calls, data=sampled(reached("other"))).values_per_row(BN) == 5.0


@pytest.mark.parametrize(
    ("layer", "batch_size", "replicas", "values"),
    [
        (BN, 32, 1, 160.0),
        (BN, 32, 4, 40.0),
        (BN, 9, 2, 20.0),  # four whole rows a replica
        (BN, 2, 4, 5.0),  # one row at the least
        (SYNCHRONIZED, 32, 4, 160.0),
    ],
)
def test_values_of_a_batch_are_rows_of_a_replica_times_values_of_a_row(
    layer, batch_size, replicas, values
):
    calls = observed(site(values_per_row=5))
    known = sizes(run=calls, fit_settings={"batch_size": batch_size, "replicas": replicas})
    assert known.values(layer) == values


def test_without_rows_the_values_measured_on_ordered_data_count():
    def measured(**settings):
        return sizes(data=sampled(reached("bn", values=256.0), full_rows=0, **settings))

    assert measured(replicas=2).values(BN) == 256.0
    assert measured(replicas=2).values(SYNCHRONIZED) == 512.0
    assert measured(ordered=False).values(BN) is None


def test_without_rows_and_data_the_largest_observed_call_counts():
    calls = observed(
        site(values_per_channel=64), site(values_per_channel=16), site(values_per_channel=None)
    )
    assert sizes(run=calls).values(BN) == 64.0
    assert sizes().values(BN) is None
