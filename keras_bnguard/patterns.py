"""Regular expressions whose search takes bounded time, whoever wrote them.

Python's own search tries one way after the other, and a pattern such as `(a+)+$` has 2^n of them.
Here all ways are followed at once: a part of the pattern maps the set of places in the text where
it may begin to the set of places where it may end. Only whether a pattern matches is known.
"""

from __future__ import annotations

import re
import sys
import warnings
from typing import Any, Callable, Dict, FrozenSet, Iterable, List

from keras_bnguard.errors import SelectorError

if sys.version_info >= (3, 11):
    from re import _constants as sre  # type: ignore[attr-defined]
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sre_constants as sre
        import sre_parse as parser

Places = FrozenSet[int]
_Match = Callable[[str, Places, "_Steps"], Places]

MAX_STEPS = 200_000
"""Far more than a pattern that somebody can read takes on the path of a layer."""

MAX_LENGTH = 1000
MAX_NESTING = 100

_ALLOWED_FLAGS = re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.UNICODE


class _Steps:
    """Counts the places that one search visits."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.left = MAX_STEPS

    def take(self, places: Places) -> None:
        self.left -= len(places) + 1
        if self.left < 0:
            raise SelectorError(
                f"selector 're:{self.pattern[:80]}' takes too long. Write it with fewer "
                "repetitions inside repetitions."
            )


class Pattern:
    """A compiled regular expression.

    Args:
        text: in Python's syntax, of at most `MAX_LENGTH` characters. References to groups,
            conditions on groups, atomic groups and possessive repetitions are not supported.

    Raises:
        re.error: the syntax is wrong.
        SelectorError: something in it is not supported.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise SelectorError(
                f"selector 're:{text[:40]}...' has {len(text):,} characters; expected at most "
                f"{MAX_LENGTH:,}."
            )
        re.compile(text)  # Its errors are those people know.
        tree = parser.parse(text)
        flags = tree.state.flags
        if flags & ~_ALLOWED_FLAGS:
            raise _unsupported(text, "the flags a, L and t")
        self.text = text
        self._match = _Compiler(text).sequence(tree, flags)

    def found_in(self, text: str) -> bool:
        """Whether it matches anywhere in a text, as `re.search`.

        Raises:
            SelectorError: it takes more than `MAX_STEPS`.
        """
        return bool(self._match(text, frozenset(range(len(text) + 1)), _Steps(self.text)))


def _unsupported(text: str, what: str) -> SelectorError:
    return SelectorError(
        f"selector 're:{text[:80]}' is not supported: {what} would take unbounded time."
    )


