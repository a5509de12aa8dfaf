"""A schedule that goes on: with and without a state, from an earlier epoch, with other fields."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.schedules import keras

EPOCHS = 6
# Their runs are stopped in the middle.
pytestmark = [
    pytest.mark.filterwarnings("ignore:fit ends after"),
    pytest.mark.filterwarnings("ignore:training ended in phase"),
]


def phases(**second: Any) -> List[bng.Phase]:
    values = {"train": "*", "learning_rate": 4e-3, **second}
    return [
        bng.Phase("h", train="head*", learning_rate=2e-2, epochs=2),
        bng.Phase("a", epochs=3, **values),
        bng.Phase("z", train="head*", learning_rate=1e-3),
    ]


def model() -> Any:
    return r.compiled(r.transfer())


def run(model: Any, epochs: int, scheduled: Any, begin: int = 0, *more: Any) -> Any:
    schedule = scheduled if hasattr(scheduled, "phases") else r.scheduler(scheduled)
    r.fit(model, epochs, [schedule, *more], initial_epoch=begin)
    return schedule


@pytest.fixture(scope="module")
def whole() -> Any:
    one = model()
    run(one, EPOCHS, phases())
    return one


# ------------------------------------------------------------ which BN were pretrained
@pytest.mark.parametrize("same_scheduler", [True, False])
@pytest.mark.parametrize("cut", range(1, EPOCHS))
def test_two_fits_of_one_model_end_like_one(cut, same_scheduler, whole):
    """The BN of the head, new at first, has trained statistics when the second fit begins."""
    one = model()
    schedule = run(one, cut, phases())
    run(one, EPOCHS, schedule if same_scheduler else phases(), cut)
    assert r.same(r.weights(one), r.weights(whole))
    assert r.same(r.optimizer_variables(one), r.optimizer_variables(whole))


def test_three_fits_and_an_exception_between_end_like_one(whole):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

    one = model()
    run(one, 1, phases())
    with pytest.raises(KeyboardInterrupt):
        run(one, EPOCHS, phases(), 1, Stop())
    run(one, 3, phases(), 1)
    run(one, EPOCHS, phases(), 3)
    assert r.same(r.weights(one), r.weights(whole))


def in_inference(one: Any, epochs: int = 1) -> bool:
    """Whether the BN of the head runs in inference mode in a new run of one phase."""
    before = r.statistics(one, "head_bn")
    run(one, epochs, [bng.Phase("all", train="*", learning_rate=1e-3)])
    return before == r.statistics(one, "head_bn")


def test_a_new_run_remembers_what_the_model_began_with_until_its_weights_are_replaced():
    one = model()
    run(one, 2, phases())
    assert not in_inference(one)
    assert not in_inference(one)
    backbone = r.statistics(one, "backbone/bn1")
    loaded = r.transfer()
    for layer in r.leaves(loaded):
        layer.set_weights([value + 0.5 for value in layer.get_weights()])
    one.set_weights(loaded.get_weights())
    assert in_inference(one)
    assert backbone != r.statistics(one, "backbone/bn1")


def test_the_plan_of_a_trained_model_counts_its_bn_like_the_fit_would():
    one = model()
    schedule = run(one, 2, phases())
    assert schedule.plan(one) == schedule.plan(model())


def test_without_any_memory_a_line_reports_what_counts_as_pretrained(capsys):
    one = model()
    run(one, 3, phases())
    loaded = r.compiled(keras.models.clone_model(one))
    loaded.set_weights(one.get_weights())
    capsys.readouterr()
    run(loaded, 4, bng.PhaseScheduler(phases()), 3)
    assert "which BN were pretrained" in capsys.readouterr().out
    run(loaded, 5, bng.PhaseScheduler(phases()), 4)
    assert "which BN were pretrained" not in capsys.readouterr().out


# ------------------------------------------------------------------ an earlier epoch
class Keeps(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.after: Dict[int, List[np.ndarray]] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.after[epoch] = r.weights(self.model)


def ours(reported: Any) -> List[str]:
    """Texts of the warnings of this package, but for one that these tests cause on purpose."""
    texts = [str(w.message) for w in reported if issubclass(w.category, bng.BNGuardWarning)]
    return [text for text in texts if not text.startswith(("fit ends after", "training ended in"))]


def states(folder: Path) -> List[int]:
    return sorted(int(path.stem[-6:]) for path in folder.glob("phases-*.npz"))


def with_weights(values: List[np.ndarray]) -> Any:
    one = model()
    one.set_weights(values)
    return one


def test_states_of_a_run_that_begins_again_earlier_replace_those_of_the_run_before(tmp_path):
    kept, folder = Keeps(), tmp_path / "state"
    run(model(), EPOCHS, r.scheduler(phases(), state=folder), 0, kept)
    assert states(folder) == [4, 5]
    again = with_weights(kept.after[1])
    with pytest.warns(bng.BNGuardWarning) as reported:
        run(again, 4, r.scheduler(phases(), state=folder), 2)
    texts = ours(reported)
    assert [("epoch 2 is missing" in t, "epochs 5, 6" in t) for t in texts] == [
        (True, True),
        (False, True),
    ]
    assert states(folder) == [2, 3]
    # Going on from the new states equals one run from that epoch on.
    gone_on = with_weights(r.weights(again))
    with warnings.catch_warnings():
        warnings.simplefilter("error", bng.BNGuardWarning)
        run(gone_on, EPOCHS, r.scheduler(phases(), state=folder), 4)
    other = tmp_path / "other"
    in_one = with_weights(kept.after[1])
    # The old states know which BN were pretrained.
    run(model(), EPOCHS, r.scheduler(phases(), state=other))
    with pytest.warns(bng.BNGuardWarning):
        run(in_one, EPOCHS, r.scheduler(phases(), state=other), 2)
    assert r.same(r.weights(gone_on), r.weights(in_one))
    assert r.same(r.optimizer_variables(gone_on), r.optimizer_variables(in_one))


@pytest.mark.filterwarnings("ignore:the state after epoch 2 is missing")
def test_an_earlier_run_that_does_not_begin_leaves_the_states(tmp_path):
    run(model(), EPOCHS, r.scheduler(phases(), state=tmp_path))
    refused = [r.scheduler(phases(), state=tmp_path), Refuses()]
    for begin in (0, 2):
        with pytest.raises(Refusal):
            r.fit(model(), EPOCHS, refused, initial_epoch=begin)
        assert states(tmp_path) == [4, 5]


class Refusal(Exception):
    pass


class Refuses(keras.callbacks.Callback):
    def on_train_begin(self, logs: Any = None) -> None:
        raise Refusal


# ----------------------------------------------------------------- states that do not fit
def rewrite(path: Path, **head: Any) -> None:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    values = {**json.loads(str(arrays["head"])), **head}
    np.savez(path, **{**arrays, "head": np.array(json.dumps(values))})


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda path: rewrite(path, format=99), "newer version"),
        (lambda path: rewrite(path, format=2), "older version"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "no state file"),
    ],
)
def test_a_state_of_another_version_or_a_torn_one_is_refused_by_name(tmp_path, damage, match):
    run(model(), 3, r.scheduler(phases(), state=tmp_path))
    path = tmp_path / "phases-000002.npz"
    damage(path)
    one = model()
    before = r.weights(one)
    with pytest.raises(bng.ScheduleError, match=match) as raised:
        run(one, EPOCHS, r.scheduler(phases(), state=tmp_path), 3)
    assert str(path) in str(raised.value)
    assert r.same(before, r.weights(one))


# ------------------------------------------------------------------- other fields
DECAY = keras.optimizers.schedules.ExponentialDecay


def changed(tmp_path: Path, second: Any, begin: int = 4, first: Any = None, **settings: Any) -> Any:
    """Stopped in phase "a" and gone on with another one: the model, the schedule, warnings."""
    kept = Keeps()
    old = first or phases()
    run(model(), begin, r.scheduler(old, state=tmp_path), 0, kept)
    one = with_weights(kept.after[begin - 1])
    with warnings.catch_warnings(record=True) as reported:
        warnings.simplefilter("always")
        schedule = run(one, EPOCHS, r.scheduler(second, state=tmp_path, **settings), begin)
    return one, schedule, ours(reported)


def rows(schedule: Any, key: str) -> List[Any]:
    return [row[key] for row in schedule.history]


def test_an_unchanged_schedule_is_reported_as_nothing(tmp_path, whole):
    one, _, texts = changed(tmp_path, phases())
    assert texts == []
    assert r.same(r.weights(one), r.weights(whole))


def test_a_new_learning_rate_of_the_phase_under_way_is_used_from_the_next_epoch(tmp_path):
    _, schedule, texts = changed(tmp_path, phases(learning_rate=0.5))
    assert texts == [
        "learning_rate of phase 'a' was 0.004, is 0.5: the new value is used from the next epoch"
    ]
    assert rows(schedule, "learning_rate") == pytest.approx([0.5, 1e-3])


def test_it_equals_assigning_the_learning_rate_by_hand(tmp_path):
    class Assigns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 4:
                self.model.optimizer.learning_rate = 0.5

    one, _, _ = changed(tmp_path, phases(learning_rate=0.5))
    by_hand = model()
    run(by_hand, EPOCHS, phases(), 0, Assigns())
    assert r.same(r.weights(one), r.weights(by_hand))


def test_a_warm_up_rises_to_the_new_learning_rate_and_may_be_taken_out(tmp_path):
    first = phases(warmup=9)
    _, schedule, _ = changed(tmp_path / "a", phases(warmup=9, learning_rate=0.5), 3, first)
    assert rows(schedule, "learning_rate")[:2] == pytest.approx([0.5 * 6 / 9, 0.5])
    _, schedule, texts = changed(tmp_path / "b", phases(), 3, first)
    assert rows(schedule, "learning_rate")[0] == pytest.approx(4e-3)
    assert texts == ["warmup of phase 'a' was 9, is 0: the new value is used from the next epoch"]
    _, _, texts = changed(tmp_path / "c", phases(warmup=2))
    assert ["without effect" in text for text in texts] == [True]


def test_a_new_number_of_epochs_counts_for_the_phase_under_way(tmp_path):
    shorter = [phases()[0], bng.Phase("a", "*", 4e-3, epochs=1), phases()[2]]
    _, schedule, texts = changed(tmp_path / "a", shorter)
    assert rows(schedule, "phase") == ["z", "z"]
    longer = [bng.Phase("h", "head*", 2e-2, epochs=3), *phases()[1:]]
    _, schedule, texts = changed(tmp_path / "b", longer, 2)
    assert rows(schedule, "phase") == ["h", "a", "a", "a"]
    assert len(texts) == 1
    _, schedule, texts = changed(tmp_path / "c", longer)
    assert rows(schedule, "phase") == ["a", "z"]
    assert texts == ["epochs of phase 'h' was 2, is 3: without effect, the phase is over"]


def test_a_new_condition_judges_from_the_next_epoch_on(tmp_path):
    never = {"until": bng.Plateau("loss", patience=9)}
    _, schedule, texts = changed(
        tmp_path, phases(until=bng.Threshold("loss", 1e9)), 3, phases(**never)
    )
    assert rows(schedule, "phase") == ["a", "z", "z"]
    assert len(texts) == 1


def test_best_weights_go_where_nothing_judges_them_any_more(tmp_path):
    first = phases(until=bng.Plateau("loss", patience=9), restore_best=True)
    second = phases(until=bng.Plateau("loss", patience=9))
    one, _, texts = changed(tmp_path, second, 4, first)
    assert [text.split(" ")[0] for text in texts] == ["restore_best"]
    by_hand = model()
    run(by_hand, EPOCHS, second)
    assert r.same(r.weights(one), r.weights(by_hand))


def test_batch_norm_may_change_where_the_same_weights_train(tmp_path):
    one, _, texts = changed(tmp_path, phases(batch_norm="follow"))
    assert [text.split(" ")[0] for text in texts] == ["batch_norm"]
    before = r.transfer()
    assert r.statistics(one, "backbone/bn1") != r.statistics(before, "backbone/bn1")


def test_a_factor_of_layer_decay_may_change(tmp_path):
    _, schedule, texts = changed(tmp_path, phases(layer_decay=0.5))
    assert len(texts) == 1
    assert rows(schedule, "layer_decay") == [0.5, 1.0]


def test_a_later_phase_changes_when_it_begins_and_one_that_is_over_does_not(tmp_path):
    other = [
        bng.Phase("h", train="*", learning_rate=1e-5, batch_norm="train", epochs=2),
        phases()[1],
        bng.Phase("z", train="*", learning_rate=0.25, optimizer_state="reset", warmup=0),
    ]
    _, schedule, texts = changed(tmp_path, other)
    assert rows(schedule, "learning_rate") == pytest.approx([4e-3, 0.25])
    assert schedule.history[1]["trainable_share"] == 1.0
    assert [text.split(": ")[1] for text in texts] == [
        *["without effect, the phase is over"] * 3,
        *["the new value is used when the phase begins"] * 3,
    ]


@pytest.mark.parametrize(
    ("second", "named"),
    [
        ({"train": ["head*", "backbone/dense2"]}, ["train of phase 'a'", "backbone/dense1"]),
        ({"train": "head*", "batch_norm": "train"}, ["batch_norm of phase 'a'", "train of phase"]),
        ({"learning_rate": DECAY(1e-2, 3, 0.5)}, ["learning_rate of phase 'a'", "0.004"]),
    ],
)
def test_a_change_that_the_optimizer_state_cannot_follow_is_refused_by_name(
    tmp_path, second, named
):
    with pytest.raises(bng.ScheduleError) as raised:
        changed(tmp_path, phases(**second))
    for text in named:
        assert text in str(raised.value)


def test_another_spelling_of_the_same_layers_is_no_hindrance(tmp_path, whole):
    one, _, texts = changed(tmp_path, phases(train=["backbone", "head*"]))
    assert len(texts) == 1
    assert r.same(r.weights(one), r.weights(whole))


def test_another_schedule_of_a_phase_is_used_from_its_own_step_on(tmp_path):
    old, new = DECAY(1e-2, 3, 0.5), DECAY(1e-1, 3, 0.5)
    texts = changed(tmp_path, phases(learning_rate=new), 4, phases(learning_rate=old))[2]
    assert [text.split(" ")[0] for text in texts] == ["learning_rate"]
    assert changed(tmp_path / "b", phases(learning_rate=DECAY(1e-2, 3, 0.5)), 4,
                   phases(learning_rate=old))[2] == []  # fmt: skip


def test_functions_and_classes_are_compared_by_name(tmp_path):
    def judge(epochs: int, logs: Any) -> bool:
        return False

    texts = changed(
        tmp_path, phases(train=[r.L.Dense, r.L.BatchNormalization], until=judge), 4,
        phases(train=[r.L.Dense, r.L.BatchNormalization], until=judge),
    )[2]  # fmt: skip
    assert texts == []


def test_with_a_backup_the_changes_are_the_same(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 4:
                raise KeyboardInterrupt

    def backup() -> Any:
        return keras.callbacks.BackupAndRestore(str(tmp_path / "b"))

    with pytest.raises(KeyboardInterrupt):
        run(model(), EPOCHS, phases(), 0, backup(), Stop())
    with pytest.warns(bng.BNGuardWarning, match="learning_rate of phase 'a' was 0.004, is 0.5"):
        schedule = run(model(), EPOCHS, phases(learning_rate=0.5), 0, backup())
    assert rows(schedule, "learning_rate") == pytest.approx([0.5, 1e-3])
