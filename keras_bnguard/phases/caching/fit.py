"""Run a schedule as one training of several calls of `fit`, some of them on features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from keras_bnguard.backends.global_hooks import enter_fit
from keras_bnguard.backends.patches.joined_fits import JoinedFits
from keras_bnguard.errors import ScheduleError, UnsupportedModelError
from keras_bnguard.features.store import FeatureStore
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.caching.candidates import (
    Candidate,
    find_candidate,
    forces,
    what_forbids,
)
from keras_bnguard.phases.caching.features_of_phase import FeaturesOfPhase
from keras_bnguard.phases.caching.fit_call import FitCall
from keras_bnguard.phases.checks import ready_model
from keras_bnguard.phases.fields import CacheFeatures


@dataclass(frozen=True)
class CacheOptions:
    """The arguments of `PhaseScheduler.fit` about features.

    Attributes:
        cache: which phases train on features.
        folder: for files of features, None for memory or a temporary folder.
        dtype: of the features that are kept, None for that of the trunk.
        verbose: print a line for each phase.
    """

    cache: CacheFeatures
    folder: Any
    dtype: Optional[str]
    verbose: bool

    def __post_init__(self) -> None:
        try:
            np.dtype(self.dtype)
        except TypeError:
            raise ScheduleError(
                f"cache_dtype={self.dtype!r}, expected a type of numbers, such as 'float16'."
            ) from None

    @property
    def required(self) -> bool:
        """Whether a phase with a frozen trunk that cannot be cached is an error."""
        return self.cache is CacheFeatures.REQUIRED


def fit_schedule(
    scheduler: Any,
    model: Any,
    call: FitCall,
    options: CacheOptions,
    callbacks: Any,
    verbose: Any,
) -> Any:
    """Carry out `PhaseScheduler.fit`.

    Args:
        scheduler: the callback.
        model: compiled.
        call: what `fit` was called with.
        options: about features.
        callbacks: of the user.
        verbose: of `fit`.

    Returns:
        The `History`.

    Raises:
        ScheduleError: as in `PhaseScheduler.fit`.
    """
    listed = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    listed = [] if callbacks is None else listed
    snapshot = ready_model(model)
    reason = call.what_forbids() or what_forbids(snapshot)
    if options.cache is not CacheFeatures.NEVER and not reason:
        return CachedFit(scheduler, snapshot, call.as_numpy(), options).run(listed, verbose)
    if options.required:
        raise ScheduleError(
            f"cache_features=True, and no phase can train on features: {reason}. Pass "
            "cache_features='auto' to train on the data where that is so."
        )
    if reason and options.cache is not CacheFeatures.NEVER and options.verbose:
        print(f"PhaseScheduler: no phase is cached: {reason}")
    own = {"validation_data": call.validation_data, "validation_split": call.validation_split}
    given = call.arguments(call.x, None, {**own, "verbose": verbose})
    return model.fit(**given, callbacks=[*listed, scheduler])


class CachedFit:
    """A scheduled training whose phases train on features where they can.

    Args:
        scheduler: the callback that changes phases; its `running` is the run under way.
        snapshot: the model, compiled.
        call: the arguments of `fit`, as NumPy.
        options: about features.
    """

    def __init__(
        self,
        scheduler: Any,
        snapshot: ModelSnapshot,
        call: FitCall,
        options: CacheOptions,
    ) -> None:
        self._scheduler = scheduler
        self._snapshot, self._call, self._options = snapshot, call, options
        self._store = FeatureStore(options.folder, options.dtype)
        self._candidates: List[Candidate] = []

    def run(self, callbacks: List[Any], verbose: Any) -> Any:
        """Train.

        Returns:
            The `History` of all epochs.
        """
        model, backend = self._snapshot.model, self._snapshot.backend
        callbacks, done = enter_fit(backend, model, callbacks)
        settings = self._call.settings
        finished = False
        try:
            _as_fit(
                model,
                lambda given: self._train(given, verbose),
                x=self._call.x,
                y=self._call.y,
                batch_size=self._call.batch_size,
                shuffle=settings.get("shuffle", True),
                epochs=settings["epochs"],
                initial_epoch=settings["initial_epoch"],
                callbacks=[*callbacks, self._scheduler],
                validation_data=self._call.validation_data,
                validation_freq=settings["validation_freq"],
            )
            finished = True
        finally:
            (self._store.remove if finished else self._store.leave)()
            done()
        return model.history

    def _train(self, callbacks: List[Any], verbose: Any) -> None:
        model, settings = self._snapshot.model, self._call.settings
        epochs = settings["epochs"]
        joined = JoinedFits(
            self._snapshot.backend.keras,
            callbacks,
            model,
            verbose=1 if verbose == "auto" else verbose,
            epochs=epochs,
            steps=self._call.steps,
        )
        joined.begin()
        state = self._scheduler.running.state
        self._candidates = [find_candidate(self._snapshot, planned) for planned in state.plan]
        restored = getattr(model, "_initial_epoch", None)
        epoch = int(restored or settings["initial_epoch"])
        while epoch < epochs and not joined.stopped:
            index = state.cursor.phase + bool(state.next_is_due)
            features = self._features(index)
            self._fit_part(joined, features, {"initial_epoch": epoch})
            if joined.next_epoch is None:
                break
            if restored:  # Keras 3 would begin each call of `fit` there.
                model._initial_epoch = None
            epoch = joined.next_epoch
        if restored:
            model._initial_epoch = restored
        joined.end(None)

    def _fit_part(
        self, joined: JoinedFits, features: Optional[FeaturesOfPhase], settings: Dict[str, Any]
    ) -> None:
        model, step = self._snapshot.model, self._snapshot.backend.step
        stand_in = None if features is None else features.stand_in
        x = self._call.x if features is None else features.x
        validation_x = None if features is None else features.validation_x
        arguments = self._call.arguments(x, validation_x, settings)
        joined.next_part(stand_in, self._part_ends)
        step.drop_train_function(model)
        if stand_in is not None:
            stand_in.on()
        try:
            model.fit(**arguments, callbacks=joined.callback_list)
        finally:
            if stand_in is not None:
                stand_in.off()
                step.drop_train_function(model)

    def _part_ends(self) -> bool:
        state = self._scheduler.running.state
        if not state.next_is_due:
            return False
        here = state.cursor.phase
        return any(each.cut is not None for each in self._candidates[here : here + 2])

    def _features(self, index: int) -> Optional[FeaturesOfPhase]:
        """The features of a phase, None where it trains on the data themselves."""
        state, found = self._scheduler.running.state, self._candidates[index]
        planned = state.plan[index]
        reason = found.reason
        if found.cut is not None:
            # The phase is entered at its first epoch; its trunk is frozen from now on.
            state.transition.set_flags(planned.flags)
            inference_only = forces(self._snapshot, planned)
            try:
                return FeaturesOfPhase(
                    self._snapshot, found.cut, self._call, self._store, inference_only
                )
            except UnsupportedModelError as error:
                reason = str(error)
                self._candidates[index] = Candidate(reason=reason)
        if reason and self._options.required:
            raise ScheduleError(
                f"cache_features=True: phase {planned.phase.name!r} cannot train on features: "
                f"{reason}. Pass cache_features='auto' to train it on the data."
            )
        if reason and self._options.verbose:
            print(f"PhaseScheduler: phase {planned.phase.name!r} is not cached: {reason}")
        return None


def _as_fit(model: Any, work: Callable[[List[Any]], None], **arguments: Any) -> None:
    """Do the work in a frame where callbacks look for the `fit` of their model."""

    def fit(
        self: Any,
        x: Any,
        y: Any,
        batch_size: int,
        shuffle: Any,
        epochs: int,
        initial_epoch: int,
        callbacks: List[Any],
        validation_data: Any,
        validation_freq: Any,
    ) -> None:
        work(callbacks)

    fit(model, **arguments)
