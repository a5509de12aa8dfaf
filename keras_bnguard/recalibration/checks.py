"""What `recalibrate` refuses: places where it cannot see, and moments that are no numbers."""

from __future__ import annotations

from typing import Collection, Mapping

from keras_bnguard.backends.layer_behaviour import loops_over_time
from keras_bnguard.errors import DataError, UnsupportedModelError
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.rules.text import some
from keras_bnguard.statistics.moments import InputMoments

MIN_VALUES = 2
"""Values a channel from which a variance can be computed."""


def check_visible(snapshot: ModelSnapshot, paths: Collection[str]) -> None:
    """Refuse BN in cells of recurrent layers.

    Such a BN runs once a time step, inside a loop of the backend: most keep what it gets there,
    and torch runs the first step twice.
    """
    keras = snapshot.backend.keras
    loops = [path for path, layer in snapshot.layers if loops_over_time(keras, layer)]
    inside = [path for path in paths if any(path.startswith(f"{loop}/") for loop in loops)]
    if inside:
        raise UnsupportedModelError(
            f"{some(tuple(inside))} runs inside the cell of a recurrent layer, once a time step, "
            "where its inputs cannot be read. Leave it out: name the other BN by layers=."
        )


def check_moments(moments: Mapping[str, InputMoments]) -> None:
    """Refuse moments that no statistics can be made of, before they are assigned.

    Those of a single value have variance 0, which makes inference divide by sqrt(epsilon).

    Raises:
        DataError: moments are NaN or infinite, or of one value a channel; names the BN.
    """
    bad = tuple(path for path, item in moments.items() if not item.finite)
    if bad:
        raise DataError(
            f"what reaches {some(bad)} has NaN or infinite moments over this data, so no "
            "statistics were assigned. Search the data for NaN or inf, then in the weights."
        )
    one_value = tuple(path for path, item in moments.items() if item.count < MIN_VALUES)
    if one_value:
        raise DataError(
            f"one value a channel reaches {some(one_value)} over this data, and its variance would "
            "be 0, so no statistics were assigned. Pass all rows that training has, or a few "
            "hundred of them."
        )
