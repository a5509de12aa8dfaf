"""For the docs site: `Example:` of a docstring is code, which mkdocstrings takes for prose."""

from __future__ import annotations

import textwrap
from typing import Any

import griffe


class CodeOfExamples(griffe.Extension):
    """Fences what stands below `Example:`."""

    def on_instance(self, *, obj: Any, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_fences(obj.docstring.value)


def with_fences(doc: str) -> str:
    """A docstring with the code below its last `Example:` in a fence."""
    before, mark, code = doc.rpartition("\nExample:\n")
    if not mark:
        return doc
    fenced = f"```python\n{textwrap.dedent(code).strip()}\n```"
    return f"{before}\n**Example:**\n\n{fenced}\n"
