"""A run that was killed and started again ends, bit for bit, like one that was not.

Three kills here. The longer set, ten random steps for each of several cases:

    make kills STACK=k3-jax
"""

from __future__ import annotations

import inspect
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest

import keras_bnguard as bng
from tests import ROOT
from tests.builders import schedules as r
from tests.builders.killed_run import EPOCHS, build, phases
from tests.stack import IS_KERAS3, STACK, keras

CASES = ["Adam", "SGD-after"] + ([] if IS_KERAS3 else ["legacy"])
# In mid-epoch of the second phase; in the first step of the third, just after its transition;
# in the first step of the second, when the backup is still that of the first.
KILLS = [4 * r.STEPS + 1, 5 * r.STEPS + 2, 2 * r.STEPS]
LONG = int(os.environ.get("BNGUARD_KILLS", "0"))
dice = random.Random(20261121)
RANDOM = [(case, n, dice.randrange(1, EPOCHS * r.STEPS)) for n in range(LONG) for case in CASES]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    made = Runs(tmp_path_factory.mktemp("kills"))
    yield made
    made.close()


class Runs:
    """The process that forks the runs, and the run of each case that nobody kills."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whole: Dict[str, Path] = {}
        self._process: Any = None

    def whole(self, case: str) -> Path:
        if case not in self._whole:
            self._whole[case] = self._folder / case
            self.do([(self._whole[case], case, None)], 0)
        return self._whole[case]

    def do(self, jobs: List[Any], code: int) -> None:
        """Two processes at a time; all have to end with this code."""
        for folder, _, _ in jobs:
            folder.mkdir(exist_ok=True)
        if self._process is None:
            command = [sys.executable, "-m", "tests.builders.killed_run"]
            settings = {**os.environ, "BNGUARD_STACK": STACK, "PYTHONPATH": str(ROOT)}
            self._output = open(self._folder / "output", "w+")  # noqa: SIM115 - closed in `close`
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=settings, text=True, stderr=self._output,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        for i in range(0, len(jobs), 2):
            pair = [(str(folder), case, step) for folder, case, step in jobs[i : i + 2]]
            self._process.stdin.write(json.dumps(pair) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            output = (self._folder / "output").read_text()[-3000:]
            assert answer, output
            assert json.loads(answer) == [code] * len(pair), output

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(timeout=60)
            self._process.stdout.close()
            self._output.close()


def end(folder: Path) -> List[np.ndarray]:
    with np.load(folder / "end.npz") as stored:
        return [stored[name] for name in sorted(stored.files)]


def rows(folder: Path) -> Dict[str, Any]:
    return json.loads((folder / "end.json").read_text())


def test_a_killed_and_resumed_run_ends_like_one_that_was_not_killed(tmp_path, runs):
    check_kills(runs, tmp_path, "Adam", KILLS)


def test_a_run_that_draws_from_every_random_generator_ends_the_same(tmp_path, runs):
    """A new process has other states: rows in random order, Python's and NumPy's generators."""
    check_kills(runs, tmp_path, "Adam-random", KILLS[:1])


@pytest.mark.slow
@pytest.mark.parametrize("part", range((LONG + 2) // 3))
@pytest.mark.parametrize("case", CASES)
def test_killed_at_random_steps_it_ends_the_same(tmp_path, runs, case, part):
    """Three at a time, so that no test takes more than a few minutes."""
    steps = [step for c, n, step in RANDOM if c == case and n // 3 == part]
    check_kills(runs, tmp_path, case, steps)


def check_kills(runs: Runs, folder: Path, case: str, steps: List[int]) -> None:
    not_killed = runs.whole(case)
    paths = [folder / f"{i}-{step}" for i, step in enumerate(steps)]
    runs.do([(path, case, step) for path, step in zip(paths, steps)], -signal.SIGKILL)
    assert not any((path / "end.npz").exists() for path in paths)
    runs.do([(path, case, None) for path in paths], 0)
    expected, ending = rows(not_killed), end(not_killed)
    for path, step in zip(paths, steps):
        resumed = rows(path)
        started = resumed["first"]["epoch"]
        assert started == step // r.STEPS, (case, step)
        assert resumed["rows"] == expected["rows"][started:], (case, step)
        assert r.same(end(path), ending), (case, step)
        assert not (path / "backup-phases").exists()


# --------------------------------------------------------- in one process: quick
class Stop(Exception):
    pass


def stop_at(epoch: int, batch: int = 0) -> Any:
    """Raises inside `fit`, which leaves files as a kill there would."""

    class Stops(keras.callbacks.Callback):
        def on_epoch_begin(self, now: int, logs: Any = None) -> None:
            self.now = now

        def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
            if self.now == epoch and step >= batch:
                raise Stop

    return Stops()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Weights and optimizer of a run that was not stopped, and the folder with, for each
    epoch, the weights and the state before it."""
    folder = tmp_path_factory.mktemp("whole")

    class Keeps(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch:
                shutil.copytree(folder / "state", folder / f"state-{epoch}")

    names = str(folder / "at-{epoch}.weights.h5")
    files = keras.callbacks.ModelCheckpoint(names, save_weights_only=True)
    keras.utils.set_random_seed(1)
    model = build("Adam")
    listed = [files, r.scheduler(phases("Adam"), state=folder / "state"), Keeps()]
    r.fit(model, EPOCHS, listed, validation_data=r.data(seed=1))
    return r.weights(model), r.optimizer_variables(model), folder


@pytest.mark.parametrize("epoch", [1, 3, 6])
def test_initial_epoch_with_loaded_weights_and_a_state_folder_goes_on(epoch, whole):
    weights, variables, folder = whole
    model = build("Adam")
    schedule = r.scheduler(phases("Adam"), state=str(folder / f"state-{epoch}"))
    load(model, folder / f"at-{epoch}.weights.h5")
    r.fit(model, EPOCHS, [schedule], initial_epoch=epoch, validation_data=r.data(seed=1))
    assert schedule.history[0]["epoch"] == epoch
    assert r.same(r.weights(model), weights)
    assert r.same(r.optimizer_variables(model), variables)


def load(model: Any, path: Path) -> None:
    """Weights alone, as into a model that was not compiled."""
    bare = r.transfer(dropout=0.3 if IS_KERAS3 else 0.0)
    bare.load_weights(path)
    model.set_weights(bare.get_weights())


@pytest.mark.parametrize(
    ("order", "moment"), [("before", "wrote"), ("before", "backed-up"), ("after", "backed-up")]
)
def test_a_stop_between_our_note_and_the_backup_of_one_epoch(tmp_path, order, moment, whole):
    def run(stops: bool) -> Any:
        again = build("Adam")
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "b"))
        schedule = r.scheduler(phases("Adam"))
        victim = schedule if moment == "wrote" else backup
        inner = victim.on_epoch_end

        def ends(epoch: int, logs: Any = None) -> None:
            if moment == "wrote":
                inner(epoch, logs)
            if stops and epoch == 2:
                raise Stop
            if moment != "wrote":
                inner(epoch, logs)

        victim.on_epoch_end = ends
        listed = [schedule, backup] if order == "before" else [backup, schedule]
        r.fit(again, EPOCHS, listed, validation_data=r.data(seed=1))
        return again

    with pytest.raises(Stop):
        run(True)
    assert r.same(r.weights(run(False)), whole[0])


