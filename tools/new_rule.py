"""Start a new rule, or list what is missing from the rules that were started.

python tools/new_rule.py BNG210 some-name    write the rule, its test, its facts and its doc
python tools/new_rule.py --check             list what is unfinished; write nothing

The files pass lint and tests as they are written: until you change it, the rule fires on a BN that
is named after the rule. TODO marks each place to fill in.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "keras_bnguard" / "rules"
TESTS = ROOT / "tests" / "unit" / "rules"
CONTRACT = TESTS / "test_all_rules.py"
FACTS = ROOT / "tests" / "builders" / "everything_wrong.py"
FACTS_END = "        # A BN for each rule that was just started: tools/new_rule.py adds it here.\n"

RULE = '''"""{code}: TODO: what is wrong, in one line."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, NormLayer, Severity
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.text import count, some


class {class_name}(Rule):
    """TODO: what is wrong, in one sentence.

    What it checks:
        TODO: which layers, which facts.

    Why it matters:
        TODO: what goes wrong for the user, with a number.

    How it decides:
        TODO: the formula, its threshold and unit.

    Example:
        "TODO: code that makes the rule fire"

    Fix:
        TODO: what to do.

    Known limits:
        TODO: where it stays silent, and whether it is certain.

    Source:
        TODO: an experiment, a Keras file, an issue.
    """

    code = "{code}"
    name = "{name}"
    severity = Severity.WARNING

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        paths = tuple(norm.path for norm in inventory.norms if _is_wrong(norm))
        if not paths:
            return
        yield Violation(
            layers=paths,
            message=f"{{count(len(paths), 'BN layer')}}: {{some(paths)}}. TODO: the numbers.",
            fix='TODO: code, before fit:\\n    model.get_layer("bn").trainable = False',
            evidence={{"layers": len(paths)}},
        )


def _is_wrong(norm: NormLayer) -> bool:
    """TODO: the condition."""
    return norm.path == "{module}"
'''

TEST = '''"""{code} on facts made by hand."""

from keras_bnguard.rules.{module}_{stem} import {class_name} as RULE
from tests.builders.facts import facts, norm, the_violation, violations


def test_it_fires_on_todo():
    assert the_violation(RULE, facts(norm("{module}"), norm("bn"))).layers == ("{module}",)


def test_todo_is_silent():
    assert not violations(RULE, facts(norm("bn")))
'''


def start(code: str, name: str) -> List[Path]:
    """Write all files of a new rule.

    Args:
        code: "BNG" and three digits, of no rule yet.
        name: kebab-case.

    Returns:
        The files that were written or changed.

    Raises:
        SystemExit: the code or the name is malformed or taken.
    """
    if not re.fullmatch(r"BNG[1-9][0-9]{2}", code):
        raise SystemExit(f"{code!r} is not BNG and three digits.")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise SystemExit(f"{name!r} is not kebab-case.")
    module, stem = code.lower(), name.replace("-", "_")
    if list(RULES.glob(f"{module}_*.py")) or list(RULES.glob(f"bng*_{stem}.py")):
        raise SystemExit(f"{code} or {name} is taken.")
    words = {
        "code": code,
        "name": name,
        "module": module,
        "stem": stem,
        "class_name": "".join(part.capitalize() for part in name.split("-")),
    }
    rule, test = RULES / f"{module}_{stem}.py", TESTS / f"test_{module}.py"
    rule.write_text(RULE.format(**words), encoding="utf-8")
    test.write_text(TEST.format(**words), encoding="utf-8")
    _add_row(code)
    facts = FACTS.read_text(encoding="utf-8")
    FACTS.write_text(
        facts.replace(FACTS_END, f'        norm("{module}"),\n{FACTS_END}'), encoding="utf-8"
    )
    subprocess.run([sys.executable, str(ROOT / "tools" / "make_docs.py")], check=True)
    return [rule, test, CONTRACT, FACTS, ROOT / "docs" / "rules.md", ROOT / "README.md"]


def _add_row(code: str) -> None:
    """Add the rule to the table of declared values, in code order."""
    lines = CONTRACT.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [i for i, line in enumerate(lines) if re.match(r"\| BNG[0-9]{3} \|", line)]
    later = [i for i in rows if lines[i] > f"| {code} |"]
    lines.insert(
        later[0] if later else rows[-1] + 1, f"| {code} | warning | inventory |  |  |  |\n"
    )
    CONTRACT.write_text("".join(lines), encoding="utf-8")


def unfinished() -> Iterator[str]:
    """Yield one line for each thing that is missing from a rule."""
    sys.path.insert(0, str(ROOT))
    from keras_bnguard.rules import ALL_RULES
    from keras_bnguard.rules.base import HEADINGS
    from keras_bnguard.rules.evaluate import check
    from tests.builders.everything_wrong import EVERYTHING_WRONG

    table = CONTRACT.read_text(encoding="utf-8")
    for rule in ALL_RULES:
        (file,) = RULES.glob(f"{rule.code.lower()}_*.py")
        test = TESTS / f"test_{rule.code.lower()}.py"
        sections = rule.sections()
        for heading in HEADINGS:
            if not sections.get(heading) or "TODO" in sections[heading]:
                yield f"{rule.code}: fill in {heading!r} in {_name(file)}"
        if "TODO" in rule.title() or "TODO" in _code_of(file):
            yield f"{rule.code}: replace each TODO in {_name(file)}"
        if not test.is_file():
            yield f"{rule.code}: write {_name(test)}"
        elif re.search("todo", test.read_text(encoding="utf-8"), re.I):
            yield f"{rule.code}: replace each TODO in {_name(test)}"
        if f"| {rule.code} |" not in table:
            yield f"{rule.code}: add a row to the table in {_name(CONTRACT)}"
        known = [each for each in EVERYTHING_WRONG if all(map(each.has, rule.needs()))]
        if not any(check(rule, each) for each in known):
            yield f"{rule.code}: add facts in which it fires to {_name(FACTS)}"
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_docs.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    yield from done.stdout.splitlines()


def _code_of(file: Path) -> str:
    """The file without its docstrings under headings, which are reported one by one."""
    return re.sub(r'    """.*?\n    """\n', "", file.read_text(encoding="utf-8"), flags=re.S)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def main(arguments: List[str]) -> int:
    """Run the command line; return its exit code."""
    if arguments == ["--check"]:
        missing = list(unfinished())
        print("\n".join(missing) or "Nothing is missing.")
        return int(bool(missing))
    if len(arguments) != 2:
        print(__doc__)
        return 2
    for path in start(*arguments):
        print(_name(path))
    print("Next: fill in each TODO; python tools/new_rule.py --check lists what is left.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
