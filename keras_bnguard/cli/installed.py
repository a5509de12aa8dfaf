"""`bnguard --version`: this package, the Keras that is installed, and its backend."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import List

import keras_bnguard
from keras_bnguard.backends.known_stacks import FRAMEWORKS, PACKAGES, TENSORFLOW

NAMES = (*PACKAGES, *sorted(FRAMEWORKS - set(PACKAGES)))
"""Distributions that may be installed; that of TensorFlow has another one for the CPU."""


def version() -> str:
    """One line, without loading a framework: `keras_bnguard 0.1.0 (keras 3.15.1, backend jax)`."""
    parts = _installed()
    if any(part.startswith(f"{PACKAGES[0]} 3") for part in parts):
        parts.append(f"backend {_backend()}")
    about = ", ".join(parts) if parts else "no Keras is installed"
    return f"keras_bnguard {keras_bnguard.__version__} ({about})"


def _installed() -> List[str]:
    found = []
    for name in NAMES:
        for distribution in (name, f"{name}-cpu"):
            try:
                found.append(f"{name} {importlib.metadata.version(distribution)}")
            except importlib.metadata.PackageNotFoundError:
                continue
            break
    return found


def _backend() -> str:
    """The backend that Keras 3 would choose: the variable, its file, else TensorFlow."""
    chosen = os.environ.get("KERAS_BACKEND")
    if chosen:
        return chosen
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    try:
        kept = json.loads(Path(home, "keras.json").read_text(encoding="utf-8"))
        return str(kept.get("backend", TENSORFLOW))
    except (OSError, ValueError, AttributeError):
        return TENSORFLOW
