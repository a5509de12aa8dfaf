"""The notebook in `examples/` runs from top to bottom and draws its pictures."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests import ROOT
from tests.stack import IS_KERAS3

pytestmark = pytest.mark.skipif(not IS_KERAS3, reason="the tour is written for Keras 3")


# Third parties of the kernel, about their own event loop and message ids.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_tour_runs_and_shows_its_four_pictures(monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.delenv("MPLBACKEND", raising=False)  # Else nothing is drawn into the page.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(ROOT / "examples" / "tour.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3")
    asyncio.run(client.async_execute())
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 4
    text = "".join(o.get("text", "") for o in outputs if o.output_type == "stream")
    assert "BNG201 training-false-ignored" in text
    assert "all: epochs 9-" in text
    assert "BNGuardWarning" not in text
