"""Count what makes code hard to find one's way in, and fail where a limit is passed.

    python tools/structure.py            a table: packages, then the largest classes
    python tools/structure.py --check    one line per limit that is passed; exit code 1 if any

It reads the source as text and imports nothing, so that it also runs on an older checkout:
`python tools/structure.py --root /path/to/keras_bnguard`.
"""

from __future__ import annotations

import argparse
import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

MAX_ATTRIBUTES = 15
MAX_METHODS = 25
MAX_MODULES = 20
MAX_LINES = 320
MANY_MODULES = {"rules"}
"""Packages with one file per item, which may hold more modules."""

PACKAGE = Path(__file__).resolve().parent.parent / "keras_bnguard"


@dataclass(frozen=True)
class ClassSize:
    """One class of the package.

    Attributes:
        name: "guard/run.py:MonitoredRun".
        attributes: names assigned on `self` in its methods, with those of its bases in the package.
        methods: methods it defines or inherits from classes of the package.
    """

    name: str
    attributes: int
    methods: int


def modules(root: Path) -> Iterator[Tuple[Path, ast.Module]]:
    """Every module below `root` with its syntax tree."""
    for path in sorted(root.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"), str(path))


def class_sizes(root: Path) -> List[ClassSize]:
    """The size of every class, largest first; a base class counts with its heirs."""
    defined: Dict[str, Tuple[str, ast.ClassDef]] = {}
    for path, tree in modules(root):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                defined[node.name] = (path.relative_to(root).as_posix(), node)
    sizes = []
    for name, (place, node) in defined.items():
        family = list(_with_bases(node, defined))
        attributes: Set[str] = set()
        methods: Set[str] = set()
        for member in family:
            attributes |= _assigned_on_self(member)
            methods |= {n.name for n in member.body if isinstance(n, ast.FunctionDef)}
        sizes.append(ClassSize(f"{place}:{name}", len(attributes), len(methods)))
    return sorted(sizes, key=lambda s: (-max(s.attributes, s.methods), s.name))


def _with_bases(
    node: ast.ClassDef, defined: Dict[str, Tuple[str, ast.ClassDef]]
) -> Iterator[ast.ClassDef]:
    yield node
    for base in node.bases:
        known = defined.get(getattr(base, "id", ""))
        if known is not None and known[1] is not node:
            yield from _with_bases(known[1], defined)


def _assigned_on_self(node: ast.ClassDef) -> Set[str]:
    found: Set[str] = set()
    for method in node.body:
        if not isinstance(method, ast.FunctionDef) or not method.args.args:
            continue
        own = method.args.args[0].arg
        for part in ast.walk(method):
            if (
                isinstance(part, ast.Attribute)
                and isinstance(part.ctx, ast.Store)
                and isinstance(part.value, ast.Name)
                and part.value.id == own
            ):
                found.add(part.attr)
    return found


def packages(root: Path) -> Dict[str, List[Path]]:
    """Package -> its modules, `__init__` left out; the top level is ""."""
    found: Dict[str, List[Path]] = {}
    for path, _ in modules(root):
        if path.name != "__init__.py":
            found.setdefault(path.parent.relative_to(root).as_posix(), []).append(path)
    return found


def import_edges(root: Path) -> Set[Tuple[str, str]]:
    """Pairs of packages (or top-level modules) of which the first imports the second."""
    edges = set()
    for path, tree in modules(root):
        here = path.relative_to(root).parts[0].removesuffix(".py")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(root.name + "."):
                there = str(node.module).split(".")[1]
                if there != here:
                    edges.add((here, there))
    return edges


def problems(root: Path) -> List[str]:
    """One line for each limit that is passed."""
    found = []
    for size in class_sizes(root):
        if size.attributes > MAX_ATTRIBUTES:
            found.append(f"{size.name}: {size.attributes} attributes, limit {MAX_ATTRIBUTES}")
        if size.methods > MAX_METHODS:
            found.append(f"{size.name}: {size.methods} methods, limit {MAX_METHODS}")
    for package, files in packages(root).items():
        if len(files) > MAX_MODULES and package not in MANY_MODULES:
            found.append(f"{package or root.name}: {len(files)} modules, limit {MAX_MODULES}")
        for path in files:
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > MAX_LINES:
                found.append(f"{path.relative_to(root)}: {lines} lines, limit {MAX_LINES}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=PACKAGE, help="the package folder")
    parser.add_argument("--check", action="store_true", help="only what passes a limit")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    if arguments.check:
        found = problems(root)
        print("\n".join(found))
        return 1 if found else 0
    print(f"{len(import_edges(root))} imports between packages")
    for package, files in sorted(packages(root).items()):
        lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in files]
        print(f"{package:24s}{len(files):4d} modules{max(lines):6d} lines at most")
    for size in class_sizes(root)[:12]:
        print(f"{size.name:56s}{size.attributes:4d} attributes{size.methods:5d} methods")
    return 0


if __name__ == "__main__":
    sys.exit(main())
