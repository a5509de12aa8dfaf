"""Keras's own tests of trainers, callbacks and models, with a guard in every fit and without.

    git clone --depth 1 --branch v3.15.1 https://github.com/keras-team/keras
    KERAS_BACKEND=jax python benchmarks/keras_own_tests.py keras [PART ...] [--keep FOLDER]

The tests run in the checkout as Keras's developers run them, on the Keras of the checkout; what
they import (TensorFlow, JAX, torch, pandas, requests) has to be installed. PART is a part of a test
file's path, as `trainers/trainer_test`; all files of the three suites without one. Each suite
runs twice, in processes of its own: plain, and with `-p keras_bnguard.pytest_plugin`. Prints how
many tests passed, failed and were skipped, and every test that ended differently; the exit code
is 1 where there is one, or where the guard itself failed.

With `--keep` the results of each process are kept as JSON, and what has some is not run again, so
that a slow machine can do it in pieces.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Dict, List

SUITES = ("trainers", "callbacks", "models")
ROOT = Path(__file__).resolve().parents[1]
OWN_FAULT = "keras_bnguard failed"


def test_files(checkout: Path, parts: List[str]) -> List[Path]:
    """The test files of the suites in a checkout, as paths below it."""
    source = checkout / "keras" / "src"
    files = [file for suite in SUITES for file in sorted((source / suite).rglob("*_test.py"))]
    wanted = [f for f in files if not parts or any(part in f.as_posix() for part in parts)]
    if not wanted or not (checkout / "conftest.py").is_file():
        sys.exit(
            f"{checkout}: expected a checkout of Keras with its tests, and parts of their names"
        )
    return [file.relative_to(checkout) for file in wanted]


def outcomes(checkout: Path, files: List[Path], guarded: bool) -> Dict[str, str]:
    """How each test of some files ended: "passed", "failed", "error" or "skipped"."""
    words = [sys.executable, "-m", "pytest", "-qq", "-p", "no:cacheprovider"]
    words += ["--continue-on-collection-errors"]
    words += ["-p", "keras_bnguard.pytest_plugin"] if guarded else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.setdefault("CUDA_VISIBLE_DEVICES", "")
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "results.xml"
        done = subprocess.run(
            [*words, f"--junitxml={xml}", *map(str, files)],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if not xml.is_file():
            return {"all of it": f"ended with {done.returncode}: {done.stderr[-500:]}"}
        found = {}
        for case in ElementTree.parse(xml).iter("testcase"):
            tags = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
            ended = {"failure": "failed"}.get(tags[0], tags[0]) if tags else "passed"
            found[f"{case.get('classname')}::{case.get('name')}"] = ended
    if OWN_FAULT in done.stdout + done.stderr:
        text = done.stdout + done.stderr
        found["keras_bnguard itself"] = "failed: " + text[text.index(OWN_FAULT) :][:3000]
    return found


def main() -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    suites: Dict[str, List[Path]] = {}
    for file in test_files(arguments.checkout, arguments.parts):
        suite = file.relative_to("keras/src").parts[0]
        suites.setdefault("-".join(arguments.parts or [suite]), []).append(file)
    total: Counter[str] = Counter()
    different = 0
    for name, files in suites.items():
        found = []
        for how in ("plain", "guarded"):
            kept = arguments.keep and arguments.keep / f"{name.replace('/', '.')}.{how}.json"
            if kept and kept.is_file():
                found.append(json.loads(kept.read_text(encoding="utf-8")))
                continue
            found.append(outcomes(arguments.checkout, files, how == "guarded"))
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(found[-1]), encoding="utf-8")
        plain, guarded = found
        count = Counter(plain.values())
        total += count
        print(f"{name}: {dict(count)}", flush=True)
        for test in sorted({*plain, *guarded}):
            before, after = plain.get(test, "not there"), guarded.get(test, "not there")
            if before != after:
                different += 1
                print(f"  {test}\n    without: {before}\n    with: {after}")
    print(f"{sum(total.values())} tests: {dict(total)}; {different} ended differently")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
