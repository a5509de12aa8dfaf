#!/usr/bin/env python3
"""List the words that docs/glossary.md replaces, with the place and the word to use.

    python tools/check_glossary.py                          everything that is checked
    python tools/check_glossary.py keras_bnguard/guard ...  some files and folders

Prose (docstrings, comments, strings, Markdown) and the names that the code defines are read; names
of other libraries are not. Ends with 1 where something is found.
"""

from __future__ import annotations

import argparse
import ast
import functools
import io
import json
import re
import sys
import tokenize
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Pattern, Sequence, Tuple

ROOT = Path(__file__).resolve().parent.parent

CHECKED = (
    "keras_bnguard",
    "tests",
    "docs",
    "examples",
    "benchmarks",
    "tools",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "RELEASING.md",
    "Makefile",
    "setup.cfg",
    "tox.ini",
)

NOT_CHECKED = (
    # They list the old words.
    "docs/glossary.md",
    "tools/check_glossary.py",
    "tests/docs/test_glossary.py",
    # Generated from the docstrings of rules, which are checked.
    "docs/rules.md",
)

SUFFIXES = {".py", ".md", ".html", ".json", ".sh", ".txt", ".ipynb", ".cfg", ".ini", ".js"}

OLD_NAMES = re.compile(r"<!-- old names -->.*?<!-- end of old names -->", re.S)
"""A part of a Markdown page that lists renames."""


@dataclass(frozen=True)
class Word:
    """A word of the left column of the glossary.

    Attributes:
        pattern: regular expression for prose with single spaces, and for the words of a name.
        instead: what to write.
        names_only: whether the word is plain English in prose. Defaults to `False`.
    """

    pattern: str
    instead: str
    names_only: bool = False

    def compiled(self) -> Pattern[str]:
        return re.compile(self.pattern, re.IGNORECASE)


def _name(words: str, instead: str) -> Word:
    """A word that is wrong as a whole name, and plain English elsewhere."""
    return Word(rf"^(?:{words})$", instead, names_only=True)


STATISTICS = r"(?:statistics?|means?|variances?|BN|BatchNorm\w*|gamma|beta)"

