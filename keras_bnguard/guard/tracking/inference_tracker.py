"""How the BN of a model are called in its first inference pass."""

from __future__ import annotations

from typing import Optional

from keras_bnguard.backends.patches.inference_tracer import InferenceTracer
from keras_bnguard.model.expected_mode import did_run
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import InferencePass, Moment, NormKind, RunMode


class InferenceTracker:
    """Traces the first pass that shows a call; later ones are left alone.

    Args:
        snapshot: the model.
    """

    def __init__(self, snapshot: ModelSnapshot) -> None:
        self._snapshot = snapshot
        self._open: Optional[InferenceTracer] = None
        self._moment: Optional[Moment] = None
        self.seen: Optional[InferencePass] = None

    def begin(self, moment: Moment) -> None:
        """A pass begins.

        Args:
            moment: which pass it is.
        """
        if self.seen is None and self._open is None:
            shot = self._snapshot
            self._moment = moment
            self._open = InferenceTracer(shot.backend, shot.model, shot.handles, shot.paths)
            self._open.__enter__()

    def end(self) -> Optional[InferencePass]:
        """The pass has ended; safe to call twice.

        Returns:
            What it showed, None where it showed nothing.

        Raises:
            Exception: an internal error inside the pass.
        """
        tracer = self.close()
        if tracer is None or self._moment is None:
            return None
        if tracer.barrier.error is not None:
            raise tracer.barrier.error
        if not tracer.sites:
            return None
        ran = {
            norm.path: tracer.written[norm.path]
            for norm in self._snapshot.inventory.norms
            if norm.path in tracer.written
            and norm.kind is NormKind.KERAS
            and did_run(norm, tracer.sites.get(norm.path)) is RunMode.TRAINING
        }
        self.seen = InferencePass(self._moment, ran)
        return self.seen

    def close(self) -> Optional[InferenceTracer]:
        """Stop tracing, also where the pass was left by an exception; safe to call twice."""
        tracer, self._open = self._open, None
        if tracer is not None:
            tracer.__exit__()
        return tracer
