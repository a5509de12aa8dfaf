"""End conditions: every one that is registered has all its pieces; what each of them does."""

from __future__ import annotations

import inspect
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_bnguard as bng
from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.conditions import (
    CONDITIONS,
    EndCondition,
    FunctionCondition,
    Plateau,
    Threshold,
    as_condition,
)
from keras_bnguard.phases.cursor import PhaseCursor
from keras_bnguard.phases.fields import arguments_of
from keras_bnguard.phases.phase import Phase
from tests import ROOT

NAN = float("nan")
VALUES = st.lists(st.one_of(st.floats(-10, 10), st.just(NAN)), min_size=1, max_size=30)

# One entry for each class in CONDITIONS: examples, the first with all defaults that it has.
EXAMPLES = {
    Plateau: [
        Plateau(),
        Plateau("val_accuracy", patience=2, min_delta=0.5, mode="max"),
    ],
    Threshold: [
        Threshold("loss", 0.25),
        Threshold("val_auc", 1, mode="max"),
    ],
}


# -------------------------------------------------------------------- every condition
def test_every_registered_condition_has_examples_in_this_file():
    missing = [each.__name__ for each in CONDITIONS if each not in EXAMPLES]
    assert not missing, f"add {missing} to EXAMPLES of tests/unit/phases/test_conditions.py"
    assert set(EXAMPLES) == set(CONDITIONS)


def test_every_condition_that_users_can_write_is_registered():
    missing = [
        each.__name__
        for each in _subclasses(EndCondition)
        if each.__module__.startswith("keras_bnguard.")
        and not inspect.isabstract(each)
        and each is not FunctionCondition
        and each not in CONDITIONS
    ]
    assert not missing, f"add {missing} to CONDITIONS of phases/conditions/named.py"


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_registered_condition_has_a_key_of_its_own(condition):
    keys = [each.key for each in CONDITIONS]
    assert condition.key, f"{condition.__name__} needs a key: its name in YAML"
    assert keys.count(condition.key) == 1


def _subclasses(cls):
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_registered_condition_is_a_public_name(condition):
    name = condition.__name__
    assert name in bng.__all__, f"add {name} to keras_bnguard/__init__.py, in its three places"
    assert getattr(bng, name) is condition


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_registered_condition_is_in_the_guide(condition):
    guide = (ROOT / "docs" / "phases.md").read_text(encoding="utf-8")
    assert f"| `{condition.__name__}(" in guide, "add its row to the table of docs/phases.md"


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_registered_condition_documents_its_arguments(condition):
    text = inspect.getdoc(condition)
    assert "Args:" in text
    assert "Raises:" in text
    for argument in arguments_of(condition):
        assert f"\n    {argument.name}: " in text


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_registered_condition_comes_back_from_its_plain_form(condition):
    for example in EXAMPLES[condition]:
        text = json.dumps(example.as_dict())
        assert condition.from_dict(json.loads(text)) == example


@pytest.mark.needs_extra
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_registered_condition_comes_back_from_yaml(condition):
    from keras_bnguard.phases.yaml import from_yaml, to_yaml

    for example in EXAMPLES[condition]:
        phases = [Phase("p", "*", until=example)]
        text = to_yaml(phases)
        assert f"{condition.key}:" in text
        assert from_yaml(text) == phases


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_registered_condition_is_described_by_its_values(condition):
    described = {example.describe() for example in EXAMPLES[condition]}
    assert len(described) == len(EXAMPLES[condition])
    assert all(0 < len(text) < 40 for text in described)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_registered_condition_refuses_a_value_of_another_type(condition):
    example = EXAMPLES[condition][0]
    given = {each.name: getattr(example, each.name) for each in arguments_of(condition)}
    for argument in given:
        with pytest.raises(ScheduleError, match=f"{condition.__name__}: {argument}="):
            condition(**{**given, argument: object()})


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_registered_condition_refuses_unknown_and_missing_arguments(condition):
    example = EXAMPLES[condition][0]
    with pytest.raises(ScheduleError, match="unlikely"):
        condition.from_dict({**example.as_dict(), "unlikely": 1})
    for argument in arguments_of(condition):
        if argument.needed:
            rest = {k: v for k, v in example.as_dict().items() if k != argument.name}
            with pytest.raises(ScheduleError, match=argument.name):
                condition.from_dict(rest)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_registered_condition_names_the_metric_that_is_missing(condition):
    for example in EXAMPLES[condition]:
        if example.monitored is not None:
            with pytest.raises(ScheduleError, match=f"'{example.monitored}'.*There are: acc, f"):
                example.update(1, {"acc": 1.0, "f": 2.0}, {})


@pytest.mark.parametrize("condition", CONDITIONS)
@given(values=VALUES, stop=st.integers(0, 30))
def test_a_registered_condition_goes_on_from_written_memory_as_if_never_stopped(
    condition, values, stop
):
    example = EXAMPLES[condition][0]
    logs = [{example.monitored or "loss": value} for value in values]
    whole, half = {}, {}
    for epoch, one in enumerate(logs, 1):
        if epoch == stop:
            half = json.loads(json.dumps(half))
        assert example.update(epoch, one, whole) == example.update(epoch, one, half)
        assert example.improved(whole) == example.improved(half)


def test_a_condition_that_lacks_a_method_cannot_be_made():
    class Unfinished(EndCondition):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Unfinished()