WORDS = (
    # Checks.
    Word(r"\blook(?:s|ed|ing)?\b", "check, check(), snapshot"),
    Word(r"\bglanc(?:e|es|ed|ing)\b", "quick check"),
    Word(r"\bstirred\b", "needs_check"),
    Word(r"\bpeek(?:s|ed|ing)?\b", "sample (the data)"),
    # What BN does.
    Word(
        r"\b(?:stand(?:s|ing)?|stood|stay(?:s|ed)?|kept|keeps?|hold|holds|held) still\b",
        "frozen; runs in inference mode; must not update its statistics",
    ),
    Word(
        rf"\b{STATISTICS}\b(?: \w+){{0,4}} (?:moves?|moved)\b(?! (?:to|into|from|out)\b)"
        rf"|\b(?:moves|moved|move|moving) (?:the|its|their|trained|pretrained|no|any|all) "
        rf"(?:\w+ )?{STATISTICS}\b|\bwhat moved\b|\bmoved in\b|\bmoves? (?:nothing|them)\b",
        "is updated, changed",
    ),
    Word(
        r"\blive (?:BN|BatchNorm\w*|batch|statistics|layers?|policy|policies|ones?|run)\b"
        r"|\b(?:is|are|was|were|runs?|stays?|from|than|or) live\b(?! (?:in|at|on|with|here)\b)"
        r"|^live$",
        "BN in training mode; trainable BN",
    ),
    Word(r"\bby (?:the|its|their|one|each) batch(?:es)?\b(?! size)", "with batch statistics"),
    Word(r"\bby (?:the|its|their) moving statistics\b", "with moving statistics"),
    Word(r"\bheld\b", "force inference mode, forced_inference"),
    Word(
        r"\b(?:hold|holds|holding)\b(?: \w+){0,3} (?:BN|BatchNorm\w*|inference)\b"
        r"|\b(?:a|the|this|that|open|every|each|no) holds?\b(?! (?:for|on to)\b)"
        r"|\bhold inference\b|\bunheld\b",
        "force inference mode, forced_inference",
    ),
    _name(r"hold|holds|holding", "forced_inference"),
    Word(r"\bthaw(?:s|ed|ing)?\b", "unfreeze, unfrozen"),
    Word(r"\bflip(?:s|ped|ping)?\b", "change of `trainable`, TrainableChange"),
    Word(r"\b(?:stand(?:s|ing)?|stood) down\b", "disables itself"),
    Word(r"\bculprit\b", "fail-safe"),
    # Records.
    Word(r"\bsurvey(?:s|ed|ing)?\b", "ModelSnapshot"),
    Word(r"\bsurroundings\b", "graph context"),
    _name(r"around", "graph context"),
    Word(r"\bmovements?\b", "StatisticsChange"),
    Word(r"\blags?\b", "EMA bias: remaining weight of the initial value"),
    Word(r"\bstart left\b", "remaining weight of the initial value"),
    Word(r"\bstill to come\b", "remaining change to steady state"),
    _name(r"switch|switches", "layer whose `call` defaults to training=True"),
    _name(r"alone", "batch dependence of a prediction"),
    _name(r"within", "within-batch variance ratio"),
    Word(r"\bspreads?\b", "standard error"),
    _name(r"kinds|single", "number of classes, single-class batches"),
    Word(r"\bsick\b|\blost (?:its|their) health\b", "invalid statistics"),
    _name(r"far", "drifted"),
    _name(r"(?:.* )?quiet", "unchanged"),
    # Rules.
    Word(r"\b(?:a|the|no|each|every|one|this|that|of|its|first|rule) hits?\b|^hits?$", "Violation"),
    Word(r"\bcannot look\b", "skip reason"),
    Word(r"\bmut(?:e|es|ed|ing)\b", "ignore, rule filter"),
    Word(r"\brules? (?:is|are|was|were) asked\b|\basked (?:again|at)\b", "evaluated at"),
    _name(r"asked|looks again|when quiet", "evaluated at"),
    # Training.
    Word(r"(?<!learning[ -])(?<!dropout[ -])\brates?\b", "learning rate"),
    Word(r"\bslots?\b", "optimizer state variables"),
    Word(r"\banew\b", "re-created, again"),
    Word(r"\bpenalt(?:y|ies)\b", "regularization losses"),
    Word(r"\b(?:values?|state|them) home\b", "write the JAX state back to the model"),
    Word(
        r"\bloops? of (?:your|one's|their|its) own\b|\b(?<!its )own loops?\b",
        "custom training loop",
    ),
    Word(
        r"\btrain (?:begin|end)\b(?! batch)|\bthe begin\b|\b(?:at|since) begin\b",
        "start of training",
    ),
    Word(r"\brehears(?:al|als|e|ed)\b", "trial training"),
    Word(r"\bchapters?\b", "phase history"),
    _name(r"feed|feeds", "training data of `fit`"),
    Word(r"\bledgers?\b", "run log"),
    Word(r"\bspy\b|\bspies\b", "call tracer"),
    _name(r"hosts?", "callback base"),
    _name(r"origins?", "saved by"),
    _name(r"silent(?: guard)?", "automatic guard"),
    # Objects do not speak.
    Word(r"\b(?:told|tells?|telling)\b", "reports, describes, emits"),
    Word(r"\b(?:said|says?|saying)\b", "reports, describes, emits"),
    # Objects of the field.
    Word(r"\bstock\b", "built-in Keras BN"),
    Word(r"\bweighted layers?\b", "layer with weights"),
    _name(r"cross", "folds"),
    Word(r"\bzero[ -]touch\b", "automatic instrumentation, auto"),
    Word(r"\bengines?\b", "backend"),
    Word(r"\bexcus(?:e|es|ed|ing)\b", "explained by"),
    Word(r"\btruth about\b", "audits and monitors"),
)

TRUE_USES = (
    # Idioms.
    r"\blook(?:s|ed|ing)?[ -](?:up|ups|like|for|alike)\b",
    r"\bheld[ -]out\b",
    r"\bhistory of a phase\b",
    # A gradient penalty is a loss of GANs; a bit is flipped in files that are damaged on purpose.
    r"\bgradient penalt(?:y|ies)\b",
    r"\bbit flips?\b|\bflip(?:s|ped)? (?:a |one )?bits?\b",
    # Augmentation: images are flipped.
    r"\brandom[ -]?flips?\b|\bflip(?:s|ped)? (?:of )?(?:images?|horizontally|left|x|axis)\b",
    # Names of this package, and other rates than the learning rate.
    r"\brelative ?rates?\b|\bfine[ -]tuning[ -]rate\b|\b(?:decay|error|sampling) rates?\b",
    # Keras: hooks, a module of Keras 2, and `__slots__` of Python.
    r"\bsrc\.engine\b|\bon train (?:begin|end)\b|\bon_train_(?:begin|end)\b|__slots__",
    # People speak.
    r"\b(?:you|we|people|users?) (?:says?|tells?|said|told)\b",
)

TRUE_USES_IN = {
    # A module of Keras 2.
    "keras_bnguard/backends/adapters/keras2.py": r"\bengine\b",
    # Python's own name.
    "keras_bnguard/backends/patches/call_tracer.py": r"__slots__",
    # What legacy optimizers of Keras 2 call their state variables.
    "keras_bnguard/backends/optimizers/legacy.py": r"^_slots$",
    "tests/contract/test_private_names_of_optimizers.py": r"^_slots$",
    "tests/scenarios/phases/test_legacy_optimizers.py": r"^_create_slots$",
}
"""Phrases that are right in one file only."""

_TRUE_USES = re.compile("|".join(TRUE_USES), re.IGNORECASE)
_COMPILED = tuple((word, word.compiled()) for word in WORDS)


