"""Tests, by size: unit, contract, guarantees, scenarios, docs; what they share is in builders."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
