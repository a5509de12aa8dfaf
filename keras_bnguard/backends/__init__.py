"""The only part that imports or knows a framework: one adapter per Keras and engine.

Everything private that this package uses of a Keras is in this folder, and each such name
has a test in `tests/contract/test_private_names.py` that fails when Keras renames it.
"""

from __future__ import annotations

from keras_bnguard.backends.registry import engine_for, loaded_engines

__all__ = ["engine_for", "loaded_engines"]
