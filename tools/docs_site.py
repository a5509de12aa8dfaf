"""Gather the pages of the docs site in build/docs, and build it into build/site.

python tools/docs_site.py            gather and build; a warning is an error
python tools/docs_site.py --gather   gather only, which needs no package
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "build" / "docs"
sys.path.insert(0, str(ROOT))

import keras_bnguard as bng  # noqa: E402

MOVED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Pages outside docs/ -> their place on the site."""
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<to>[^)#\s]+)(?P<anchor>#[^)]*)?\)")


def gather(pages: Path) -> None:
    """Write the pages that mkdocs reads, with links that lead somewhere there."""
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(ROOT / "docs", pages)
    for name, place in MOVED.items():
        shutil.copy(ROOT / name, pages / place)
    (pages / "tutorial.md").write_text(tutorial(), encoding="utf-8")
    (pages / "api.md").write_text(api(), encoding="utf-8")
    for page in pages.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(with_links(text, page.relative_to(pages)), encoding="utf-8")


def with_links(text: str, page: Path) -> str:
    """A page of the site: a link to what is not on the site is left as its text."""
    source_page = {place: name for name, place in MOVED.items()}.get(str(page), f"docs/{page}")
    depth = "../" * (len(page.parts) - 1)

    def moved(match: re.Match[str]) -> str:
        to = match["to"]
        if ":" in to:
            return match[0]
        target = (ROOT / source_page).parent.joinpath(to).resolve()
        name = target.relative_to(ROOT).as_posix()
        place = MOVED.get(name) or (name[len("docs/") :] if name.startswith("docs/") else None)
        if name == "examples/tour.ipynb":
            place = "tutorial.md"
        if place is None:
            return match["text"]
        return f"[{match['text']}]({depth}{place}{match['anchor'] or ''})"

    return LINK.sub(moved, text)


def tutorial() -> str:
    """The notebook of the tour as a page."""
    cells = json.loads((ROOT / "examples" / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
    return "\n\n".join(parts) + "\n"


def api() -> str:
    """A page that shows the docstring of every public name."""
    modules: Dict[str, str] = bng._MODULES
    parts = ["# API", "Each name is in `keras_bnguard`: `import keras_bnguard as bng`."]
    for name in sorted(modules, key=str.lower):
        parts.append(f"::: keras_bnguard.{modules[name]}.{name}")
    return "\n\n".join(parts) + "\n"


def main() -> int:
    gather(PAGES)
    if "--gather" in sys.argv:
        return 0
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
