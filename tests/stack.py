"""The Keras under test: `BNGUARD_STACK` names it, importing this module imports it.

    from tests.stack import BACKEND, IS_KERAS3, STACK, keras

A stack that was named and cannot be imported, or turns out to be another Keras than the one
named, ends the whole run with a failure: nothing here is ever skipped.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import shutil
import tempfile
import warnings
from typing import Any, NoReturn

import pytest

# name: (module, backend, first version, first version that is too new)
STACKS = {
    "k2": ("tensorflow.keras", "tensorflow", (2, 12), (2, 16)),
    "tfk": ("tf_keras", "tensorflow", (2, 16), (3, 0)),
    "k3-tf": ("keras", "tensorflow", (3, 3), (4, 0)),
    "k3-jax": ("keras", "jax", (3, 3), (4, 0)),
    "k3-torch": ("keras", "torch", (3, 3), (4, 0)),
}

CHOICES = (
    f"BNGUARD_STACK takes one of {', '.join(STACKS)}; "
    "'none' runs the tests that need no framework, and no others."
)


def _stop(reason: str) -> NoReturn:
    raise pytest.UsageError(f"{reason} {CHOICES}")


def _set_environment(stack: str, backend: str) -> None:
    """What steers an import has to be there before the first import of any framework."""
    os.environ["KERAS_BACKEND"] = backend
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # TF 2.15 takes any value of this one to mean "use the tf_keras package".
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    if stack == "tfk":
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    # Results are compared bit for bit, so the tests run on the CPU unless a device is named.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    if backend == "torch" and os.environ.get("BNGUARD_DETERMINISTIC"):
        importlib.import_module("torch").use_deterministic_algorithms(True)
    # Only under pytest: benchmarks import this file too, and measure what users have.
    if backend == "jax" and "PYTEST_VERSION" in os.environ:
        _keep_programs()


def _keep_programs() -> None:
    """Two runs of the same small model are one program to XLA: compile it once, and quickly.

    Tracing and lowering stay as they are; what is kept is the machine code of equal programs, in
    a folder of this run, for the processes that it starts too. Without its optimizations XLA
    gives NaN for the gradient of global max pooling: tests train with other layers.
    """
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="bnguard-programs-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def _import(stack: str) -> Any:
    module, backend, first, too_new = STACKS[stack]
    _set_environment(stack, backend)
    try:
        with warnings.catch_warnings():
            # Third parties warn about each other while they load; ours are seen in the tests.
            warnings.simplefilter("ignore")
            if stack == "k2":
                from tensorflow import keras  # a lazy module that importlib cannot name

                version = str(importlib.import_module("keras").__version__)
            else:
                keras = importlib.import_module(module)
                version = str(keras.__version__)
    except Exception as error:
        _stop(f"The stack {stack} cannot be imported: {type(error).__name__}: {error}")
    number = tuple(int(part) for part in version.split(".")[:2])
    if not first <= number < too_new:
        _stop(
            f"The stack {stack} needs {module} >={'.'.join(map(str, first))},"
            f"<{'.'.join(map(str, too_new))}; installed is {version}."
        )
    running = keras.backend.backend()
    if running != backend:
        _stop(f"The stack {stack} runs Keras on {backend}, but Keras chose {running}.")
    return keras


STACK = os.environ.get("BNGUARD_STACK", "")
if STACK not in STACKS:
    _stop(f"BNGUARD_STACK={STACK!r} names no Keras.")

keras = _import(STACK)
VERSION = str(importlib.import_module("keras").__version__ if STACK == "k2" else keras.__version__)
IS_KERAS3 = STACK.startswith("k3-")
BACKEND = STACKS[STACK][1]

# A framework leaves a million objects behind. Out of the collector's sight, the collection
# after each test takes a few milliseconds instead of a few hundred.
gc.collect()
gc.freeze()
# A traced step is made of many objects; what it drops is collected after the test at the latest.
gc.set_threshold(50_000, 20, 20)


def describe() -> str:
    """The stack with the versions that count, for the header of the run."""
    backend = importlib.import_module(BACKEND)
    return f"{STACK} ({STACKS[STACK][0]} {VERSION}, {BACKEND} {backend.__version__})"