def test_a_condition_of_the_users_own_ends_a_phase():
    class Twice(EndCondition):
        def update(self, epochs, logs, memory):
            memory["high"] = memory.get("high", 0) + (logs["loss"] > 1)
            return memory["high"] == 2

        def describe(self):
            return "loss above 1 twice"

    phase, cursor = Phase("p", "*", until=Twice()), PhaseCursor()
    over = []
    for loss in (2.0, 0.5, 3.0):
        cursor.epoch_done(phase, {"loss": loss})
        over.append(cursor.over)
    assert over == [False, False, True]
    assert phase.describe_end() == "loss above 1 twice"


# --------------------------------------------------------------------- one at a time
def walk(condition, values, key="val_loss"):
    """Memory and answers of a condition, up to the epoch that ends the phase."""
    memory, answers = {}, []
    for epoch, value in enumerate(values, 1):
        answers.append(condition.update(epoch, {key: value}, memory))
        if answers[-1]:
            break
    return memory, answers


def test_a_change_below_min_delta_is_no_improvement():
    memory, answers = walk(Plateau(patience=2, min_delta=0.5), [3.0, 2.6, 2.5, 9.0])
    assert len(answers) == 3
    assert memory["best"] == 3.0


@pytest.mark.parametrize("monitor", ["val_accuracy", "acc", "val_AUC", "f1", "Score"])
def test_some_metrics_are_better_when_larger(monitor):
    plateau = Plateau(monitor, patience=1)
    assert plateau.better(2.0, 1.0)
    assert not plateau.better(1.0, 2.0)
    assert walk(Threshold(monitor, 0.5), [0.4, 0.5], monitor)[1] == [False, True]


@pytest.mark.parametrize(("mode", "larger"), [("max", True), ("min", False)])
def test_a_mode_goes_before_the_name_of_the_metric(mode, larger):
    assert Plateau("val_accuracy", mode=mode).better(2.0, 1.0) == larger
    assert walk(Threshold("val_loss", 1.0, mode=mode), [2.0])[1] == [larger]


def test_nan_never_improves_and_reaches_nothing():
    memory, answers = walk(Plateau(patience=3), [NAN, 2.0, NAN, NAN])
    assert (memory["best"], memory["wait"], answers[-1]) == (2.0, 2, False)
    assert walk(Threshold("val_loss", 1.0), [NAN, NAN, 0.5])[1] == [False, False, True]


def test_a_run_of_nan_uses_up_the_patience_and_leaves_no_best():
    memory, answers = walk(Plateau(patience=3), [NAN] * 9)
    assert len(answers) == 3
    assert "best" not in memory


def test_a_threshold_ends_its_phase_when_it_is_reached():
    _, answers = walk(Threshold("val_accuracy", 0.9), [0.5, 0.89, 0.9, 0.1], "val_accuracy")
    assert answers == [False, False, True]


def test_only_a_plateau_finds_the_best_epoch():
    assert [each for each in CONDITIONS if each.finds_best] == [Plateau]
    memory = {}
    for value, improved in ((3.0, True), (4.0, False), (2.0, True)):
        Plateau().update(1, {"val_loss": value}, memory)
        assert Plateau().improved(memory) is improved


@given(VALUES, st.integers(1, 5), st.sampled_from(["min", "max"]), st.floats(0, 2))
def test_a_plateau_follows_its_definition(values, patience, mode, delta):
    sign = 1.0 if mode == "min" else -1.0
    memory, answers = walk(Plateau(patience=patience, min_delta=delta, mode=mode), values)
    best, flat, end = None, 0, None
    for number, value in enumerate(values, 1):
        if not math.isnan(value) and (best is None or sign * value < sign * best - delta):
            best, flat = value, 0
        else:
            flat += 1
        if flat >= patience:
            end = number
            break
    assert len(answers) == (end or len(values))
    assert answers[-1] == (end is not None)
    assert (memory.get("best"), memory["wait"]) == (best, flat)


@pytest.mark.parametrize("until", [Plateau("f1"), Threshold("f1", 1.0)])
def test_a_metric_with_several_values_is_refused(until):
    numpy = pytest.importorskip("numpy")
    with pytest.raises(ScheduleError, match="'f1' has 3 values"):
        until.update(1, {"f1": numpy.zeros(3)}, {})
    until.update(1, {"f1": numpy.float32(0.5)}, {})


# ------------------------------------------------------------------------ functions
def test_a_function_gets_the_epochs_of_the_phase_and_a_copy_of_the_logs():
    calls = []

    def until(epochs, logs):
        calls.append((epochs, dict(logs)))
        logs.clear()
        return epochs == 2

    logs = {"loss": 1.0}
    condition = as_condition(until)
    assert [condition.update(epoch, logs, {}) for epoch in (1, 2)] == [False, True]
    assert calls == [(1, {"loss": 1.0}), (2, {"loss": 1.0})]
    assert logs == {"loss": 1.0}


def test_what_a_function_returns_is_taken_as_true_or_false():
    assert FunctionCondition(lambda epochs, logs: None).update(1, {}, {}) is False
    assert FunctionCondition(lambda epochs, logs: 1).update(1, {}, {}) is True


@pytest.mark.parametrize("until", ["val_loss", 3, Plateau, [Plateau()]])
def test_what_is_no_condition_is_refused(until):
    with pytest.raises(ScheduleError, match="until="):
        as_condition(until)