class _Compiler:
    """Turns what Python parsed into functions from places to places."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0

    def sequence(self, tree: Iterable[Any], flags: int) -> _Match:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise _unsupported(self.text, f"groups nested more than {MAX_NESTING} deep")
        parts = [self.part(op, argument, flags) for op, argument in tree]
        self.depth -= 1

        def match(text: str, places: Places, steps: _Steps) -> Places:
            for each in parts:
                if not places:
                    break
                places = each(text, places, steps)
                steps.take(places)
            return places

        return match

    def part(self, op: Any, argument: Any, flags: int) -> _Match:
        if op in _ONE_CHARACTER:
            return _one(_characters(op, argument, flags))
        if op is sre.AT:
            return _at(argument, flags)
        if op is sre.BRANCH:
            return _any_of([self.sequence(each, flags) for each in argument[1]])
        if op is sre.SUBPATTERN:
            _, added, removed, inner = argument
            if added & ~_ALLOWED_FLAGS:
                raise _unsupported(self.text, "the flags a, L and t")
            return self.sequence(inner, (flags | added) & ~removed)
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, inner = argument
            return _repeat(self.sequence(inner, flags), int(least), int(most))
        if op in (sre.ASSERT, sre.ASSERT_NOT):
            direction, inner = argument
            width = inner.getwidth()[0] if direction < 0 else 0
            return _assert(self.sequence(inner, flags), width, op is sre.ASSERT)
        raise _unsupported(self.text, str(op).lower().replace("_", " "))


_ONE_CHARACTER = (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN)


def _one(accepts: Callable[[str], bool]) -> _Match:
    return lambda text, places, steps: frozenset(
        place + 1 for place in places if place < len(text) and accepts(text[place])
    )


def _any_of(branches: Any) -> _Match:
    return lambda text, places, steps: frozenset().union(
        *(each(text, places, steps) for each in branches)
    )


def _repeat(inner: _Match, least: int, most: int) -> _Match:
    def match(text: str, places: Places, steps: _Steps) -> Places:
        for _ in range(least):
            after = inner(text, places, steps)
            if after == places:
                break  # More repetitions lead to the same places.
            places = after
        reached = fresh = places
        for _ in range(most - least):
            fresh = inner(text, fresh, steps) - reached
            if not fresh:
                break
            reached |= fresh
        return reached

    return match


def _assert(inner: _Match, width: int, positive: bool) -> _Match:
    """Whether something follows, or precedes with a fixed width."""

    def match(text: str, places: Places, steps: _Steps) -> Places:
        def is_met(place: int) -> bool:
            start = place - width
            ends = inner(text, frozenset({start}), steps) if start >= 0 else frozenset()
            return (place in ends if width else bool(ends)) is positive

        return frozenset(place for place in places if is_met(place))

    return match


def _at(where: Any, flags: int) -> _Match:
    many = bool(flags & re.MULTILINE)

    def is_word(text: str, place: int) -> bool:
        return 0 <= place < len(text) and _CATEGORIES[sre.CATEGORY_WORD](text[place])

    def is_boundary(text: str, place: int) -> bool:
        return is_word(text, place - 1) is not is_word(text, place)

    def is_start(text: str, place: int) -> bool:
        return place == 0 or (many and text[place - 1] == "\n")

    def is_end(text: str, place: int) -> bool:
        last = place == len(text) or (place == len(text) - 1 and text[place] == "\n")
        return last or (many and text[place] == "\n")

    known: Dict[Any, Callable[[str, int], bool]] = {
        sre.AT_BEGINNING: is_start,
        sre.AT_BEGINNING_STRING: lambda text, place: place == 0,
        sre.AT_END: is_end,
        sre.AT_END_STRING: lambda text, place: place == len(text),
        sre.AT_BOUNDARY: is_boundary,
        sre.AT_NON_BOUNDARY: lambda text, place: bool(text) and not is_boundary(text, place),
    }
    is_met = known[where]
    return lambda text, places, steps: frozenset(p for p in places if is_met(text, p))


_CATEGORIES: Dict[Any, Callable[[str], bool]] = {
    sre.CATEGORY_DIGIT: str.isdecimal,
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_WORD: lambda character: character.isalnum() or character == "_",
    sre.CATEGORY_NOT_DIGIT: lambda character: not character.isdecimal(),
    sre.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    sre.CATEGORY_NOT_WORD: lambda character: not (character.isalnum() or character == "_"),
}


def _is(wanted: str) -> Callable[[str], bool]:
    return lambda character: character == wanted


def _one_of(sets: List[Callable[[str], bool]]) -> Callable[[str], bool]:
    return lambda character: any(each(character) for each in sets)


def _in_any_case(accepts: Callable[[str], bool]) -> Callable[[str], bool]:
    def accepts_one(character: str) -> bool:
        cases = (character, character.lower(), character.upper())
        return any(accepts(each) for each in cases if len(each) == 1)

    return accepts_one


def _characters(op: Any, argument: Any, flags: int) -> Callable[[str], bool]:
    """Whether one character is accepted."""
    if op is sre.ANY:
        return lambda character: bool(flags & re.DOTALL) or character != "\n"
    if op is sre.RANGE:
        low, high = argument
        return lambda character: low <= ord(character) <= high
    if op is sre.CATEGORY:
        return _CATEGORIES[argument]
    if op is sre.IN:
        negated = argument[0][0] is sre.NEGATE
        accepts = _one_of([_characters(each, value, 0) for each, value in argument[negated:]])
    else:
        negated = op is sre.NOT_LITERAL
        accepts = _is(chr(argument))
    if flags & re.IGNORECASE:
        accepts = _in_any_case(accepts)
    return lambda character: accepts(character) is not negated
