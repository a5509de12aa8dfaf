"""After which batches `BNGuard(every=...)` checks."""

from __future__ import annotations

import pytest

from keras_bnguard.errors import SettingError
from keras_bnguard.guard.batch_counter import BatchCounter


def checked_batches(counter, epochs, batches):
    """(epoch, batch) of each batch that is checked before the next one begins."""
    found = []
    counter.train_start()
    for epoch in range(epochs):
        counter.epoch_start()
        for batch in range(batches):
            if counter.batch_start():
                found.append((epoch, batch - 1))
        counter.epoch_end()
    return found


def test_every_so_many_batches_are_counted_over_epochs():
    assert checked_batches(BatchCounter(2), 2, 3) == [(0, 1), (1, 0)]


def test_the_last_batch_of_an_epoch_is_checked_at_its_end():
    assert checked_batches(BatchCounter(1), 2, 3) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_with_epoch_no_batch_is_checked():
    counter = BatchCounter("epoch")
    assert counter.every == 0
    assert not checked_batches(counter, 2, 3)


def test_a_second_training_counts_from_zero():
    counter = BatchCounter(2)
    assert checked_batches(counter, 1, 4) == checked_batches(counter, 1, 4)


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "batch", None])
def test_anything_else_is_an_error(every):
    with pytest.raises(SettingError):
        BatchCounter(every)
