"""The `trainable` flags of a model while it trains."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping, Optional, Tuple

from keras_bnguard.backends.patches import source_lines
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.model.trainable_changes import flag_changes
from keras_bnguard.records import Moment, TrainableChange
from keras_bnguard.records.ids import LayerId, TrainableFlags, layer_id


class TrainableTracker:
    """The flags that the compiled step was built with, and those that were assigned since.

    Args:
        compiled: id(layer) -> flag at `compile()`, None where it is not known.
        wanted: id(layer) -> flag that was assigned last, of the model and each of its layers.
        sources: id(layer) -> "file.py:41", the line that assigned it, where known.

    Attributes:
        compiled: see above.
        wanted: see above.
        sources: see above.
    """

    def __init__(
        self,
        compiled: Optional[TrainableFlags],
        wanted: TrainableFlags,
        sources: Mapping[LayerId, str],
    ) -> None:
        self.compiled = compiled
        self.wanted: Dict[LayerId, bool] = dict(wanted)
        self.sources: Dict[LayerId, str] = dict(sources)
        self._pending: Optional[bool] = None

    @property
    def pending(self) -> bool:
        """Whether a flag differs from the one that the compiled step was built with."""
        if self._pending is None:
            compiled = self.compiled or {}
            self._pending = any(self.wanted.get(k, flag) != flag for k, flag in compiled.items())
        return self._pending

    @property
    def differs(self) -> bool:
        """Whether the flags are not exactly those of `compile()`, where these are known."""
        return self.wanted != self.compiled

    def own(self, flags: TrainableFlags) -> Dict[LayerId, bool]:
        """Those of some flags that belong to the model."""
        return {key: flag for key, flag in flags.items() if key in self.wanted}

    def assign(self, flags: TrainableFlags, source: Optional[str]) -> None:
        """Note that flags of the model were assigned at a line of the user's code."""
        self._pending = None
        self.wanted.update(flags)
        if source:
            self.sources.update(dict.fromkeys(flags, source))

    def compile(self, compiled: Optional[TrainableFlags]) -> None:
        """Note that the model was compiled, with these flags."""
        self.compiled, self._pending = compiled, None

    def include(self, layers: Iterable[Any]) -> None:
        """Note layers that may not have been there at the start."""
        self._pending = None
        for layer in layers:
            self.wanted.setdefault(layer_id(layer), bool(layer.trainable))

    def changes(
        self, snapshot: ModelSnapshot, where: Moment, corrupts: bool = False
    ) -> Tuple[TrainableChange, ...]:
        """One record per layer whose flag is not the one it was compiled with.

        Args:
            snapshot: the model.
            where: when that was found.
            corrupts: whether the backend keeps the values in positional lists right now.
        """
        return flag_changes(
            snapshot,
            self.wanted,
            self.compiled,
            where=where,
            sources=self.sources,
            compiled_at=source_lines.compiled_at(snapshot.backend, snapshot.model),
            corrupts=corrupts,
        )
