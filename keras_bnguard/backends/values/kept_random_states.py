"""The random states of this process as plain values, to write to a file and to read again."""

from __future__ import annotations

import random
import sys
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from keras_bnguard.backends.known_stacks import TORCH
from keras_bnguard.backends.values.random_states import RandomState, tensorflow_states

PYTHON, NUMPY, CPU, DEVICES, TENSORFLOW_SEEDS, KERAS = (
    "Python",
    "NumPy",
    "PyTorch",
    "PyTorch devices",
    "seeds of TensorFlow",
    "Keras",
)


def read_random_states(backend: Any) -> Dict[str, Any]:
    """Return the random states that training with a backend may draw from, as JSON values.

    Args:
        backend: of the model in training.
    """
    found: Dict[str, Any] = {
        PYTHON: _plain(random.getstate()),
        NUMPY: _plain(np.random.get_state()),
    }
    torch = sys.modules.get(TORCH)
    if torch is not None:
        found[CPU] = torch.get_rng_state().tolist()
        if torch.cuda.is_initialized():
            found[DEVICES] = [state.tolist() for state in torch.cuda.get_rng_state_all()]
    for name, states in _of_frameworks(backend):
        if states and states[0][1] is not None:
            found[name] = _plain(states[0][1])
    return found


def write_random_states(backend: Any, found: Mapping[str, Any]) -> None:
    """Put random states back; those that this process does not have are left out.

    Args:
        backend: of the model in training.
        found: what `read_random_states` returned, in this process or another.
    """
    if KERAS in found and any(state is None for _, state in backend.values.random_states()):
        # Keras 3 makes its generator at the first draw, with a seed from Python's, which is next.
        backend.keras.random.uniform(())
    for name, states in _of_frameworks(backend):
        if name in found and states and states[0][1] is not None:
            put_back, example = states[0]
            put_back(_like(example, found[name]))
    if PYTHON in found:
        random.setstate(_like(random.getstate(), found[PYTHON]))
    numpy_state: Any = np.random.get_state()
    if NUMPY in found and found[NUMPY][0] == numpy_state[0]:
        np.random.set_state(_like(numpy_state, found[NUMPY]))
    torch = sys.modules.get(TORCH)
    if torch is not None and CPU in found:
        torch.set_rng_state(torch.tensor(found[CPU], dtype=torch.uint8))
        states = [torch.tensor(state, dtype=torch.uint8) for state in found.get(DEVICES, ())]
        if states and torch.cuda.is_available() and len(states) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states)


def _of_frameworks(backend: Any) -> List[Tuple[str, List[RandomState]]]:
    return [(TENSORFLOW_SEEDS, tensorflow_states()), (KERAS, backend.values.random_states())]


def _plain(state: Any) -> Any:
    """Tuples as lists, arrays too; numbers, texts and None as they are."""
    if isinstance(state, (tuple, list)):
        return [_plain(each) for each in state]
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state


def _like(now: Any, found: Any) -> Any:
    """What `_plain` made of a state, in the form of the state there is now."""
    if isinstance(now, tuple):
        # Python's states have one number that is None at times.
        return tuple(_like(one, other) for one, other in zip(now, found))
    if isinstance(now, np.ndarray):
        return np.asarray(found, now.dtype)
    return found
