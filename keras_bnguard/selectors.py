"""Selectors: globs, `re:` regexes, layer classes and predicates over layer paths."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import re
from typing import Any, Callable, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from keras_bnguard.errors import SelectorError
from keras_bnguard.patterns import Pattern

Selector = Union[str, type, Callable[..., bool]]
Selectors = Union[Selector, Sequence[Selector]]


def as_list(selector: Selectors) -> List[Selector]:
    """One selector or several, as a list."""
    if isinstance(selector, (list, tuple, set, frozenset)):
        return list(selector)
    return [selector]  # type: ignore[list-item]


def check_selector(selector: Any) -> None:
    """Find what is wrong with one selector whatever the model.

    Raises:
        SelectorError: it is no text, class or function, or no valid regular expression.
    """
    if isinstance(selector, str):
        if selector in ("", "re:"):
            raise SelectorError(f"selector {selector!r} is empty. Write '*' for all layers.")
        if selector.startswith("re:"):
            _compiled(selector)
    elif not callable(selector):
        raise SelectorError(
            f"{selector!r} is no selector: expected a glob such as 'backbone/*', 're:...', "
            f"a layer class or a function of a layer, got {type(selector).__name__}."
        )


def check_layers(layers: Any) -> None:
    """Find what is wrong with an argument `layers` whatever the model.

    Raises:
        SelectorError: one of its selectors is none, or no valid regular expression.
    """
    for selector in as_list(layers):
        try:
            check_selector(selector)
        except SelectorError as error:
            raise SelectorError(f"layers: {error}") from error.__cause__


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> Pattern:
    try:
        return Pattern(pattern[len("re:") :])
    except (re.error, OverflowError, RecursionError) as error:
        raise SelectorError(
            f"selector {pattern[:80]!r} is not a valid regular expression: {error}. "
            "Write re: followed by a Python regex, for example 're:block[67]_.*'."
        ) from error


def path_matches(pattern: str, path: str, model: str = "") -> bool:
    """Whether a glob or `re:` regex selects `path`.

    A glob must match the whole path, or the whole path of a layer around it
    (``backbone`` selects everything in ``backbone``); ``*`` also crosses ``/``.
    A regex is searched for anywhere in the path. Both also see the path with the
    model's name in front, so ``my_model/backbone/*`` works too.
    """
    names = (path, f"{model}/{path}") if model else (path,)
    if pattern.startswith("re:"):
        found = _compiled(pattern)
        return any(found.found_in(name) for name in names)
    for name in names:
        if fnmatch.fnmatchcase(name, pattern):
            return True
        parts = name.split("/")
        # The model's name alone is no layer: a layer may be called like its model.
        for end in range(1 if name == path else 2, len(parts)):
            if fnmatch.fnmatchcase("/".join(parts[:end]), pattern):
                return True
    return False


def select(
    selector: Selectors,
    candidates: Iterable[Tuple[str, Any]],
    *,
    model: str = "",
    what: str = "layer",
    aliases: Optional[Mapping[str, Sequence[str]]] = None,
) -> Tuple[str, ...]:
    """Paths of the candidates that a selector picks, in the order of the candidates.

    Args:
        selector: a glob or `re:` regex over paths, a layer class, a predicate that takes
            the layer and returns a bool, or a list of those (their union).
        candidates: pairs of a path and the layer there.
        model: name of the model the paths start below.
        what: what the candidates are, for the error message.
        aliases: path -> the other paths of a shared layer, which select it as well. Defaults to
            None: no layer is shared.

    Raises:
        SelectorError: one of the selectors picks nothing, or is of another type.
            The message lists the paths that come nearest.
    """
    pairs = list(candidates)
    others = aliases or {}
    chosen = set()
    for one in as_list(selector):
        check_selector(one)
        if isinstance(one, str):
            matches = {
                path
                for path, _ in pairs
                if any(path_matches(one, p, model) for p in (path, *others.get(path, ())))
            }
        elif isinstance(one, type):
            matches = {path for path, layer in pairs if isinstance(layer, one)}
        else:
            matches = {path for path, layer in pairs if one(layer)}
        if not matches:
            raise SelectorError(_nothing_matched(one, [path for path, _ in pairs], what))
        chosen |= matches
    return tuple(path for path, _ in pairs if path in chosen)


def _nothing_matched(selector: Selector, paths: List[str], what: str) -> str:
    if not paths:
        return f"selector {selector!r} matches no {what}: the model has none."
    text = f"selector {selector!r} matches no {what} of the {len(paths)} in the model."
    if isinstance(selector, str):
        wanted = selector[3:] if selector.startswith("re:") else selector
        plain = wanted.replace("*", "").strip("/")
        near = difflib.get_close_matches(plain, paths, n=3, cutoff=0.4)
        tails = {path.rsplit("/", 1)[-1]: path for path in paths}
        near += [tails[t] for t in difflib.get_close_matches(plain, list(tails), n=3, cutoff=0.4)]
        near = list(dict.fromkeys(near))[:3]
        if near:
            return f"{text} Nearest: {', '.join(near)}."
    return f"{text} The first are: {', '.join(paths[:3])}."
