"""`python -m keras_bnguard`, and the console script `bnguard`."""

from __future__ import annotations

import sys

from keras_bnguard.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
