"""`bnguard demo` in miniature: what it shows is what happened, on the Keras under test."""

from __future__ import annotations

import builtins
import contextlib
import io

import numpy as np
import pytest

from keras_bnguard.cli import main
from keras_bnguard.cli.demo import demo
from keras_bnguard.cli.demo.digits import load_digits
from keras_bnguard.cli.demo.recipe import AS_IS, FIXED, HEAD_ONLY, VARIANTS, Setting
from keras_bnguard.cli.demo.summary import of_variant, plain_table, rows, show_table
from tests.builders.models import layers  # noqa: F401 - makes the backend compile quickly
from tests.stack import IS_KERAS3, STACK

TINY = Setting(
    source_epochs=1,
    head_epochs=1,
    tune_epochs=1,
    labelled=24,
    held_out=16,
    source_batch=128,
    tune_learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """(runs, what was printed, folder) of one demo with one seed."""
    folder = tmp_path_factory.mktemp("demo") / "made" / "here"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runs = demo(1, folder, TINY)
    return runs, printed.getvalue(), folder


def only(runs, variant):
    (run,) = of_variant(runs, variant)
    return run


def test_every_variant_ran_from_the_same_head(shown):
    runs = shown[0]
    assert [run.variant for run in runs] == list(VARIANTS)
    assert all(len(run.accuracy) == 2 for run in runs)
    assert len({run.after_head for run in runs}) == 1
    assert all(0 <= run.after_tuning <= 1 for run in runs)


def test_the_recipe_as_it_is_loses_its_statistics_on_keras_3_only(shown):
    run = only(shown[0], AS_IS)
    codes = [finding.code for finding in run.findings]
    assert codes == (["BNG201", "BNG404"] if IS_KERAS3 else [])
    assert run.unchanged is not IS_KERAS3
    assert len(run.drift) == 5
    assert all((shift > 0) is IS_KERAS3 for shift in run.drift.values())


def test_statistics_in_forced_inference_are_bit_identical(shown):
    run = only(shown[0], FIXED)
    assert run.unchanged
    assert set(run.drift.values()) == {0.0}
    assert [finding.code for finding in run.findings] == (["BNG201"] if IS_KERAS3 else [])
    assert all(finding.repaired for finding in run.findings)


def test_training_the_head_changes_no_statistics_and_has_no_finding(shown):
    run = only(shown[0], HEAD_ONLY)
    assert run.unchanged
    assert run.findings == ()


def test_the_picture_is_written_to_the_path_that_is_printed(shown):
    _, printed, folder = shown
    (picture,) = folder.iterdir()
    assert picture.name == f"demo_{STACK}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"picture: {picture}" in printed


def test_what_is_printed_is_what_happened(shown):
    runs, printed, _ = shown
    printed = " ".join(printed.split())
    assert "24 labelled images" in printed
    assert "1 seed(s) on " in printed
    assert ("BNG201 training-false-ignored [error]" in printed) is IS_KERAS3
    assert ("with BNGuard(fix=True): BNG201, " in printed) is IS_KERAS3
    assert ("nothing found in the recipe as it is" in printed) is not IS_KERAS3
    verb = "overrides" if IS_KERAS3 else "honours"
    assert f"{verb} base(x, training=False) in fit" in printed
    assert max(map(len, plain_table(rows(runs)).splitlines())) <= 80


def test_what_is_printed_fits_80_columns_and_no_frame_breaks_a_line_twice(shown):
    lines = shown[1].splitlines()
    assert max(len(line) for line in lines if not line.startswith("picture: ")) <= 80
    framed = [line[1:-1].rstrip() for line in lines if line[:1] in ("\u2502", "|")]
    assert bool(framed) is True
    # A line that a frame breaks goes on without the indentation of the message.
    assert [x for x in framed if not x.startswith(("   ", " BNG", " nothing"))] == []


def test_one_seed_has_no_deviation(shown):
    assert all("+-" not in cell for row in rows(shown[0]) for cell in row)


def test_the_table_counts_runs_with_changed_statistics(shown):
    as_is, fixed, head = rows(shown[0])
    assert as_is[-1] == ("changed in 1 of 1" if IS_KERAS3 else "bit-identical")
    assert fixed[-2:] == head[-2:] == ("0.00 sd", "bit-identical")


def test_the_digits_are_split_without_overlap():
    digits = load_digits(0, 100, 200)
    again, other = load_digits(0, 100, 200), load_digits(1, 100, 200)
    assert [len(part[1]) for part in (digits.train, digits.held_out)] == [100, 200]
    assert digits.source[0].shape[1:] == (8, 8, 1)
    assert set(digits.source[1]) == set(digits.held_out[1]) == {0, 1, 2, 3, 4}
    kept = {image.tobytes() for image in digits.held_out[0]}
    assert not kept & {image.tobytes() for image in digits.train[0]}
    assert np.array_equal(digits.train[0], again.train[0])
    assert not np.array_equal(digits.train[0], other.train[0])


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn", "scikit-learn"), ("matplotlib", "matplotlib")]
)
def test_a_missing_package_is_named_before_any_training(
    module, package, tmp_path, capsys, monkeypatch
):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == module:
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["demo", "--seeds=1", f"--out={tmp_path / 'out'}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert f"needs {package}, which is not installed" in line
    assert "keras_bnguard[demo]" in line
    assert not (tmp_path / "out").exists()


def test_the_table_is_not_cut_at_80_columns(monkeypatch, capsys):
    """The widest cells there can be, with rich and without."""
    monkeypatch.setenv("COLUMNS", "80")
    widest = (
        "BNGuard(fix=True)",
        "87.6 +- 10.3 %",
        "92.7 +- 12.0 %",
        "12.34 sd",
        "changed in 3 of 3",
    )
    for table in (show_table, lambda cells: print(plain_table(cells))):
        table([widest])
        lines = capsys.readouterr().out.splitlines()
        assert any(all(cell in line for cell in widest) for line in lines)
        assert max(map(len, lines)) <= 80
