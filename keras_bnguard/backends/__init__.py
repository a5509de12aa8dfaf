"""The only part that imports or knows a framework: one adapter per Keras and backend.

Everything private that this package uses of a Keras is in this folder, and each such name
has a test in `tests/contract/test_private_names.py` that fails when Keras renames it.
"""

from __future__ import annotations

from keras_bnguard.backends.registry import backend_for, loaded_backends

__all__ = ["backend_for", "loaded_backends"]
