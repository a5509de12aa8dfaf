"""After which training batches `BNGuard(every=...)` checks."""

from __future__ import annotations

from typing import Union

from keras_bnguard.errors import SettingError


class BatchCounter:
    """Counts the batches of a `fit`, when the next one begins.

    The last batch of an epoch is followed by no other one; it counts at the end of the epoch.

    Args:
        every: "epoch", or a check every so many batches.

    Attributes:
        every: the number of batches, 0 for "epoch".

    Raises:
        SettingError: `every` is neither "epoch" nor a positive number.
    """

    def __init__(self, every: Union[str, int]) -> None:
        is_word = isinstance(every, str) and every == "epoch"
        if not is_word and not (type(every) is int and every > 0):
            raise SettingError(
                f"every={every!r}: expected 'epoch' or a positive number of training batches."
            )
        self.every = 0 if isinstance(every, str) else every
        self._count = 0
        self._is_first = True

    def train_start(self) -> None:
        """Count from 0."""
        self._count = 0

    def epoch_start(self) -> None:
        """The next batch is the first of its epoch."""
        self._is_first = True

    def epoch_end(self) -> None:
        """Count the last batch of the epoch."""
        self._count += 1

    def batch_start(self) -> bool:
        """Count the batch before this one, if it is of the same epoch.

        Returns:
            Whether to check what that batch left.
        """
        if not self.every:
            return False
        if self._is_first:
            self._is_first = False
            return False
        self._count += 1
        return self._count % self.every == 0
