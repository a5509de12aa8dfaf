"""Which tests run where, and a clean Keras for each of them."""

from __future__ import annotations

import ast
import functools
import gc
import os
from pathlib import Path
from typing import Any, Iterator, List, Optional, Set

import pytest

TESTS = Path(__file__).parent
STACK_FIXTURES = {"keras", "stack_name"}
SEED = 20261121
LEFT_OUT = pytest.StashKey[List[str]]()
"""Names of the tests that were collected and left out."""

try:
    import hypothesis
except ImportError:  # pragma: no cover - every environment in tox.ini has it
    pass
else:
    # The same examples in every run: a failure seen once is seen again.
    hypothesis.settings.register_profile("bnguard", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("bnguard")


# ------------------------------------------------------------------ which tests
@functools.cache
def needs_stack(path: Path) -> bool:
    """Whether a file imports `tests.stack`, itself or through other files of tests/."""
    return _reaches_stack(path, set())


def _reaches_stack(path: Path, seen: Set[Path]) -> bool:
    if path in seen or path.suffix != ".py" or not path.is_file():
        return False
    seen.add(path)
    for name in _imported_names(path):
        if name.split(".")[:2] == ["tests", "stack"]:
            return True
        if name.startswith("tests."):
            target = TESTS.parent.joinpath(*name.split("."))
            files = (target.with_suffix(".py"), target.parent.with_suffix(".py"))
            if any(_reaches_stack(file, seen) for file in files):
                return True
    return False


def _imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _without_stack() -> bool:
    return os.environ.get("BNGUARD_STACK") == "none"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack-only",
        action="store_true",
        help="leave out the tests that BNGUARD_STACK=none runs: no framework can change them",
    )


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    """With BNGUARD_STACK unset, the first test that needs a Keras ends the run with that reason."""
    if not os.environ.get("BNGUARD_STACK") and needs_stack(module_path):
        parent.session.shouldfail = (
            f"{module_path.name} needs a Keras. BNGUARD_STACK names it: one of "
            f"{', '.join(_stack_names())}, or 'none' to leave such tests out"
        )


def _stack_names() -> List[str]:
    """The keys of `STACKS`, read without importing the module, which would import a Keras."""
    for node in ast.parse((TESTS / "stack.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "STACKS":
            return list(ast.literal_eval(node.value))
    raise AssertionError("tests/stack.py has no STACKS")


def pytest_ignore_collect(collection_path: Path) -> Optional[bool]:
    """With BNGUARD_STACK=none, leave out every file (and folder) that imports a Keras."""
    if not _without_stack():
        return None
    if collection_path.is_dir():
        return needs_stack(collection_path / "conftest.py") or None
    return needs_stack(collection_path) or None


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    if _without_stack():
        left_out = [item for item in items if not runs_without_stack(item)]
    elif config.getoption("--stack-only"):
        left_out = [
            item
            for item in items
            if runs_without_stack(item) and not item.get_closest_marker("with_frameworks")
        ]
    else:
        left_out = []
    config.stash[LEFT_OUT] = [item.nodeid for item in left_out]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def runs_without_stack(item: pytest.Item) -> bool:
    """Whether a test needs neither a Keras nor an optional package."""
    return not (
        needs_stack(item.path)
        or STACK_FIXTURES & set(getattr(item, "fixturenames", ()))
        or item.get_closest_marker("needs_extra")
    )


# ------------------------------------------------------------------ which stack
@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    """A stack that was named is imported first of all, so that a broken one fails the run."""
    if os.environ.get("BNGUARD_STACK", "none") != "none":
        import tests.stack  # noqa: F401


def pytest_report_header() -> str:
    if os.environ.get("BNGUARD_STACK", "none") == "none":
        return "stack: none (tests that need no framework)"
    from tests.stack import describe

    return f"stack: {describe()}"


@pytest.fixture
def keras() -> Any:
    """The Keras under test."""
    from tests.stack import keras

    return keras


@pytest.fixture
def stack_name() -> str:
    """ "k2", "tfk", "k3-tf", "k3-jax" or "k3-torch"."""
    from tests.stack import STACK

    return STACK


@pytest.fixture(autouse=True)
def _fresh_keras(request: pytest.FixtureRequest) -> Iterator[None]:
    """A fixed seed before, and no model left over after, each test that uses Keras."""
    if not (STACK_FIXTURES & set(request.fixturenames) or needs_stack(request.path)):
        yield
        return
    from tests.stack import keras

    keras.utils.set_random_seed(SEED)
    yield
    keras.backend.clear_session()
    # What a test leaves behind (traced functions above all) is out of the collector's sight from
    # now on: else every collection walks through all that the tests before have left.
    gc.collect()
    gc.freeze()
