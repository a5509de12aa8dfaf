"""Reports made by hand, and any report at all, for the tests of what renders them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from hypothesis import strategies as st

from keras_bnguard.model.expected_mode import modes
from keras_bnguard.records import (
    DriftSnapshot,
    ExpectedMode,
    Finding,
    Mode,
    Moment,
    MomentKind,
    Outcome,
    OutcomeStatus,
    RunMode,
    Severity,
    SkipKind,
)
from keras_bnguard.records.moments import TRAIN_START
from keras_bnguard.report.report import Report
from tests.builders.facts import inventory, norm, stack

SCRIPT = "<script>alert('owned')</script>"

IGNORED = Finding(
    "BNG201",
    "flag-changed-after-compile",
    Severity.ERROR,
    tuple(f"backbone/block{i}_bn" for i in range(1, 9)),
    "trainable was set to False on 8 BN layers after compile(): keras 3.15.1 on tensorflow "
    "goes on with the flags of the first step.",
    "compile again after the change:\n"
    "    backbone.trainable = False\n"
    '    model.compile(optimizer="adam", loss="mse")',
    evidence={"layers": 8, "flags": {"compiled": True, "now": False}},
    source="train.py:41",
)
UPDATED = Finding(
    "BNG404",
    "frozen-statistics-updated",
    Severity.ERROR,
    ("backbone/block1_bn",),
    "moving statistics changed in 1 BN layer that must not be updated, by up to 0.3 standard "
    "deviations in 10 steps.",
    "load the pretrained statistics again:\n    bng.force_inference(model)",
    evidence={"shift": np.float32(0.3), "nan": float("nan"), "steps": np.int64(10)},
    moment=Moment(MomentKind.EPOCH_END, 1),
)
DRIFTED = Finding(
    "BNG406",
    "statistics-drifted",
    Severity.WARNING,
    ("head/bn",),
    "Far away: 50 % of it.",
    "freeze it",
)
NEWS = Finding("BNG103", "trains-on-purpose", Severity.INFO, ("tail/bn",), "By the way.", "")
MENDED = Finding(
    "BNG101",
    "frozen-runs-in-training-mode",
    Severity.ERROR,
    ("mended/bn",),
    "Ran in training mode.",
    "force it",
    repaired="forced",
)

OUTCOMES = (
    Outcome("BNG201", OutcomeStatus.FIRED),
    Outcome("BNG404", OutcomeStatus.FIRED),
    Outcome("BNG102", OutcomeStatus.PASSED),
    Outcome("BNG405", OutcomeStatus.IGNORED),
    Outcome(
        "BNG501",
        OutcomeStatus.SKIPPED,
        "needs batches of your data: BNGuard(data=...)",
        SkipKind.MISSING_FACT,
    ),
    Outcome(
        "BNG502",
        OutcomeStatus.SKIPPED,
        "needs batches of your data: BNGuard(data=...)",
        SkipKind.MISSING_FACT,
    ),
    Outcome(
        "BNG103", OutcomeStatus.SKIPPED, "info, select it to see it", SkipKind.INFO_NOT_SELECTED
    ),
)

PHASES: Tuple[Dict[str, Any], ...] = (
    {
        "epoch": 0,
        "phase": "head only",
        "learning_rate": 1e-3,
        "trainable_share": 0.0125,
        "logs": {"loss": 1.25, "val_loss": float("nan")},
    },
    {
        "epoch": 1,
        "phase": "all of it",
        "learning_rate": None,
        "trainable_share": 1.0,
        "logs": {"loss": 0.5, "accuracy": 0.75},
    },
)


def epoch_end(epoch: int) -> Moment:
    return Moment(MomentKind.EPOCH_END, epoch)


def snapshots(layers: int = 8, count: int = 6) -> Tuple[DriftSnapshot, ...]:
    """Drift that grows from snapshot to snapshot and from layer to layer."""
    paths = [f"backbone/block{i}_bn" for i in range(1, layers + 1)]
    return tuple(
        DriftSnapshot(
            epoch_end(n),
            n,
            10 * (n + 1),
            {path: 0.0004 * (n + 1) * 3.0 ** (i % 8) for i, path in enumerate(paths)},
            {path: 0.002 * (n + 1) * 2.0 ** (i % 8) for i, path in enumerate(paths)},
            {path: 0.001 * (n + 1) * 2.0 ** (i % 8) for i, path in enumerate(paths)},
        )
        for n in range(count)
    )


def mode_rows() -> Tuple[Mode, ...]:
    """One BN that runs as expected, one that does not, one forced, one not built."""
    return modes(
        inventory(
            norm("backbone/block1_bn", frozen_ancestors=("backbone",), momentum=0.9),
            norm("head/bn", at_default=True),
            norm("forced/bn", forced_inference=True),
            norm("late/bn", trainable=False, momentum=None, at_default=None),
        )
    )


def plain(*findings: Finding, **more: Any) -> Report:
    """A report of these findings and nothing else."""
    return Report("net", stack("k3-jax"), findings, **more)


def faulty(name: str = "net") -> Report:
    """A run with everything a report can show."""
    return Report(
        name,
        stack("k3-tf"),
        (DRIFTED, UPDATED, IGNORED, NEWS, MENDED),
        OUTCOMES,
        mode_rows(),
        snapshots(),
        ("BNG101: mended/bn forced into inference mode",),
        ("the guard could not read 1 layer",),
        60,
    )


def hostile() -> Report:
    """The same words that a browser would run, at every place a name or a text can be."""
    finding = Finding(
        "BNG404",
        SCRIPT,
        Severity.ERROR,
        (f"backbone/{SCRIPT}",),
        SCRIPT,
        SCRIPT,
        evidence={SCRIPT: {SCRIPT: SCRIPT}, "list": [SCRIPT]},
        source=f"{SCRIPT}.py:3",
        repaired=None,
    )
    mended = Finding("BNG101", "name", Severity.ERROR, (SCRIPT,), "", "", repaired=SCRIPT)
    row = Mode(
        SCRIPT, True, True, ExpectedMode.INFERENCE, SCRIPT, RunMode.TRAINING, False, 0.99, None
    )
    snapshot = DriftSnapshot(TRAIN_START, 0, 1, {SCRIPT: 0.5}, {SCRIPT: 0.5})
    outcomes = (Outcome("BNG501", OutcomeStatus.SKIPPED, SCRIPT),)
    return Report(
        SCRIPT, None, (finding, mended), outcomes, (row,), (snapshot,), (SCRIPT,), (SCRIPT,), 1
    )


# --------------------------------------------------------------- a page, read
VOID = {"meta", "br"}


class Page(HTMLParser):
    """A page as a browser sees it: tags with their attributes, and text without tags."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: List[Tuple[str, Dict[str, Optional[str]]]] = []
        self._open: List[str] = []
        self._texts: List[Tuple[Tuple[str, ...], str]] = []
        self.feed(source)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self._texts.append((tuple(self._open), data))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def inside(self, tag: str) -> str:
        """All that is written inside elements of this kind, white space folded."""
        return " ".join("".join(t for path, t in self._texts if tag in path).split())

    @property
    def text(self) -> str:
        """All that can be read, white space folded."""
        hidden = {"style", "script", "title"}
        seen = (t for path, t in self._texts if not hidden & set(path))
        return " ".join(" ".join(seen).split())


