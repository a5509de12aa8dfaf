"""What `bnguard run` adds to the start of a script that imports Keras and ends.

    BNGUARD_STACK=k3-jax python benchmarks/startup.py [--times 7]

CPU time of processes of their own, `python script.py` and `bnguard run script.py` in turn. An
import of Keras takes seconds and varies by more than what is looked for, so the parts that are
ours are also timed by themselves: what comes before the script's first line and after its last
one (less what plain Python needs there, for a script that imports nothing), and what is done when
Keras has been imported. The fastest of several counts for the parts. Target: less than 100 ms
together.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = {"k2": "from tensorflow import keras", "tfk": "import tf_keras as keras"}
SCRIPT = """
import sys, time
print("first line", time.process_time())
{imports}
keras.Model
print("last line", time.process_time())
"""
# The same command line, with a clock at the one place that runs between two lines of the script.
TIMED = """
import sys, time
from keras_bnguard.cli import main
from keras_bnguard.auto import _STATE
callback = _STATE._hook._told
def timed():
    begin = time.process_time()
    callback()
    print("hooks", time.process_time() - begin)
_STATE._hook._told = timed
sys.exit(main(sys.argv[1:]))
"""


def clocks(words: List[str], environment: Dict[str, str]) -> Dict[str, float]:
    """CPU seconds of one process: the whole of it, and what it printed of its clocks."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {k: float(v) for k, v in re.findall(r"^(.*) (\S+)$", done.stdout, re.MULTILINE)}
    whole = after.ru_utime + after.ru_stime
    found["whole"] = whole - before.ru_utime - before.ru_stime
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    stack = os.environ["BNGUARD_STACK"]
    backend = {"k3-jax": "jax", "k3-torch": "torch"}.get(stack, "tensorflow")
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    environment.update(TF_CPP_MIN_LOG_LEVEL="3", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # An installed package is compiled.
    plain: List[Dict[str, float]] = []
    guarded: List[Dict[str, float]] = []
    timed: List[Dict[str, float]] = []
    empty: List[Dict[str, float]] = []
    empty_guarded: List[Dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        script = str(Path(folder) / "script.py")
        Path(script).write_text(SCRIPT.format(imports=IMPORTS.get(stack, "import keras")))
        nothing = str(Path(folder) / "nothing.py")
        Path(nothing).write_text(SCRIPT.format(imports="").replace("keras.Model", ""))
        run = ["run", script]
        clocks(["-c", TIMED, *run], environment)
        for _ in range(options.times):
            plain.append(clocks([script], environment))
            guarded.append(clocks(["-m", "keras_bnguard", *run], environment))
            timed.append(clocks(["-c", TIMED, *run], environment))
            for _ in range(2):
                empty.append(clocks([nothing], environment))
                words = ["-m", "keras_bnguard", "run", nothing]
                empty_guarded.append(clocks(words, environment))

    def least(of: List[Dict[str, float]], name: str) -> float:
        return min(each[name] for each in of)

    def end(of: List[Dict[str, float]]) -> float:
        return min(each["whole"] - each["last line"] for each in of)

    parts = {
        "before the first line": least(empty_guarded, "first line") - least(empty, "first line"),
        "when Keras is imported": least(timed, "hooks"),
        "after the last line": end(empty_guarded) - end(empty),
    }
    middle = statistics.median(each["whole"] for each in plain)
    differences = [b["whole"] - a["whole"] for a, b in zip(plain, guarded)]
    print(f"{stack}: plain {middle * 1e3:.0f} ms of CPU, median of {options.times}")
    for name, seconds in parts.items():
        print(f"  {name:24}{seconds * 1e3:8.0f} ms")
    print(f"  {'together':24}{sum(parts.values()) * 1e3:8.0f} ms")
    print(
        f"  {'whole processes differ':24}{statistics.median(differences) * 1e3:8.0f} ms in the "
        f"median, {min(differences) * 1e3:.0f} to {max(differences) * 1e3:.0f} ms"
    )


if __name__ == "__main__":
    main()
