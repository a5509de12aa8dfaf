"""Whether a model can be scheduled."""

from __future__ import annotations

from typing import Any

from keras_bnguard.errors import ScheduleError
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot


def ready_model(model: Any) -> ModelSnapshot:
    """The survey of a model that can be trained at once.

    Raises:
        ScheduleError: it is not compiled, or not built.
    """
    if getattr(model, "optimizer", None) is None:
        raise ScheduleError(
            "PhaseScheduler needs a compiled model: call model.compile(...) before fit."
        )
    snapshot = built_model(model)
    snapshot.backend.optimizer.check_one_rate(model)
    return snapshot


def built_model(model: Any) -> ModelSnapshot:
    """The survey of a model that has its weights.

    Raises:
        ScheduleError: it is not built.
    """
    snapshot = take_snapshot(model)
    if not snapshot.inventory.built or any(not n.built for n in snapshot.inventory.norms):
        raise ScheduleError(
            "PhaseScheduler needs a built model: call it on one batch, or model.build(...), first."
        )
    return snapshot
