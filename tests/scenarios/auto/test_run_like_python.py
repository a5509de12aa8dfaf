"""`bnguard run` starts and ends a script as Python does; no Keras is needed to see that."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from tests import ROOT

SCRIPTS = ROOT / "tests" / "builders" / "scripts"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ENVIRONMENT.pop("BNGUARD", None)


def hear_interrupts():
    """What a shell starts in the background ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def python(*words, stdin="", cwd=SCRIPTS, **environment):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        preexec_fn=hear_interrupts if os.name == "posix" else None,
    )


def bnguard(*words, **more):
    return python("-m", "keras_bnguard", "run", *words, **more)


def without_ours(stderr):
    """What went to stderr but for our last line."""
    return re.sub(r"keras_bnguard: no training was seen in this process.*\n", "", stderr)


@pytest.mark.parametrize(
    "how",
    ["stdin", "exit", "exit-text", "raise", "spawn", "interrupt", "hook"],
)
def test_a_script_sees_no_difference(how):
    words = ("plain.py", how, "--report", "its own")
    plain, run = python(*words, stdin="fed\n"), bnguard(*words, stdin="fed\n")
    assert run.stdout == plain.stdout
    assert without_ours(run.stderr) == plain.stderr
    assert run.returncode == plain.returncode
    assert "keras_bnguard" not in without_ours(run.stderr)


def test_exit_codes_are_those_of_python():
    # -2: ended by SIGINT, which a shell shows as 130.
    codes = {how: bnguard("plain.py", how).returncode for how in ("exit", "raise", "interrupt")}
    assert codes == {"exit": 3, "raise": 1, "interrupt": -2}


def test_a_script_elsewhere_sees_its_own_folder_first(tmp_path):
    words = (SCRIPTS / "plain.py", "stdin")
    plain, run = python(*words, cwd=tmp_path), bnguard(*words, cwd=tmp_path)
    assert (run.stdout, run.returncode) == (plain.stdout, 0)


@pytest.mark.parametrize("name", ["package.train", "package"])
def test_modules_run_as_with_python_m(name):
    plain, run = python("-m", name, "--x", "-m"), bnguard("-m", name, "--x", "-m")
    assert run.stdout == plain.stdout
    assert "relative" in run.stdout
    assert run.returncode == plain.returncode == 0


def test_a_folder_runs_by_its_main_file(tmp_path):
    (tmp_path / "__main__.py").write_text("import sys; print(sys.argv, sys.path[0], __package__)")
    plain, run = python(tmp_path, "a"), bnguard(tmp_path, "a")
    assert (run.stdout, run.returncode) == (plain.stdout, 0)


def test_what_cannot_be_started_ends_as_with_python(tmp_path):
    (tmp_path / "broken.py").write_text("def broken(:\n    pass\n")
    for words in (("absent.py",), ("broken.py",), ("-m", "no_such_module")):
        plain, run = python(*words, cwd=tmp_path), bnguard(*words, cwd=tmp_path)
        assert run.returncode == plain.returncode
        assert (
            without_ours(run.stderr).strip().splitlines()[-1]
            == (plain.stderr.strip().splitlines()[-1])
        )


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ((), "expected a script"),
        (("--fail-on", "info", "plain.py"), "expected 'error' or 'warning'"),
        (("--select", "BNG9", "plain.py"), "'BNG9' is no rule code"),
        (("--report", "r.doc", "plain.py"), ".html, .json, "),
        (("--repot", "r.json", "plain.py"), "--repot"),
    ],
)
def test_wrong_usage_is_2_and_runs_nothing(words, output):
    result = bnguard(*words)
    assert result.returncode == 2
    assert output in result.stderr
    assert result.stdout == ""


def test_options_after_the_script_are_the_scripts():
    result = bnguard("--quiet", "plain.py", "stdin", "--report", "x")
    assert "'--report', 'x'" in result.stdout
    assert result.stderr == ""


def test_settings_in_the_environment_are_checked_before_anything_runs():
    result = bnguard("plain.py", "stdin", BNGUARD="selct=BNG2")
    assert result.returncode == 2
    assert "Did you mean select" in result.stderr


def test_start_up_costs_little():
    # The aim is 100 ms; the machine may be busy, so processor time and the best of several count,
    # with a margin.
    def best(start):
        times = []
        for _ in range(5):
            begin = os.times()
            start()
            end = os.times()
            user, system = end.children_user, end.children_system
            times.append(user - begin.children_user + system - begin.children_system)
        return min(times)

    plain = best(lambda: python("plain.py", "stdin"))
    assert best(lambda: bnguard("plain.py", "stdin")) - plain < 0.2


def test_start_up_loads_no_numpy():
    code = (
        "import sys; from keras_bnguard.auto import enable_warnings; enable_warnings(); "
        "print(sorted({'numpy', 'keras', 'keras_bnguard.records'} & set(sys.modules)))"
    )
    assert python("-c", code, cwd=ROOT).stdout.strip() == "[]"
