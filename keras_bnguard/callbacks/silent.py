"""The guard that nobody put into `fit` themselves: it leaves logs and History alone."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from keras_bnguard.callbacks.guard import BNGuard


class SilentGuard(BNGuard):
    """`BNGuard` without `logs["bn_drift"]`, so that progress bars and History stay as they were."""

    def on_epoch_end(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        super().on_epoch_end(epoch, None)
