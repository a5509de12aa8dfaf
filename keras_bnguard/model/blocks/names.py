"""Which block the name of a layer gives, read from the way its model names layers."""

from __future__ import annotations

import re
from collections import Counter
from typing import List, Optional, Sequence, Tuple

Tokens = Tuple[str, ...]

# `3x3` is a size and `conv2d` a kind; `block2a`, `conv4` and a bare `7` number a unit.
_NO_NUMBER = re.compile(r"\d+x\d+|(conv|maxpool|avgpool|pool|dropout|sepconv)?[123]d", re.I)


class Names:
    """The names of the layers with weights of one container.

    Nothing is looked up: what the names share throughout is the model's own prefix, what comes
    before the last number that is not the end of a name is the block.
    """

    def __init__(self, layers: Sequence[Tuple[str, str]]) -> None:
        """Args: layers: (name, class name) of each layer."""
        named = [split(name) for name, kind in layers if not is_automatic(name, kind)]
        self._wide = _prefix_of_model(named)

    def number_key(self, layers: Sequence[Tuple[str, str]]) -> Tokens:
        """The numbered block that all these layers name, for example ("conv2", "block1")."""
        keys = []
        for name, kind in layers:
            if is_automatic(name, kind):
                continue
            tokens = split(name)
            units = [
                i for i in range(self._own(tokens), len(tokens) - 1) if _numbers_a_unit(tokens[i])
            ]
            keys.append(tokens[: units[-1] + 1] if units else ())
        shared = common_prefix(keys)
        while len(shared) > self._own(shared) and not _numbers_a_unit(shared[-1]):
            shared = shared[:-1]
        return shared if len(shared) > self._own(shared) else ()

    def word_key(self, layers: Sequence[Tuple[str, str]]) -> Tokens:
        """The words all these layers begin with, where no number follows: ("stem",)."""
        if any(is_automatic(name, kind) for name, kind in layers):
            return ()
        names = [split(name) for name, _ in layers]
        shared = common_prefix(names)
        if len(shared) <= self._own(shared):
            return ()
        ends = [tokens[len(shared)] if len(tokens) > len(shared) else "0" for tokens in names]
        return () if any(token.isdigit() for token in ends) else shared

    def _own(self, tokens: Tokens) -> int:
        """How many tokens belong to the model's own prefix."""
        return len(self._wide) if tokens[: len(self._wide)] == self._wide else 0


def split(name: str) -> Tokens:
    """`conv2_block1_0_bn` -> ("conv2", "block1", "0", "bn")."""
    return tuple(token for token in re.split(r"[_/.]+", name) if token)


def is_automatic(name: str, class_name: str) -> bool:
    """Whether Keras made the name: `conv2d`, `conv2d_7`."""
    snake = re.sub(
        r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", class_name)
    )
    return re.fullmatch(re.escape(snake.lower()) + r"(_v\d+)?(_\d+)?", name) is not None


def common_prefix(many: Sequence[Tokens]) -> Tokens:
    """The tokens all of them begin with."""
    if not many:
        return ()
    first, end = min(many), 0
    while end < len(first) and all(len(t) > end and t[end] == first[end] for t in many):
        end += 1
    return first[:end]


def _prefix_of_model(named: List[Tokens]) -> Tokens:
    wide: Tokens = ()
    while True:
        inside = [t for t in named if t[: len(wide)] == wide and len(t) > len(wide) + 1]
        token = _most_common([t[len(wide)] for t in inside], 0.6 * len(named))
        if token is None:
            return wide
        follows = [t[len(wide) + 1] for t in inside if t[len(wide)] == token]
        if sum(t.isdigit() for t in follows) >= 0.5 * len(follows):
            return wide
        wide = (*wide, token)


def _most_common(tokens: Sequence[str], least: float) -> Optional[str]:
    if not tokens:
        return None
    token, count = Counter(tokens).most_common(1)[0]
    return token if count > least else None


def _numbers_a_unit(token: str) -> bool:
    return any(c.isdigit() for c in token) and not _NO_NUMBER.fullmatch(token)
