"""Where a `BackupAndRestore` of the running `fit` will begin, known before it restores."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import Any, Optional

from keras_bnguard.backends.known_stacks import TENSORFLOW
from keras_bnguard.errors import ScheduleError


@dataclass(frozen=True)
class Backup:
    """Where a restored training run will begin.

    A backup that was taken inside an epoch (`save_freq` a number of batches) holds the
    optimizer of that epoch, one taken at an epoch end that of the epoch before.

    Attributes:
        epoch: the first epoch of the restored run.
        midway: whether the values were taken inside that epoch.
    """

    epoch: int
    midway: bool


def read_backup(callback: Any) -> Optional[Backup]:
    """Return what a `BackupAndRestore` will restore, None where there is no backup yet.

    Raises:
        ScheduleError: the files of the backup are broken.
    """
    if hasattr(callback, "_training_metadata_path"):
        return _keras3(callback)
    return _keras2(callback)


def _keras3(callback: Any) -> Optional[Backup]:
    """A kill while Keras wrote may leave half a file; of weights Keras then takes the copy it
    keeps of the backup before, if it keeps one."""
    weights, note = callback._weights_path, callback._training_metadata_path
    if _torn(weights):
        spare = getattr(callback, "_prev_weights_path", None)
        if spare is None or not os.path.exists(spare):
            raise _broken(weights, callback)
        note = callback._prev_training_metadata_path
    if not os.path.exists(note):
        return None
    try:
        with open(note, encoding="utf-8") as file:
            epoch = int(json.load(file)["epoch"])
    except (OSError, ValueError, KeyError, TypeError):
        raise _broken(note, callback) from None
    return Backup(epoch, midway=callback.save_freq != "epoch")


def _torn(path: Any) -> bool:
    if not os.path.exists(path):
        return False
    try:
        import h5py

        with h5py.File(path, "r"):
            return False
    except OSError:
        return True
    except ImportError:
        return False  # Keras will raise.


def _broken(path: Any, callback: Any) -> ScheduleError:
    folder = os.fspath(callback.backup_dir)
    return ScheduleError(
        f"{os.fspath(path)} is broken, as after a kill while it was written: there is nothing to "
        f"go on from. Where {folder} holds files that end in .bkp, copy both over those without; "
        "else remove that folder and the one beside it that ends in -phases, to begin again."
    )


def _keras2(callback: Any) -> Optional[Backup]:
    train = sys.modules[TENSORFLOW].train
    path = train.latest_checkpoint(os.path.join(os.fspath(callback.backup_dir), "chief"))
    if path is None:
        return None
    try:
        reader = train.load_checkpoint(path)
        epoch = int(reader.get_tensor("ckpt_saved_epoch/.ATTRIBUTES/VARIABLE_VALUE"))
    except Exception:
        return None  # Keras will raise with its own message.
    if epoch < 0:
        return None
    midway = callback.save_freq != "epoch"
    return Backup(epoch if midway else epoch + 1, midway)
