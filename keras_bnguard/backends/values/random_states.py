"""The random states of this process, to restore them: Python's, NumPy's and the frameworks'."""

from __future__ import annotations

import random
import sys
from typing import Any, Callable, List, Optional, Tuple

import numpy as np

from keras_bnguard.backends.known_stacks import TENSORFLOW, TORCH

RandomState = Tuple[Callable[[Any], Any], Any]
"""(function that restores a state, the state)."""


def global_states(backend: Optional[Any] = None) -> List[RandomState]:
    """Return the global random states of Python, NumPy and torch.

    Args:
        backend: also those of TensorFlow and of this backend's Keras, which a model draws from.
            Defaults to None.
    """
    states: List[RandomState] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),
    ]
    torch = sys.modules.get(TORCH)
    if torch is not None:
        states.append((torch.set_rng_state, torch.get_rng_state()))
        if torch.cuda.is_initialized():
            states.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    if backend is not None:
        states += [*tensorflow_states(), *backend.values.random_states()]
    return states


def generator_state(thing: Any) -> Optional[RandomState]:
    """Return the state of a random generator of Python, NumPy or torch, None for other things."""
    if isinstance(thing, np.random.Generator):
        generator = thing.bit_generator

        def set_state(state: Any) -> None:
            generator.state = state

        return set_state, generator.state
    if isinstance(thing, np.random.RandomState):
        return thing.set_state, thing.get_state()
    if isinstance(thing, random.Random):
        return thing.setstate, thing.getstate()
    torch = sys.modules.get(TORCH)
    if torch is not None and isinstance(thing, torch.Generator):
        return thing.set_state, thing.get_state()
    return None


def set_seeds(seed: int) -> None:
    """Seed Python, NumPy and torch.

    TensorFlow is not seeded: that would also restart what operations of the user's with a seed
    of their own have drawn from so far.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch = sys.modules.get(TORCH)
    if torch is not None:
        torch.manual_seed(seed)


def tensorflow_states() -> List[RandomState]:
    """The generator that eager operations and new functions take their seeds from."""
    if TENSORFLOW not in sys.modules:
        return []
    from tensorflow.python.eager import context

    generator = getattr(context.context(), "_rng", None)
    if generator is None:
        return []

    def set_state(state: Any) -> None:
        generator.setstate(state)

    return [(set_state, generator.getstate())]
