"""These tests need a built wheel: `tox -e dist` builds one and names its folder."""

from __future__ import annotations

import os

collect_ignore_glob = [] if "BNGUARD_DIST" in os.environ else ["test_*.py"]
