"""Keras's own progress bar over long work."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Iterable, Iterator, Optional, TypeVar, Union

from keras_bnguard.errors import SettingError

Item = TypeVar("Item")
Verbose = Union[str, int]
"""As `fit` takes it: 0 is silent, 1 a bar, 2 one line at the end, "auto" a bar on a terminal."""


def check_verbose(verbose: Verbose) -> int:
    """What a `verbose` means here: 0, 1 or 2.

    Raises:
        SettingError: it is nothing that `fit` takes.
    """
    if verbose == "auto":
        return int(_is_watched())
    if isinstance(verbose, bool) or verbose not in (0, 1, 2):
        raise SettingError(f"verbose={verbose!r}: expected 'auto', 0, 1 or 2, as in fit.")
    return int(verbose)


def progress(
    keras: Any, items: Iterable[Item], verbose: int, total: Optional[int], unit: str
) -> Iterator[Item]:
    """Yield items, and show how many are done on the standard output.

    Args:
        keras: the Keras whose `Progbar` is used.
        items: the work.
        verbose: 0, 1 or 2.
        total: how many there will be, None where that is not known.
        unit: what one is called.
    """
    bar = None
    with contextlib.suppress(Exception):  # A closed standard output is no reason to stop.
        bar = keras.utils.Progbar(total, verbose=verbose, unit_name=unit) if verbose else None
    done = 0
    for item in items:
        yield item
        done += 1
        if bar is not None:
            with contextlib.suppress(Exception):
                bar.update(done, finalize=False if done != total else None)
    if bar is not None and done and done != total:
        with contextlib.suppress(Exception):
            bar.update(done, finalize=True)


def _is_watched() -> bool:
    """Whether a person reads the standard output: on a terminal or in a notebook."""
    if type(sys.stdout).__module__.split(".", 1)[0] == "ipykernel":
        return True
    try:
        return bool(sys.stdout.isatty())
    except (AttributeError, ValueError):
        return False
