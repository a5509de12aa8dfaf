"""`bnguard demo`: the official recipe on digits: as it is, with forced inference, head only."""

from __future__ import annotations

import argparse
import textwrap
import time
from pathlib import Path
from typing import List, Optional

from keras_bnguard.backends.registry import any_backend
from keras_bnguard.cli.demo.digits import load_digits
from keras_bnguard.cli.demo.picture import draw, need_matplotlib
from keras_bnguard.cli.demo.recipe import AS_IS, FIXED, Run, Setting, run_seed
from keras_bnguard.cli.demo.summary import meaning, of_variant, rows, show_framed, show_table
from keras_bnguard.report.text import WIDTH, finding_text

INTRODUCTION = """\
A small convolutional net with BatchNormalization is trained on the digits 0-4, then
transferred to 5-9 under other lighting with {labelled} labelled images, by the recipe of the
Keras guide: base(x, training=False), train the head with the base frozen, then unfreeze,
compile again at a low learning rate, and fine-tune. {seeds} seed(s) on {stack}.
"""

IN_FRAME = WIDTH - 4
"""Columns inside the frame of `show_framed`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_count, default=3, help="how many runs (default 3)")
    parser.add_argument(
        "--out", type=Path, default=Path("demo_out"), help="folder for the picture (demo_out)"
    )


def run(arguments: argparse.Namespace) -> int:
    demo(arguments.seeds, arguments.out)
    return 0


def demo(seeds: int, out: Path, setting: Optional[Setting] = None) -> List[Run]:
    """Run the demo, print what it shows and save its picture.

    Args:
        seeds: how many runs.
        out: folder for the picture; created if it does not exist.
        setting: how long and on how much data. Defaults to `Setting()`.

    Returns:
        One `Run` per seed and variant, in that order.

    Raises:
        MissingExtraError: scikit-learn or matplotlib is not installed.
        MissingKerasError: no Keras can be imported.
    """
    setting = setting or Setting()
    need_matplotlib()
    load_digits(0, 1, 1)
    started = time.perf_counter()
    backend = any_backend()
    stack = backend.stack
    _print_wrapped(INTRODUCTION.format(labelled=setting.labelled, seeds=seeds, stack=stack))
    print()
    runs: List[Run] = []
    for seed in range(seeds):
        runs += run_seed(backend.keras, seed, setting, _print_progress)
        if seed == 0:
            _show_findings(runs)
    print()
    show_table(rows(runs))
    print()
    _print_wrapped(meaning(runs, stack))
    print()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"demo_{stack.name}.png"
    draw(runs, path, f"Digits 0-4 to 5-9, {stack}")
    print(f"picture: {path}   ({time.perf_counter() - started:.0f} s)")
    return runs


def _show_findings(runs: List[Run]) -> None:
    """What the guard reports for the first seed; it reports the same for all."""
    (as_is,), (fixed,) = of_variant(runs, AS_IS), of_variant(runs, FIXED)
    if not as_is.findings:
        show_framed("BNGuard()", "nothing found in the recipe as it is")
    for finding in as_is.findings:
        show_framed("BNGuard() on the recipe as it is", finding_text(finding, IN_FRAME))
    for finding in fixed.findings:
        if finding.repaired:
            _print_wrapped(f"with BNGuard(fix=True): {finding.code}, {finding.repaired}")


def _print_wrapped(text: str) -> None:
    print(textwrap.fill(text, WIDTH))


def _print_progress(what: str) -> None:
    print(f"  {what}", flush=True)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return number