def test_a_backup_inside_an_epoch_keeps_the_newer_optimizer(tmp_path):
    seen = []

    def note(model: Any, epoch: int) -> None:
        seen.append((epoch, r.trainable_names(model), int(r.as_array(model.optimizer.iterations))))

    def run(*more: Any) -> None:
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "b"), save_freq=2)
        listed = [r.scheduler(r.head_then_all(2, 2)), backup, r.At(begin=note), *more]
        r.fit(r.compiled(r.transfer()), 4, listed)

    with pytest.raises(Stop):
        run(stop_at(2, 2))
    seen.clear()
    run()
    epoch, trains, iterations = seen[0]
    assert epoch == 2
    assert "dense1" in trains
    assert iterations == 2 * r.STEPS + 2


def test_a_learning_rate_that_was_reduced_comes_back(tmp_path):
    class Halves(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            optimizer = self.model.optimizer
            optimizer.learning_rate = float(r.as_array(optimizer.learning_rate)) / 2

    learning_rates = []
    for more in ([stop_at(3, 1)], []):
        seen = r.At(begin=lambda model, epoch: r.learning_rate(model))
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "b"))
        listed = [r.scheduler(r.head_then_all(4, 1)), backup, Halves(), seen, *more]
        if more:
            with pytest.raises(Stop):
                r.fit(r.compiled(r.transfer()), 5, listed)
        else:
            r.fit(r.compiled(r.transfer()), 5, listed)
        learning_rates.append(seen.seen)
    assert learning_rates[0][-1] == learning_rates[1][0] == pytest.approx(1e-2 / 8)


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 2 keeps checkpoints that are whole or absent")
@pytest.mark.parametrize("torn", ["latest.weights.h5", "training_metadata.json"])
def test_a_torn_backup_is_one_clear_error_before_anything_changes(tmp_path, torn):
    def run(*more: Any) -> None:
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "b"), **no_copy)
        r.fit(model, 4, [r.scheduler(r.head_then_all(2, 2)), backup, *more])

    known = inspect.signature(keras.callbacks.BackupAndRestore).parameters
    no_copy = {"double_checkpoint": False} if "double_checkpoint" in known else {}
    model = r.compiled(r.transfer())
    with pytest.raises(Stop):
        run(stop_at(1))
    file = tmp_path / "b" / torn
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    model = r.compiled(r.transfer())
    before, flags = r.weights(model), r.trainable_names(model)
    with pytest.raises(bng.ScheduleError, match=rf"{re.escape(torn)} is broken.*remove"):
        run()
    assert r.same(before, r.weights(model))
    assert flags == r.trainable_names(model)


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 2 keeps checkpoints that are whole or absent")
def test_a_torn_backup_with_a_copy_goes_on_an_epoch_earlier_over_a_transition(tmp_path):
    if "double_checkpoint" not in inspect.signature(keras.callbacks.BackupAndRestore).parameters:
        pytest.skip("this Keras keeps no copy")

    def run(*more: Any) -> Any:
        model = r.compiled(r.transfer())
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "b"), double_checkpoint=True)
        schedule = r.scheduler(r.head_then_all(2, 2))
        r.fit(model, 4, [schedule, backup, *more])
        return model, schedule

    with pytest.raises(Stop):
        run(stop_at(3))  # The backup is of 3, in the second phase; its copy of 2.
    file = tmp_path / "b" / "latest.weights.h5"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    model, schedule = run()
    assert [row["epoch"] for row in schedule.history] == [2, 3]
    not_stopped = r.compiled(r.transfer())
    r.fit(not_stopped, 4, [r.scheduler(r.head_then_all(2, 2))])
    assert r.same(r.weights(model), r.weights(not_stopped))