@dataclass(frozen=True)
class Offence:
    """One place where a word of the left column stands.

    Attributes:
        path: the file, relative to the root of the repository.
        line: line number, from 1.
        found: the words as they stand there.
        instead: what to write.
    """

    path: str
    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r} -> {self.instead}"


def offences(paths: Sequence[Path]) -> List[Offence]:
    """Every offence in files and folders, in the order of files and lines."""
    found = []
    for path in _files(paths):
        name = path.relative_to(ROOT).as_posix()
        allowed = re.compile(TRUE_USES_IN.get(name, r"(?!)"))
        places = sorted(set(_of_file(path)))
        found += [Offence(name, *rest) for rest in places if not allowed.search(rest[1])]
    return found


def in_prose(text: str) -> List[Tuple[int, str, str]]:
    """(line, what stands there, what to write) for a text that is all prose."""
    found = []
    # One space between words, so that a pattern sees a phrase over the end of a line.
    places = [(m.start(), m.group()) for m in re.finditer(r"\S+", text)]
    starts, joined, length = [], [], 0
    for start, word in places:
        starts.append((length, start))
        joined.append(word)
        length += len(word) + 1
    flat = _masked(" ".join(joined))
    for word, pattern in _COMPILED:
        if word.names_only:
            continue
        for match in pattern.finditer(flat):
            at = max(start for position, start in starts if position <= match.start())
            found.append((text.count("\n", 0, at) + 1, match.group(), word.instead))
    return found


@functools.cache
def in_name(name: str) -> List[Tuple[str, str]]:
    """[(name, what to write)] or nothing for a name, split at underscores and capitals."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+", " ", name).strip()
    flat = _masked(words)
    return [(name, word.instead) for word, pattern in _COMPILED if pattern.search(flat)][:1]


def _masked(text: str) -> str:
    return _TRUE_USES.sub(lambda match: "~" * len(match.group()), text)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = file.relative_to(ROOT).as_posix()
            known = file.suffix in SUFFIXES or file.name == "Makefile"
            if known and file.is_file() and name not in NOT_CHECKED and "__pycache__" not in name:
                yield file


def _of_file(path: Path) -> Iterator[Tuple[int, str, str]]:
    text = path.read_text(encoding="utf-8")
    yield from ((1, *each) for each in in_name(path.stem) if path.suffix == ".py")
    if path.suffix == ".py":
        yield from _of_python(text)
    elif path.suffix == ".ipynb":
        for cell in json.loads(text)["cells"]:
            source = "".join(cell["source"])
            yield from _of_python(source) if cell["cell_type"] == "code" else in_prose(source)
    else:
        blank = OLD_NAMES.sub(lambda match: "\n" * match.group().count("\n"), text)
        yield from in_prose(blank)


def _of_python(source: str) -> Iterator[Tuple[int, str, str]]:
    yield from in_prose(_prose(source))
    for line, name in _defined_names(ast.parse(source)):
        yield from ((line, *each) for each in in_name(name))


def _prose(source: str) -> str:
    """The source with all that is neither comment nor string blanked, line by line as before."""
    lines = [list(line) for line in source.splitlines()]
    kept: Dict[int, List[str]] = {n: [" "] * len(line) for n, line in enumerate(lines, 1)}
    in_string = {"FSTRING_MIDDLE", "STRING", "COMMENT"}
    blank = {"NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER", "ENCODING"}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind in blank:
            continue
        (first, column), (last, end) = token.start, token.end
        for line in range(first, last + 1):
            begin = column if line == first else 0
            stop = end if line == last else len(lines[line - 1])
            piece = "".join(lines[line - 1][begin:stop])
            kept[line][begin:stop] = piece if kind in in_string else "\0" * len(piece)
    text = "\n".join("".join(line) for line in kept.values())
    # Comment signs, quotes and what an f-string fills in are no words.
    text = re.sub(r"\{[^{}\n]*\}", lambda match: "\0" * len(match.group()), text)
    return re.sub(
        r"""[rbfRBF]{0,2}\"{1,3}|[rbfRBF]{0,2}'(?!\w)|(?<!\w)[rbfRBF]{0,2}'|#|\\n""",
        lambda match: " " * len(match.group()),
        text,
    )


def _defined_names(tree: ast.AST) -> Iterator[Tuple[int, str]]:
    """Names that a module defines: functions, classes, arguments, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, help="files and folders (default: all)")
    parser.add_argument("--count", action="store_true", help="print numbers by folder alone")
    args = parser.parse_args()
    chosen = args.paths or [ROOT / name for name in CHECKED if (ROOT / name).exists()]
    found = offences([path.resolve() for path in chosen])
    if not args.count:
        print("\n".join(map(str, found)))
    for folder, number in sorted(Counter("/".join(Path(o.path).parts[:2]) for o in found).items()):
        print(f"{number:5} {folder}", file=sys.stderr)
    print(f"{len(found):5} in all; docs/glossary.md says why", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
