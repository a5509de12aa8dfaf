"""Run an example on a Keras and put what it prints, and its picture, on its page.

python tools/run_example.py keras_guide k3-jax           write docs/examples/keras_guide.md
python tools/run_example.py keras_guide k3-jax --plot    and docs/examples/keras_guide.png
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "examples"
BACKENDS = {"k3-tf": "tensorflow", "k3-jax": "jax", "k3-torch": "torch"}


def run(name: str, stack: str, *arguments: str) -> str:
    """What an example prints, in a fresh Python of this environment.

    Args:
        name: file name without `.py`. stack: "k2", "tfk", "k3-tf", "k3-jax" or "k3-torch".

    Raises:
        RuntimeError: it failed; the message is its traceback.
    """
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments],
        env=environment_of(stack),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or "BNGuardWarning" in done.stderr:
        raise RuntimeError(f"{name} on {stack}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def environment_of(stack: str) -> Dict[str, str]:
    """The environment variables under which a script runs on that Keras."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    # One thread: the work is small, and other processes may have the machine.
    environment.update(OMP_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")
    environment.pop("TF_USE_LEGACY_KERAS", None)
    if stack == "tfk":
        environment["TF_USE_LEGACY_KERAS"] = "1"
    if stack in BACKENDS:
        environment["KERAS_BACKEND"] = BACKENDS[stack]
    return environment


def blocks(name: str) -> Dict[str, List[str]]:
    """Stack -> the lines that the example prints there, as the page shows them."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    found = re.findall(r"^### (\S+)\n\n```text\n(.*?)```\n", text, flags=re.S | re.M)
    return {stack: output.splitlines() for stack, output in found}


def write(name: str, stack: str, output: str) -> None:
    """Put the output into the block of its stack, at the end of the page where it is new."""
    path = PAGES / f"{name}.md"
    text = path.read_text(encoding="utf-8")
    block = f"### {stack}\n\n```text\n{output}```\n"
    if f"### {stack}\n" in text:
        old = rf"^### {re.escape(stack)}\n\n```text\n.*?```\n"
        text = re.sub(old, lambda _: block, text, flags=re.S | re.M)
    else:
        text = f"{text.rstrip()}\n\n{block}"
    path.write_text(text, encoding="utf-8")


def main() -> int:
    name, stack, *rest = sys.argv[1:]
    plot = ["--plot", str(PAGES / f"{name}.png")] if "--plot" in rest else []
    write(name, stack, run(name, stack, *plot))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
