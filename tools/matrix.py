"""Run the reduced tests on every promised version of Keras, one environment each.

    python tools/matrix.py                 all
    python tools/matrix.py k3-jax-3.6 ...  these only
    python tools/matrix.py --list          the names, and what each installs

Each row of docs/versions.md is the last run of its combination. An environment stays in
.env-matrix/ and is made again when what it should hold has changed. The tests are those of
`[reduced]` in tox.ini. The exit status is 1 where a combination failed.
"""

from __future__ import annotations

import argparse
import configparser
import datetime
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".env-matrix"
PAGE = ROOT / "docs" / "versions.md"
SECONDS = 1800
TOP = """# Versions

`make matrix` makes one environment a row and runs the reduced tests in it: the contract of the
backends, forced inference, warnings in existing scripts, phases and reports. `make test` runs all
tests on the five newest stacks; `make test STACK=oldest-k2` (`oldest-k3-tf`, `oldest-k3-jax`) runs
the reduced ones on the oldest. Each row is the last run of its combination, on Linux x86_64.

| stack | Python | Keras | backend | tests | date |
|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Combination:
    """One Keras on one backend, with a Python and versions that belong together.

    Attributes:
        name: the stack and the version of Keras.
        stack: the value of BNGUARD_STACK.
        pythons: versions of Python, the first that is found is taken.
        requirements: what pip installs beside this package.
    """

    name: str
    stack: str
    pythons: str
    requirements: Tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How the tests of one combination ended.

    Attributes:
        versions: package -> installed version.
        passed: how many tests passed.
        failed: how many failed or ended with an error.
        minutes: how long they took.
        problem: why they could not run; empty where they did.
    """

    versions: Dict[str, str]
    passed: int = 0
    failed: int = 0
    minutes: float = 0.0
    problem: str = ""

    @property
    def good(self) -> bool:
        return not self.problem and not self.failed and self.passed > 0


# The version of each framework that was current when a Keras was released.
KERAS3 = (
    # Keras,                 Pythons,            TensorFlow, JAX
    ("keras==3.3.3", "3.11 3.10 3.9", "2.16.*", "0.4.28"),
    ("keras==3.6.0", "3.11 3.10 3.12", "2.17.*", "0.4.35"),
    ("keras==3.9.2", "3.12 3.11 3.10", "2.19.*", "0.5.3"),
    ("keras==3.12.1", "3.12 3.11", "2.20.*", "0.7.2"),
    ("keras==3.14.1", "3.12 3.11", "2.21.*", "0.9.2"),
    ("keras>=3.15,<3.16", "3.13 3.12 3.11", "2.21.*", "0.10.*"),
    ("keras-nightly>=3.16.0.dev0", "3.13 3.12 3.11", "2.21.*", "0.10.*"),
)
OLD_NUMPY = "numpy<2"
TORCH = "torch==2.13.0"
"""Its wheel has a build for the CPU; older ones bring gigabytes of CUDA."""


def combinations() -> Iterator[Combination]:
    """All of them, the oldest of each stack first."""
    for version, numpy in (("2.12", "numpy<1.24"), ("2.13", OLD_NUMPY), ("2.14", OLD_NUMPY)):
        needs = (f"tensorflow-cpu=={version}.*", numpy)
        yield Combination(f"k2-{version}", "k2", "3.10 3.9 3.11", needs)
    yield Combination("k2-2.15", "k2", "3.11 3.10 3.9", ("tensorflow-cpu==2.15.*", OLD_NUMPY))
    for version, pythons in (("2.16", "3.11 3.10 3.9"), ("2.21", "3.13 3.12 3.11")):
        needs = (f"tensorflow-cpu=={version}.*", f"tf_keras=={version}.*")
        yield Combination(f"tfk-{version}", "tfk", pythons, needs)
    for keras, pythons, tensorflow, jax in KERAS3:
        label = _label(keras)
        old = (OLD_NUMPY,) if label in ("3.3", "3.6") else ()
        yield Combination(
            f"k3-tf-{label}", "k3-tf", pythons, (keras, f"tensorflow-cpu=={tensorflow}", *old)
        )
        pins = (f"jax=={jax}", f"jaxlib=={jax}")
        yield Combination(f"k3-jax-{label}", "k3-jax", pythons, (keras, *pins, *old))
        yield Combination(f"k3-torch-{label}", "k3-torch", pythons, (keras, TORCH, *old))


def _label(keras: str) -> str:
    if "nightly" in keras:
        return "nightly"
    digits = keras.lstrip("keras=>").split(",")[0].split(".")
    return ".".join(digits[:2])


