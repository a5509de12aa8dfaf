"""Join the pieces of a cut model into blocks; plain records, no Keras."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from keras_bnguard.model.blocks.names import Names, Tokens, split

# Pieces are joined by shared words alone ("stem_conv", "stem_out") up to this many layers.
_MOST_BY_WORDS = 16


@dataclass(frozen=True)
class Part:
    """A layer that owns weights.

    Attributes:
        path: its path.
        class_name: the name of its class.
        norm: it normalizes.
        parameters: how many values of it can train.
    """

    path: str
    class_name: str
    norm: bool
    parameters: int


@dataclass(eq=False)
class Piece:
    """Layers that one cut left together.

    Attributes:
        parts: the layers, in execution order.
        container: path of the sub-model they are in.
        hint: a name where their own give none.
        before: the piece before, if this one must stay with it.
        with_next: whether this piece must stay with the one after it.
        title: the block that the names of the layers give.
    """

    parts: List[Part]
    container: str
    hint: str = ""
    before: Optional[Piece] = None
    with_next: bool = False
    title: Tokens = ()

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def all_norms(self) -> bool:
        return all(part.norm for part in self.parts)

    @property
    def waits(self) -> bool:
        """Whether it is of no use without the piece after it.

        So is a depthwise convolution, and a layer of which nothing can train.
        """
        others = [part for part in self.parts if not part.norm]
        lone = bool(others) and all(p.class_name.startswith("DepthwiseConv") for p in others)
        return self.with_next or lone or not self.parameters

    @property
    def first(self) -> str:
        """Path of the layer that stands for the piece."""
        useful = [p.path for p in self.parts if p.parameters and not p.norm]
        return (useful or [self.parts[0].path])[0]

    @property
    def name(self) -> str:
        front = f"{self.container}/" if self.container else ""
        return front + self._spelled() if self.title else self.hint or self.first

    def _spelled(self) -> str:
        """The title with the separators that the layers' names have."""
        known = (name for name, _ in self.names() if split(name)[: len(self.title)] == self.title)
        found = re.match(r"[_/.]*" + r"[_/.]+".join(map(re.escape, self.title)), next(known, ""))
        return found.group() if found else "_".join(self.title)

    def names(self) -> List[Tuple[str, str]]:
        """(name below the container, class name) of the layers that can train."""
        start = len(self.container) + 1 if self.container else 0
        return [(p.path[start:], p.class_name) for p in self.parts if p.parameters]

    def add(self, other: Piece) -> None:
        """Take in the layers of another piece; the larger of the two gives the name."""
        mine, theirs = (self.parameters, self.title), (other.parameters, other.title)
        self.title = max((mine, theirs), key=lambda each: (bool(each[1]), each[0]))[1]
        self.hint = self.hint or other.hint
        self.with_next = self.with_next and other.with_next
        self.parts += other.parts


def join(pieces: List[Piece]) -> List[Piece]:
    """Pieces that belong together as one, then neighbours to which names give one block."""
    names = _names_by_container(pieces)
    for piece in pieces:
        piece.title = names[piece.container].number_key(piece.names())
    return _join_by_name(_join_by_need(pieces), names)


def _join_by_need(pieces: List[Piece]) -> List[Piece]:
    whole: List[Piece] = []
    home: Dict[int, Piece] = {}
    for piece in pieces:
        target = None if piece.before is None else home.get(id(piece.before))
        ahead = whole[-1] if whole else None
        if ahead is not None and ahead.waits:
            if target is None or target is ahead:
                ahead.with_next = piece.with_next
                target = ahead
            else:
                # The piece in front waits for this one, wherever this one goes.
                target.add(whole.pop())
                home.update({key: target for key, value in home.items() if value is ahead})
        if target is None:
            whole.append(piece)
        else:
            target.add(piece)
        home[id(piece)] = target or piece
    return whole


def _join_by_name(pieces: List[Piece], names: Dict[str, Names]) -> List[Piece]:
    found: List[Piece] = []
    for piece in pieces:
        if found and _one_block(found[-1], piece, names):
            found[-1].add(piece)
        else:
            found.append(piece)
    for piece in found:
        own = names[piece.container]
        piece.title = own.number_key(piece.names()) or piece.title or own.word_key(piece.names())
    return found


def _one_block(one: Piece, other: Piece, names: Dict[str, Names]) -> bool:
    if one.container != other.container:
        return False
    known = names[one.container]
    keys = known.number_key(one.names()), known.number_key(other.names())
    if any(keys):
        return keys[0] == keys[1]
    few = len(one.parts) + len(other.parts) <= _MOST_BY_WORDS
    return few and bool(known.word_key(one.names() + other.names()))


def _names_by_container(pieces: List[Piece]) -> Dict[str, Names]:
    layers: Dict[str, List[Tuple[str, str]]] = {}
    for piece in pieces:
        layers.setdefault(piece.container, []).extend(piece.names())
    return {container: Names(found) for container, found in layers.items()}
