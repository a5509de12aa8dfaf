"""Reports in a notebook: the HTML of a cell whose value is a report."""

from __future__ import annotations

import html as escaping

from keras_bnguard.report import text
from keras_bnguard.report.formats import format_named
from keras_bnguard.report.report import Report


def as_html(report: Report) -> str:
    """A report as an HTML element with its own style; without jinja2 the plain text."""
    if not format_named("html").available:
        return f"<pre>{escaping.escape(text.render(report))}</pre>"
    from keras_bnguard.report.html import fragment

    return fragment(report)