def test_counted_phases_need_no_state(tmp_path):
    model = r.compiled(r.transfer())
    seen = r.At(begin=lambda model, epoch: (r.trainable_names(model), r.learning_rate(model)))
    r.fit(model, 4, [r.scheduler(r.head_then_all(2, 2)), seen], initial_epoch=3)
    assert "dense1" in seen.seen[0][0]
    assert seen.seen[0][1] == pytest.approx(1e-5)


@pytest.mark.parametrize("learning_rate", [1e-3, "schedule"])
def test_counted_phases_go_on_with_the_optimizer_of_a_loaded_model(tmp_path, learning_rate):
    """Weights, optimizer, and where a warm-up or a schedule of the phase was; no state folder."""
    if learning_rate == "schedule":
        learning_rate = keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.5)
    warm = 0 if not isinstance(learning_rate, float) else 5
    phases = [
        bng.Phase("head", train="head*", learning_rate=1e-2, epochs=1, batch_norm="follow"),
        bng.Phase("all", train="*", learning_rate=learning_rate, warmup=warm, batch_norm="follow"),
    ]
    files = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    not_stopped = small()
    r.fit(not_stopped, 4, [r.scheduler(phases), files])
    again = keras.models.load_model(tmp_path / "2.keras")
    r.fit(again, 4, [r.scheduler(phases)], initial_epoch=2)
    assert r.same(r.weights(again), r.weights(not_stopped))
    assert r.same(r.optimizer_variables(again), r.optimizer_variables(not_stopped))


