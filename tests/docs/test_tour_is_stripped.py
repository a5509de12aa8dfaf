"""The notebook in `examples/` is kept without outputs, and stays ten cells."""

from __future__ import annotations

import json

from tests import ROOT

TOUR = ROOT / "examples" / "tour.ipynb"


def test_the_tour_has_ten_cells_and_no_outputs():
    notebook = json.loads(TOUR.read_text(encoding="utf-8"))
    assert len(notebook["cells"]) == 10
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
