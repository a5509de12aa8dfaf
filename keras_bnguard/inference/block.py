"""A `with` block in which BN of a model are forced, compared when it is left."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.values.restore import SavedVariables
from keras_bnguard.errors import FaultBarrier, InferenceNotForcedError
from keras_bnguard.inference.contexts import make_forced_inference
from keras_bnguard.inference.proof import Proof, statistics_of
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import OnFailure, Verification


class ForcedBlock:
    """Context manager: BN of a model are forced inside.

    Args:
        snapshot: the model.
        paths: of the BN.
        on_failure: what happens where one does not run in inference mode.
    """

    def __init__(
        self, snapshot: ModelSnapshot, paths: Sequence[str], on_failure: OnFailure
    ) -> None:
        self._backend, self._proof = snapshot.backend, Proof()
        handles = [handle for handle in snapshot.handles if handle.path in set(paths)]
        self._proof.expect(snapshot.backend, handles, on_failure)
        self._context = make_forced_inference(
            snapshot, paths, obey_graph=False, stop_leaks=False, observer=self._proof
        )
        self._saved = [(handle, self._save(handle)) for handle in handles]

    @property
    def status(self) -> Mapping[str, Verification]:
        """What is known of each BN, by path."""
        return self._proof.status

    def __enter__(self) -> ForcedBlock:
        self._context.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._context.__exit__(*exception)

    def compare(self) -> None:
        """Compare the statistics with those at the start of the block, bit for bit.

        Where every call of a BN was forced, something else has assigned its statistics, as
        `load_weights` does; that is a warning, and they stay.

        Raises:
            InferenceNotForcedError: the statistics of a BN have changed that no call in the block
                went through; they are restored.
        """
        changed = [(handle, saved) for handle, saved in self._saved if _changed(saved)]
        assigned = [
            handle.path
            for handle, _ in changed
            if self.status.get(handle.path) is Verification.VERIFIED
        ]
        if assigned:
            warn_user(
                f"the moving statistics of {', '.join(assigned)} changed inside a block that "
                "forces inference mode, though the calls seen ran in it. Were they assigned, or "
                "did a step run that was traced before the block?"
            )
        failed = [(handle, saved) for handle, saved in changed if handle.path not in assigned]
        try:
            for handle, _ in failed:
                self._proof.fail(
                    handle,
                    "its moving statistics changed without a call that could be forced, as in a "
                    "step that was traced before the block",
                )
        except InferenceNotForcedError:
            for _, saved in failed:
                for each in saved:
                    each.restore()
            raise
        if not changed:
            self._proof.step_done()

    def _save(self, handle: NormHandle) -> List[SavedVariables]:
        with FaultBarrier(goes_on=True, warns=False):  # JAX: the values may be elsewhere.
            return [SavedVariables(self._backend, statistics_of(handle))]
        return []


def _changed(saved: Sequence[SavedVariables]) -> bool:
    with FaultBarrier(goes_on=True, warns=False):
        return any(each.changed() for each in saved)
    return False