def small() -> Any:
    inputs = keras.Input((6,))
    x = r.L.BatchNormalization(name="norm")(r.L.Dense(3, name="low")(inputs))
    model = keras.Model(inputs, r.L.Dense(1, activation="sigmoid", name="head")(x))
    return r.compiled(model, "Adam", 0.5)


def test_a_schedule_of_a_phase_goes_on_where_it_was(tmp_path):
    decay = keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.5)
    phases = [
        bng.Phase("head", train="head*", learning_rate=1e-2, epochs=1),
        bng.Phase("all", train="*", learning_rate=decay, epochs=2),
        bng.Phase("end", train="*", learning_rate=bng.RelativeRate(0.1)),
    ]
    ends = []
    for listed in ([stop_at(2, 1)], [], None):
        keras.utils.set_random_seed(1)
        model, schedule = small(), r.scheduler(phases)
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "b"))
        if listed:
            with pytest.raises(Stop):
                r.fit(model, 4, [schedule, backup, *listed])
            continue
        r.fit(model, 4, [schedule] if listed is None else [schedule, backup])
        ends.append((r.weights(model), r.optimizer_variables(model)))
    for one, other in zip(*ends):
        assert r.same(one, other)


def test_a_factor_of_a_schedule_needs_the_state():
    decay = keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.5)
    phases = [
        bng.Phase("head", train="head", learning_rate=decay, epochs=1),
        bng.Phase("all", train="*", learning_rate=bng.RelativeRate(0.1)),
    ]
    with pytest.raises(bng.ScheduleError, match=r"'all' is a factor of where.*state=folder"):
        r.fit(small(), 3, [r.scheduler(phases)], initial_epoch=2)


def test_a_plateau_without_its_state_is_an_error_before_the_first_step(tmp_path):
    model = r.compiled(r.transfer())
    before = r.weights(model)
    with pytest.raises(bng.ScheduleError, match="state after epoch 3 is needed"):
        r.fit(model, 5, [r.scheduler(phases("Adam"))], initial_epoch=3, validation_data=r.data())
    assert r.same(before, r.weights(model))


def test_the_state_of_a_finished_run_does_not_steer_a_new_one(tmp_path):
    for _ in range(2):
        model = r.compiled(r.transfer())
        seen = r.At(begin=lambda model, epoch: r.trainable_names(model))
        r.fit(model, 2, [r.scheduler(r.head_then_all(1, 1), state=tmp_path), seen])
        assert "dense1" not in seen.seen[0]
        assert "dense1" in seen.seen[1]


def test_the_state_of_another_schedule_is_refused(tmp_path):
    others = [bng.Phase("first", train="head*", epochs=3), bng.Phase("second", train="*")]
    r.fit(r.compiled(r.transfer()), 4, [r.scheduler(others, state=tmp_path)])
    with pytest.raises(bng.ScheduleError, match="another schedule: first, second"):
        r.fit(
            r.compiled(r.transfer()),
            6,
            [r.scheduler(r.head_then_all(2, 2), state=tmp_path)],
            initial_epoch=4,
        )


def test_a_broken_state_file_is_named(tmp_path):
    (tmp_path / "phases-000001.npz").write_bytes(b"no archive")
    with pytest.raises(bng.ScheduleError, match=r"phases-000001\.npz is no state file"):
        r.fit(
            r.compiled(r.transfer()),
            4,
            [r.scheduler(r.head_then_all(2, 2), state=tmp_path)],
            initial_epoch=2,
        )


def test_one_scheduler_serves_two_fits():
    schedule = r.scheduler(r.head_then_all(1, 1))
    ends = []
    for _ in range(2):
        model = r.compiled(r.transfer())
        r.fit(model, 2, [schedule])
        ends.append(r.weights(model))
        assert [row["phase"] for row in schedule.history] == ["head", "all"]
    assert r.same(*ends)
