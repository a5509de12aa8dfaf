"""Read a few batches of the user's data once, for the data rules."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, List, Optional, Tuple

from keras_bnguard.data import tree
from keras_bnguard.data.batch import Batch
from keras_bnguard.data.batches import Batches
from keras_bnguard.data.containers.base import Sampling
from keras_bnguard.data.containers.registry import container_of
from keras_bnguard.errors import DataError


@dataclass(frozen=True)
class SampleLimits:
    """When reading stops.

    Attributes:
        batches: batches at most. Defaults to 16; the rule on shuffling needs 8.
        seconds: no new batch is begun after so long. Defaults to 30.
        max_bytes: nor after so many bytes of inputs. Defaults to 512 MiB.
    """

    batches: int = 16
    seconds: float = 30.0
    max_bytes: int = 512 * 2**20


@dataclass
class DataSample:
    """Batches that were read once, as NumPy, and what is known of the data they came from.

    Attributes:
        kind: class of the data.
        batches: what was read.
        ordered: whether the batches come as training gets them.
        last_rows: rows of the last batch of the data, None where unknown.
        samples: rows of the whole data, None where unknown.
        why_empty: why there are no batches; empty where there are.
        notes: what was cut short, and why.
    """

    kind: str
    batches: List[Batch] = field(default_factory=list)
    ordered: bool = False
    last_rows: Optional[int] = None
    samples: Optional[int] = None
    why_empty: str = ""
    notes: Tuple[str, ...] = ()


def sample(
    data: Any,
    *,
    batch_size: Optional[int] = None,
    in_order: bool = False,
    limits: SampleLimits = SampleLimits(),
) -> DataSample:
    """Read some batches of anything `fit` takes; never raises and has no side effect.

    Args:
        data: anything; a one-shot iterator is not touched, and `why_empty` gives the reason.
        batch_size: rows per batch where data is arrays. Defaults to None: 32.
        in_order: arrays are trained on in the order they are in (`fit(shuffle=False)`).
            Defaults to False.
        limits: when to stop reading.
    """
    found = DataSample(type(data).__name__)
    try:
        _read(data, found, batch_size or 32, in_order, limits)
    except DataError as error:
        found.why_empty = str(error)
    except Exception as error:
        found.why_empty = f"reading the data failed: {one_line(error)}"
    if found.why_empty:
        found.batches = []
    return found


def _read(
    data: Any, found: DataSample, batch_size: int, in_order: bool, limits: SampleLimits
) -> None:
    container = container_of(data)
    found.ordered = container.keeps_training_order or in_order
    sampling = Sampling.EVENLY_SPACED_BATCHES if found.ordered else Sampling.RANDOM_ROWS
    started, size = time.monotonic(), 0
    # One batch more than is kept shows whether the data ends there.
    source = Batches(data, batch_size=batch_size, limit=limits.batches + 1, sampling=sampling)
    for batch in source:
        if len(found.batches) == limits.batches:
            found.last_rows = batch.rows if container.reaches_the_end else None
            break
        found.batches.append(batch)
        size += sum(int(getattr(leaf, "nbytes", 0)) for leaf in tree.leaves(batch.x))
        spent = time.monotonic() - started
        if size > limits.max_bytes or spent > limits.seconds:
            found.notes += (
                f"read {len(found.batches)} batches only: {size / 2**20:.0f} MiB in {spent:.1f} s",
            )
            break
    else:
        found.last_rows = found.batches[-1].rows
        found.samples = sum(batch.rows for batch in found.batches)
    if container.rows:
        found.samples, found.last_rows = container.rows, container.last_rows(batch_size)


def one_line(error: BaseException) -> str:
    """An exception in one line."""
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text[:200]}"