def strict(text: str) -> Any:
    """JSON, read by the letter: no NaN, no Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


# ------------------------------------------------------------- any report at all
# Every character, those that are no valid Unicode alone included.
words = st.text(st.characters(), max_size=12) | st.sampled_from(
    [SCRIPT, "", "a/b_bn", "x\r\n::error::y", "%0A", "]]>", "</pre>", "\x1b[31m", "{{ 7 }}", "[b]"]
)
numbers = st.floats() | st.integers(-5, 5)
codes = st.sampled_from(
    ["BNG101", "BNG201", "BNG203", "BNG404", "BNG405", "BNG406", "BNG407", "BNG506", "BNG999"]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | words | st.builds(np.float32, st.floats(width=32)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=4,
)
moments = st.builds(Moment, st.sampled_from(MomentKind), st.none() | st.integers(0, 99))
findings = st.builds(
    Finding,
    codes,
    words,
    st.sampled_from(["error", "warning", "info"]),
    st.lists(words, max_size=7).map(tuple),
    words,
    words,
    st.dictionaries(words, values, max_size=2),
    moments,
    st.none() | words | st.just("train.py:41"),
    st.none() | words,
)
outcomes = st.builds(
    Outcome, codes, st.sampled_from(OutcomeStatus), words, st.none() | st.sampled_from(SkipKind)
)
any_mode = st.builds(
    Mode,
    words,
    st.booleans(),
    st.booleans(),
    st.sampled_from(ExpectedMode),
    words,
    st.sampled_from([RunMode.TRAINING, RunMode.INFERENCE]),
    st.booleans(),
    st.none() | st.floats(),
    st.none() | st.booleans(),
    st.booleans(),
)
any_snapshot = st.builds(
    DriftSnapshot,
    moments,
    st.none() | st.integers(0, 9),
    st.integers(0, 99),
    st.dictionaries(words, st.floats(), max_size=3),
    st.dictionaries(words, st.floats(), max_size=3),
)


def tuples(of: Any, most: int = 3) -> Any:
    return st.lists(of, max_size=most).map(tuple)


reports = st.builds(
    Report,
    words,
    st.none() | st.just(stack()),
    tuples(findings, 4),
    tuples(outcomes),
    tuples(any_mode),
    tuples(any_snapshot),
    tuples(words, 2),
    tuples(words, 2),
    st.integers(0, 99),
)