def reduced_tests() -> List[str]:
    """The files that `tox.ini` names under `[reduced]`."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini", encoding="utf-8")
    return config["reduced"]["tests"].split()


def run(combination: Combination, tests: Sequence[str]) -> Outcome:
    """Make the environment, run the tests in it, and count them."""
    folder = FOLDER / combination.name
    made = subprocess.run(
        [
            "tools/make_venv.sh",
            str(folder.relative_to(ROOT)),
            combination.pythons,
            *combination.requirements,
            "-e",
            ".[test]",
        ],
        cwd=ROOT,
    )
    if made.returncode:
        return Outcome({}, problem="the environment could not be made")
    python = folder / "bin" / "python"
    nightly = [need for need in combination.requirements if "nightly" in need]
    if nightly:
        _put_over_keras(python, nightly)
    versions = _versions(python)
    report = folder / "results.xml"
    report.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "BNGUARD_STACK": combination.stack,
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
    started = time.monotonic()
    command = [str(python), "-m", "pytest", "-q", "-m", "not slow", "--stack-only"]
    try:
        subprocess.run(
            [*command, "-p", "no:cacheprovider", f"--junitxml={report}", *tests],
            cwd=ROOT,
            env=environment,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Outcome(versions, problem=f"not done after {SECONDS // 60} minutes")
    if not report.is_file():
        return Outcome(versions, problem="the tests did not start")
    minutes = (time.monotonic() - started) / 60
    return _counted(report, versions, minutes)


def _put_over_keras(python: Path, nightly: Sequence[str]) -> None:
    """Others require `keras`, which fills the same folder as `keras-nightly`: the last one wins."""
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "uninstall", "--yes", "keras", "keras-nightly"], check=True)
    subprocess.run([*pip, "install", "--pre", "--no-deps", *nightly], check=True)


def _counted(report: Path, versions: Dict[str, str], minutes: float) -> Outcome:
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    total, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return Outcome(versions, total - skipped - failed, failed, minutes)


def _versions(python: Path) -> Dict[str, str]:
    """What is installed, of the packages that matter here."""
    program = (
        "import importlib.metadata as m, sys\n"
        "print('python', '.'.join(map(str, sys.version_info[:3])))\n"
        "for name in ('keras', 'keras-nightly', 'tf_keras', 'tensorflow-cpu', 'jax', 'torch'):\n"
        "    try: print(name, m.version(name))\n"
        "    except m.PackageNotFoundError: pass\n"
    )
    lines = subprocess.run(
        [str(python), "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return dict(line.split(" ", 1) for line in lines)


def page(rows: Dict[str, str]) -> str:
    """docs/versions.md, of the rows by name; a combination without one was never run."""
    names = [combination.name for combination in combinations()]
    lines = (rows.get(name, f"| {name} | | | | not run yet | |") for name in names)
    return "\n".join((TOP, *lines)) + "\n"


def rows_of(text: str) -> Dict[str, str]:
    """The rows of a page, by the name of their combination, those not run yet left out."""
    rows = {}
    for line in text.splitlines():
        name = line.strip("| ").split(" ")[0]
        if line.startswith("| ") and name != "stack" and "not run yet" not in line:
            rows[name] = line
    return rows


def _row(combination: Combination, outcome: Outcome) -> str:
    known = outcome.versions
    keras = known.get("keras-nightly") or known.get("tf_keras") or known.get("keras", "")
    parts = ("tensorflow-cpu", "jax", "torch")
    backend = next((f"{name} {known[name]}" for name in parts if name in known), "")
    counts = f"{outcome.passed} passed" + (f", {outcome.failed} failed" if outcome.failed else "")
    cells = (combination.name, known.get("python", ""), keras, backend, outcome.problem or counts)
    return f"| {' | '.join(cells)} | {datetime.date.today().isoformat()} |"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    known = {combination.name: combination for combination in combinations()}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    options = parser.parse_args(arguments)
    if options.list:
        for combination in known.values():
            print(f"{combination.name:18}{' '.join(combination.requirements)}")
        return 0
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"{', '.join(unknown)}: no combination. Expected one of {', '.join(known)}.")
    chosen = [known[name] for name in options.names] or list(known.values())
    tests, outcomes = reduced_tests(), []
    for combination in chosen:
        print(f"== {combination.name}", flush=True)
        outcomes.append((combination, run(combination, tests)))
        print(_row(*outcomes[-1]), flush=True)
        rows = rows_of(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else {}
        rows[combination.name] = _row(*outcomes[-1])
        PAGE.write_text(page(rows), encoding="utf-8")
    return int(not all(outcome.good for _, outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
