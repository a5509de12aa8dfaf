"""BNG408: calls with `training=True` after `fit` change the statistics."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders.outside_training import findings_of, passes
from tests.builders.pipelines import rows


def to_the_end(model: Any) -> None:
    passes(model)


def to_the_next_fit(model: Any) -> None:
    passes(model)
    model.fit(*rows(64), batch_size=16, verbose=0)


@pytest.mark.parametrize("program", [to_the_end, to_the_next_fit])
def test_stochastic_passes_over_new_rows_are_found(program: Any) -> None:
    found = findings_of(program)["BNG408"]
    assert found.layers == ("bn",)
    assert found.evidence["calls"] == 5
    assert "outside_training.py:" in found.source
