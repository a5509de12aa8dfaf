"""The frame of the command line: help, version, what was typed wrong, and exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import keras_bnguard
from keras_bnguard.cli import SUBCOMMANDS, installed, main
from tests import ROOT


def ended(*argv):
    with pytest.raises(SystemExit) as caught:
        main(list(argv))
    return caught.value.code


def test_help_names_every_subcommand_and_the_exit_codes(capsys):
    assert ended("--help") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("usage: bnguard")
    for name, what in SUBCOMMANDS.items():
        assert name in out
        assert what.split()[0] in out
    assert "Exit codes: 0" in out


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_help(name, capsys):
    assert ended(name, "--help") == 0
    assert capsys.readouterr().out.startswith(f"usage: bnguard {name}")


def test_version(capsys):
    assert ended("--version") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"keras_bnguard {keras_bnguard.__version__} (")


def test_the_version_names_keras_and_the_backend_without_loading_them(monkeypatch):
    monkeypatch.setattr(installed.importlib.metadata, "version", lambda name: "3.15.1")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert "(keras 3.15.1, " in installed.version()
    assert installed.version().endswith("backend jax)")


def test_nothing_typed_prints_the_help_and_is_wrong(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: bnguard")


def test_an_unknown_subcommand_is_named(capsys):
    assert ended("adit") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "'adit'" in err.splitlines()[-1]
    assert err.splitlines()[-1].endswith("Did you mean audit?")


def test_an_unknown_option_is_answered_with_the_nearest(capsys):
    assert ended("audit", "m.keras", "--selct", "BNG2") == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("Did you mean --select?")


@pytest.mark.parametrize("argv", [("audit",), ("explain",), ("rules", "--nonsense")])
def test_wrong_arguments_end_with_2(argv, capsys):
    assert ended(*argv) == 2
    assert capsys.readouterr().err.startswith("usage: bnguard")


@pytest.mark.parametrize("seeds", ["0", "-1", "many"])
def test_the_demo_takes_one_seed_or_more(seeds, capsys):
    assert ended("demo", f"--seeds={seeds}") == 2
    assert "--seeds" in capsys.readouterr().err.splitlines()[-1]


def test_run_takes_the_rest_of_the_line_for_the_script(tmp_path, capsys):
    missing = tmp_path / "train.py"
    assert main(["run", str(missing), "--version"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(missing) in line


def test_arguments_come_from_the_process_by_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bnguard", "explain", "BNG201"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("BNG201 ")


def test_python_m_runs_it_without_loading_a_framework():
    code = (
        "import runpy, sys; sys.argv = ['bnguard', 'rules']\n"
        "try: runpy.run_module('keras_bnguard', run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "found = {'tensorflow', 'keras', 'tf_keras', 'jax', 'torch'} & set(sys.modules)\n"
        "print('loaded:', *sorted(found)); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "loaded:"
    assert "BNG201" in result.stdout
