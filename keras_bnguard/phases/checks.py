"""Whether a model can be scheduled."""

from __future__ import annotations

from typing import Any

from keras_bnguard.errors import ScheduleError
from keras_bnguard.model.snapshot import Survey, take_inventory


def ready_model(model: Any) -> Survey:
    """The survey of a model that can be trained at once.

    Raises:
        ScheduleError: it is not compiled, or not built.
    """
    if getattr(model, "optimizer", None) is None:
        raise ScheduleError(
            "PhaseScheduler needs a compiled model: call model.compile(...) before fit."
        )
    survey = built_model(model)
    survey.engine.check_one_rate(model)
    return survey


def built_model(model: Any) -> Survey:
    """The survey of a model that has its weights.

    Raises:
        ScheduleError: it is not built.
    """
    survey = take_inventory(model)
    if not survey.inventory.built or any(not n.built for n in survey.inventory.norms):
        raise ScheduleError(
            "PhaseScheduler needs a built model: call it on one batch, or model.build(...), first."
        )
    return survey
