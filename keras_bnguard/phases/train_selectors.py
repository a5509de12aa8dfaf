"""Which layers a phase trains: selectors that count from the end of the model, and all others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, List, Sequence, Set, Tuple, Type, Union

from keras_bnguard.errors import ScheduleError, SelectorError
from keras_bnguard.model.blocks.finder import find_blocks
from keras_bnguard.model.blocks.head import new_layers
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.fields import is_whole, plain
from keras_bnguard.selectors import Selector, as_list, check_selector, select


@dataclass(frozen=True)
class CountingSelector(ABC):
    """Selects a number of parts from the end of the model.

    Args:
        count: how many, 1 or more.

    Attributes:
        key: its name in YAML.

    Raises:
        ScheduleError: `count` is not a whole number of 1 or more.
    """

    key: ClassVar[str] = ""

    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", plain(self.count))
        if not is_whole(self.count) or self.count < 1:
            raise ScheduleError(
                f"{type(self).__name__}(count={self.count!r}) selects nothing, expected 1 or more."
            )

    @abstractmethod
    def paths(self, snapshot: ModelSnapshot) -> Sequence[str]:
        """Paths of the layers it selects in a model."""

    def as_dict(self) -> Dict[str, int]:
        """Its form in YAML."""
        return {self.key: self.count}


@dataclass(frozen=True)
class LastLayers(CountingSelector):
    """Selects the last `count` layers with weights, in the order of the model.

    A BN counts as a layer; layers without weights do not.

    Args:
        count: how many layers, 1 or more.

    Raises:
        ScheduleError: `count` is not a whole number of 1 or more.
    """

    key: ClassVar[str] = "last_layers"

    def paths(self, snapshot: ModelSnapshot) -> Sequence[str]:
        return [path for path, _ in layers_with_weights(snapshot)][-self.count :]


@dataclass(frozen=True)
class LastBlocks(CountingSelector):
    """Selects the last `count` blocks of the model.

    A block is a residual block, or a run of layers whose names share a prefix; a convolution and
    its BN are in the same block. See `keras_bnguard.model.blocks.finder`.

    Args:
        count: how many blocks, 1 or more.

    Raises:
        ScheduleError: `count` is not a whole number of 1 or more.
    """

    key: ClassVar[str] = "last_blocks"

    def paths(self, snapshot: ModelSnapshot) -> Sequence[str]:
        return [path for block in find_blocks(snapshot)[-self.count :] for path in block.paths]


SELECTORS: Tuple[Type[CountingSelector], ...] = (LastLayers, LastBlocks)
"""Every selector of this module that can be written by name, in Python and in YAML."""

TrainSelector = Union[Selector, CountingSelector]
TrainSelectors = Union[TrainSelector, Sequence[TrainSelector]]


def check_train(train: Any) -> None:
    """Find what is wrong with `train` whatever the model.

    Raises:
        ScheduleError: it is empty.
        SelectorError: one of its selectors is none, or no valid regular expression.
    """
    listed = [] if train is None else as_list(train)
    if not listed:
        raise ScheduleError(
            f"train={train!r} selects nothing. Give a glob on layer paths, a class, "
            'LastLayers(20), LastBlocks(2), or a list of these; "*" trains everything.'
        )
    for selector in listed:
        if not isinstance(selector, CountingSelector):
            try:
                check_selector(selector)
            except SelectorError as error:
                raise SelectorError(f"train: {error}") from error.__cause__


def layers_with_weights(snapshot: ModelSnapshot) -> List[Tuple[str, Any]]:
    """(path, layer) of every layer that owns weights, in the order of the model."""
    backend = snapshot.backend
    return [(path, layer) for path, layer in snapshot.layers if backend.graph.owns_weights(layer)]


def choose_layers(snapshot: ModelSnapshot, train: Any, phase: str) -> Set[str]:
    """Paths of the layers that `train` selects, with everything inside them.

    Args:
        snapshot: a built model.
        train: what `Phase` takes.
        phase: its name, for errors.

    Raises:
        SelectorError: a selector matches no layer; lists near misses.
    """
    tops: Set[str] = set()
    aliases = snapshot.aliases
    for selector in as_list(train):
        if isinstance(selector, CountingSelector):
            tops.update(selector.paths(snapshot))
            continue
        try:
            name = snapshot.inventory.model
            tops.update(select(selector, snapshot.layers, model=name, aliases=aliases))
        except SelectorError as error:
            raise SelectorError(f"phase {phase!r}: {error}{_about_head(snapshot)}") from None
    return tops | {
        path
        for path, _ in snapshot.layers
        for each in (path, *aliases.get(path, ()))
        if not tops.isdisjoint(_ancestors(each))
    }


def _about_head(snapshot: ModelSnapshot) -> str:
    """Which layers of the model are new, for a user whose selector missed them."""
    head = new_layers(snapshot)
    if not head:
        return ""
    listed = ", ".join(head[:5]) + (", ..." if len(head) > 5 else "")
    return (
        f" Above the backbone are: {listed}. PhaseScheduler.fine_tune(model) finds and trains "
        "these first, whatever their names."
    )


def _ancestors(path: str) -> List[str]:
    """The path, and the paths of the layers it is in."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
