"""Check a folder with one sdist and one wheel of this package.

    python tools/check_dist.py dist/

The wheel must hold every file of keras_bnguard/ and nothing else, the sdist also the license,
the tests and what they read: documentation, examples, tools. The wheel, installed into a fresh
environment without any framework, must import and run.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "keras_bnguard"
CARRIED = ("benchmarks", "docs", "examples", "tests", "tools")  # by the sdist alone
ITSELF = {
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "RELEASING.md",
    "SECURITY.md",
    "mkdocs.yml",
    "pyproject.toml",
    "setup.cfg",
    "tox.ini",
}


def main(folder: Path) -> None:
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    sources = _files(PACKAGE)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packed = {name for name in names if ".dist-info/" not in name}
    _same("wheel", packed, sources)
    if not any(name.endswith("LICENSE") for name in names):
        sys.exit("The wheel has no LICENSE.")
    with tarfile.open(sdist) as tar:
        unpacked = {name.split("/", 1)[1] for name in tar.getnames() if "/" in name}
    missing = sources.union(ITSELF, *map(_files, CARRIED)) - unpacked
    if missing:
        sys.exit(f"The sdist lacks {', '.join(sorted(missing))}.")
    _run_installed(wheel)
    print(f"{sdist.name} and {wheel.name}: {len(packed)} files, all there")


def _files(folder: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _same(what: str, packed: set[str], sources: set[str]) -> None:
    if sources - packed:
        sys.exit(f"The {what} lacks {', '.join(sorted(sources - packed))} (see package_data).")
    if packed - sources:
        sys.exit(f"The {what} has stray files: {', '.join(sorted(packed - sources))}.")


def _run_installed(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        scripts = Path(folder, "Scripts" if sys.platform == "win32" else "bin")
        commands = (
            [scripts / "python", "-m", "pip", "install", "--quiet", wheel],
            [scripts / "python", "-c", "import keras_bnguard; print(keras_bnguard.__version__)"],
            [scripts / "bnguard", "--help"],
        )
        for command in commands:
            subprocess.run(
                [str(part) for part in command], cwd=folder, check=True, stdout=subprocess.DEVNULL
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
