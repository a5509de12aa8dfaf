"""Reports in a notebook: what Jupyter asks an object for when it shows it."""

from __future__ import annotations

import html as escaping
import importlib.util
from typing import Any, Dict, Mapping, Sequence

from keras_bnguard.records import Report
from keras_bnguard.report import text


def repr_html(report: Report, phases: Sequence[Mapping[str, Any]] = ()) -> str:
    """A report as HTML for a notebook cell; without jinja2 the plain text, kept as it is."""
    if importlib.util.find_spec("jinja2") is None:
        return f"<pre>{escaping.escape(text.render(report))}</pre>"
    from keras_bnguard.report.html import fragment

    return fragment(report, phases)


def mimebundle(report: Report, phases: Sequence[Mapping[str, Any]] = ()) -> Dict[str, str]:
    """What `_repr_mimebundle_` returns: plain text for consoles, HTML for notebooks."""
    return {"text/plain": text.render(report), "text/html": repr_html(report, phases)}


class Shown:
    """A report that shows itself in a notebook: the last line of a cell is `Shown(report)`."""

    def __init__(self, report: Report, phases: Sequence[Mapping[str, Any]] = ()) -> None:
        self.report = report
        self.phases = phases

    def __repr__(self) -> str:
        return text.render(self.report)

    def _repr_html_(self) -> str:
        return repr_html(self.report, self.phases)

    def _repr_mimebundle_(self, **_: Any) -> Dict[str, str]:
        return mimebundle(self.report, self.phases)
