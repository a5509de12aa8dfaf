"""Schedules written as YAML and read back; what cannot be is refused with its line."""

from __future__ import annotations

import builtins
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_bnguard.errors import MissingExtraError, ScheduleError
from keras_bnguard.phases.conditions import Plateau, Threshold
from keras_bnguard.phases.fields import BatchNormMode, OptimizerState
from keras_bnguard.phases.learning_rates import RelativeRate
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.train_selectors import LastBlocks, LastLayers
from keras_bnguard.phases.yaml import from_yaml, to_yaml

pytestmark = pytest.mark.needs_extra


def read(text):
    return from_yaml("phases:\n" + text)


def refused(text):
    """The error about a text."""
    with pytest.raises(ScheduleError) as caught:
        from_yaml(text)
    return str(caught.value)


# ------------------------------------------------------------------ round trip
NUMBERS = st.one_of(
    st.integers(1, 10**6), st.floats(min_value=0, exclude_min=True, allow_infinity=False)
)
ANY_FLOAT = st.floats(allow_nan=False).map(lambda x: x + 0.0)  # no -0.0, which equals a default
# PyYAML does not read back a text that is one of Unicode's own line ends.
TEXT = st.text(st.characters(exclude_characters="\x85\u2028\u2029", codec="utf-8"), min_size=1)
SELECTOR = st.one_of(
    TEXT,
    st.sampled_from(["*", "re:block[67]_.*", "backbone/*", "yes", "1", "null", "a: b", "[x]"]),
    st.builds(LastLayers, st.integers(1, 99)),
    st.builds(LastBlocks, st.integers(1, 99)),
)
MODES = st.sampled_from(["min", "max", "auto"])
PLATEAU = st.builds(Plateau, TEXT, st.integers(1, 20), ANY_FLOAT, MODES)
THRESHOLD = st.builds(Threshold, TEXT, st.one_of(ANY_FLOAT, st.integers()), MODES)


@st.composite
def phase(draw, name):
    until = draw(st.one_of(st.none(), PLATEAU, THRESHOLD))
    return Phase(
        name,
        train=draw(st.one_of(SELECTOR, st.lists(SELECTOR, min_size=1, max_size=4))),
        learning_rate=draw(st.one_of(st.none(), NUMBERS, st.builds(RelativeRate, NUMBERS))),
        epochs=draw(st.integers(1, 500)),
        until=until,
        batch_norm=draw(st.sampled_from([each.value for each in BatchNormMode])),
        warmup=draw(st.integers(0, 1000)),
        optimizer_state=draw(st.sampled_from((None, *OptimizerState))),
        restore_best=isinstance(until, Plateau) and draw(st.booleans()),
    )


@st.composite
def schedule(draw):
    names = draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))
    return [draw(phase(name)) for name in names]


@given(schedule())
def test_what_is_written_is_read_back_equal(phases):
    text = to_yaml(phases)
    again = from_yaml(text if "\n" in text else text + "\n")
    assert again == phases
    assert repr(again) == repr(phases)
    assert to_yaml(again) == text


def test_the_text_is_one_to_edit():
    text = to_yaml(
        [
            Phase("head", "head*", 1e-3, epochs=5),
            Phase(
                "top",
                ["top*", LastLayers(3)],
                RelativeRate(0.1),
                until=Plateau("val_acc", patience=2),
            ),
        ]
    )
    assert text == (
        "phases:\n"
        "- name: head\n"
        "  train: head*\n"
        "  learning_rate: 0.001\n"
        "  epochs: 5\n"
        "- name: top\n"
        "  train:\n"
        "  - top*\n"
        "  - last_layers: 3\n"
        "  learning_rate:\n"
        "    relative_rate: 0.1\n"
        "  until:\n"
        "    plateau:\n"
        "      monitor: val_acc\n"
        "      patience: 2\n"
    )


def test_a_schedule_by_hand():
    phases = read(
        "- {name: head, train: 'head*', learning_rate: 1e-3, epochs: 5}\n"
        "- name: top\n"
        "  train: {last_blocks: 2}\n"
        "  learning_rate: {relative_rate: 1E-1}\n"
        "  until: {threshold: {monitor: val_acc, value: 1}}\n"
        "- name: all\n"
        "  train: ['*', last_layers: 20]\n"
        "  until: {plateau: {}}\n"
        "  restore_best: true\n"
        "  optimizer_state: null\n"
    )
    assert phases == [
        Phase("head", "head*", 1e-3, epochs=5),
        Phase("top", LastBlocks(2), RelativeRate(0.1), until=Threshold("val_acc", 1)),
        Phase("all", ["*", LastLayers(20)], until=Plateau(), restore_best=True),
    ]


def test_a_file_is_read_by_its_path(tmp_path):
    file = tmp_path / "schedule.yaml"
    file.write_text(to_yaml([Phase("kopf-ä", "*")]), encoding="utf-8")
    assert from_yaml(file) == from_yaml(str(file)) == [Phase("kopf-ä", "*")]


def test_numpy_numbers_are_written_as_plain_ones():
    numpy = pytest.importorskip("numpy")
    text = to_yaml(
        [Phase("p", "*", numpy.float64(0.25), until=Plateau(min_delta=numpy.float32(1)))]
    )
    assert from_yaml(text)[0].learning_rate == 0.25


def test_several_selectors_come_back_as_a_list():
    assert from_yaml(to_yaml([Phase("p", ("b", "a"))]))[0].train == ["b", "a"]
    assert from_yaml(to_yaml([Phase("p", {"b", "a"})]))[0].train == ["a", "b"]


# --------------------------------------------------------------------- writing
class Layer:
    pass


class LearningRateSchedule:
    pass


class ExponentialDecay(LearningRateSchedule):
    pass


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"train": Layer}, r"'p': the class Layer in train.* Use a glob"),
        ({"train": ["*", lambda layer: True]}, r"'p': the predicate <lambda> in train.* Use a gl"),
        (
            {"learning_rate": ExponentialDecay()},
            r"'p': the learning rate ExponentialDecay.*Relative",
        ),
        ({"until": lambda epochs, logs: True}, r"'p': the function <lambda> in until.*Plateau"),
    ],
)
def test_what_cannot_be_written_is_named_with_what_to_use_instead(arguments, text):
    with pytest.raises(ScheduleError, match=text):
        to_yaml([Phase(**{"name": "p", "train": "*", **arguments})])


def test_an_empty_train_and_an_endless_schedule_are_not_written():
    with pytest.raises(ScheduleError, match="selects nothing"):
        to_yaml([Phase("p", [])])
    with pytest.raises(ScheduleError, match="never ends"):
        to_yaml([Phase("p", "*"), Phase("q", "*")])


# --------------------------------------------------------------------- reading
@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("- name: a\n  train: x\n  epoch: 3\n", 4, "unknown key 'epoch' in a phase; known are na"),
        ("- name: a\n  train: x\n  train: y\n", 4, "the key 'train' is there twice in a phase"),
        ("- name: a\n  epochs: 3\n", 2, "a phase lacks the key 'train'"),
        ("- train: x\n", 2, "a phase lacks the key 'name'"),
        ("- name: 3\n  train: x\n", 2, "'name' is '3', expected text: put it in quotes"),
        ("- name: a\n  train: yes\n", 3, "'train' is 'yes', expected text"),
        ("- name: a\n  train: 2020-01-01\n", 3, "'train' is '2020-01-01', expected text"),
        ("- name: a\n  train: null\n", 3, "expected text"),
        ("- name: a\n  train: []\n", 3, "empty list"),
        ("- name: a\n  train:\n  - x\n  - [y]\n", 5, "an entry of 'train' is a list or mapping"),
        (
            "- name: a\n  train: {last_layers: 2.5}\n",
            3,
            "'last_layers' is '2.5', expected a whole number",
        ),
        (
            "- name: a\n  train: {last_layers: 2, last_blocks: 1}\n",
            3,
            "exactly one of last",
        ),
        ("- name: a\n  train: {last_layers: 0}\n", 3, "LastLayers(count=0) selects nothing"),
        (
            "- name: a\n  train: x\n  learning_rate: {relative_rate: 0}\n",
            4,
            "RelativeRate(factor=0)",
        ),
        ("- name: a\n  train: {first: 2}\n", 3, "unknown key 'first' in 'train'"),
        ("- name: a\n  train: x\n  epochs: '3'\n", 4, "'epochs' is '3', expected a whole number"),
        ("- name: a\n  train: x\n  epochs: true\n", 4, "expected a whole number"),
        ("- name: a\n  train: x\n  epochs: 0\n", 2, "phase 'a': epochs=0"),
        ("- name: a\n  train: x\n  learning_rate: fast\n", 4, "'fast', expected a number"),
        ("- name: a\n  train: x\n  learning_rate: '1e-3'\n", 4, "expected a number"),
        ("- name: a\n  train: x\n  learning_rate: .nan\n", 2, "learning_rate=nan"),
        ("- name: a\n  train: x\n  learning_rate: {time: 2}\n", 4, "unknown key 'time'"),
        ("- name: a\n  train: x\n  restore_best: 1\n", 4, "expected true or false"),
        ("- name: a\n  train: x\n  batch_norm: frozen\n", 2, "batch_norm='frozen'"),
        ("- name: a\n  train: x\n  until: val_loss\n", 4, "'until' is no mapping; expected keys"),
        ("- name: a\n  train: x\n  until: {plateau: 3}\n", 4, "'plateau' is no mapping"),
        ("- name: a\n  train: x\n  until:\n    plateau: {wait: 3}\n", 5, "unknown key 'wait'"),
        ("- name: a\n  train: x\n  until:\n    threshold: {value: 3}\n", 5, "lacks the key 'mon"),
        (
            "- name: a\n  train: x\n  until:\n    plateau: {mode: up}\n",
            5,
            "expected min, max, auto",
        ),
        ("- name: a\n  train: x\n- name: b\n  train: x\n", 2, "'a' never ends"),
        (
            "- &a {name: a, train: x, epochs: 1}\n- *a\n",
            2,
            "phases share a name: a",
        ),
        (
            "- {name: a, train: x, epochs: 1}\n- {name: a, train: y}\n",
            3,
            "phases share a name: a",
        ),
        ("- &d {name: a, train: x}\n- <<: *d\n  name: b\n", 3, "unknown key '<<'"),
        ("- ? [a, b]\n  : x\n", 2, "unknown key one that is no text"),
        ("- head\n", 2, "a phase is no mapping; expected keys of name, train"),
        ("- name: a\n  train: x\n epochs: 3\n", 4, "not valid YAML"),
        ("- name: a\n  train: 'x\n", 4, "not valid YAML"),
        ("- name: a\n  train: *x\n", 3, "not valid YAML"),
        ("- name: a\n  train: x\n---\nphases: []\n", 4, "not valid YAML"),
    ],
)
def test_a_mistake_is_refused_with_its_line(text, line, complaint):
    message = refused("phases:\n" + text)
    assert message.startswith(f"<text>:{line}: "), message
    assert complaint in message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\n", "<text>: is empty"),
        ("- name: a\n", "<text>:1: the file is no mapping"),
        ("phase: []\n", "<text>:1: unknown key 'phase' in the file; known are phases"),
        ("phases: []\n", "<text>:1: there are no phases"),
        ("phases: {}\n", "<text>:1: 'phases' is no list"),
        ("phases:\n", "<text>:1: 'phases' is no list"),
        ("phases: []\nphases: []\n", "<text>:2: the key 'phases' is there twice"),
        ("\x00\n", "<text>: not valid YAML"),
        ("phases: " + "[" * 5000 + "\n", "<text>"),
    ],
)
def test_a_file_of_another_form_is_refused(text, complaint):
    assert refused(text).startswith(complaint)


@pytest.mark.parametrize(
    "thing",
    [
        "!!python/object/apply:os.system ['exit 1']",
        "!!python/name:os.system ''",
        "!!python/object/new:tuple [[1]]",
        "!!python/tuple [a, b]",
        "!mine x",
        "!!binary aGVhZA==",
        "!!set {x}",
    ],
)
@pytest.mark.parametrize("key", ["name", "train", "learning_rate", "until", "epochs"])
def test_no_tag_makes_an_object(thing, key, monkeypatch):
    monkeypatch.setattr("os.system", lambda command: pytest.fail("code from the file was run"))
    rest = {"name": "a", "train": "x", key: thing}
    text = "phases:\n- " + "\n  ".join(f"{k}: {v}" for k, v in rest.items()) + "\n"
    assert refused(text).startswith("<text>:")


def test_a_tag_on_the_file_or_a_phase_is_refused():
    assert "tag" in refused("!!python/object:os.x\nphases: []\n")
    assert "tag" in refused("phases: !!python/tuple\n- {name: a, train: x}\n")
    assert "tag" in refused("phases:\n- !mine {name: a, train: x}\n")


def test_a_mistake_in_a_file_names_the_file(tmp_path):
    file = tmp_path / "s.yml"
    file.write_text("phases:\n- {name: a, trian: x}\n", encoding="utf-8")
    assert refused(str(file)).startswith(f"{file}:2: unknown key 'trian'")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    missing = str(tmp_path / "none.yaml")
    assert refused(missing).startswith(f"{missing}: cannot be read")
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00\xd8")
    assert refused(str(binary)) == f"{binary}: is not UTF-8 text."


def test_without_pyyaml_the_error_names_what_to_install(monkeypatch):
    original = builtins.__import__

    def no_yaml(name, *rest, **named):
        if name == "yaml":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", no_yaml)
    for call in (lambda: to_yaml([Phase("p", "*")]), lambda: from_yaml("phases: []\n")):
        with pytest.raises(MissingExtraError, match=r"pip install 'keras_bnguard\[yaml\]'"):
            call()


@given(st.text())
def test_any_text_is_read_or_refused_with_one_kind_of_error(text):
    for whole in (text + "\n", "phases:\n- " + text + "\n", "phases:\n- name: " + text + "\n"):
        complaint = "<text>"
        try:
            from_yaml(whole)
        except ScheduleError as error:
            complaint = str(error)
        assert complaint.startswith("<text>")


def test_infinity_survives():
    phases = [Phase("p", "*", until=Threshold("loss", math.inf))]
    assert from_yaml(to_yaml(phases)) == phases


HEAD = "phases:\n- name: head\n  train: head*\n  epochs: 2\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEAD.replace("head*", "'re:['"), 3),
        (HEAD.replace("head*", "[a, 're:(']"), 3),
        (HEAD.replace("head*", "''"), 3),
        (HEAD.replace("head*", "{last_layers: 0}"), 3),
        (HEAD.replace("head*", "{last_blocks: -1}"), 3),
        (HEAD.replace("head*", "{last_layers: 1, last_blocks: 1}"), 3),
        (HEAD.replace("head*", "{last_layers: 1, last_layers: 1}"), 3),
        (HEAD + "  epochs: 3\n", 5),
        (HEAD + "phases: []\n", 5),
        (HEAD + "  until: {threshold: {monitor: loss, value: .nan}}\n", 5),
        (HEAD + "  until: {plateau: {min_delta: .nan}}\n", 5),
        (HEAD + "  until: {plateau: {monitor: ''}}\n", 5),
    ],
)
def test_yaml_that_cannot_work_is_an_error_with_its_line(text, line):
    with pytest.raises(ScheduleError, match=f"<text>:{line}: "):
        from_yaml(text)


@pytest.mark.parametrize(
    "text",
    [
        HEAD.replace("2", "9" * 100_000),
        HEAD.replace("2", "9" * 60),
        HEAD.replace("2", "0x" + "f" * 5000),
        HEAD.replace("2", "1:" * 5000 + "1"),
        HEAD + f"  warmup: {'9' * 4000}\n",
        HEAD + f"  learning_rate: {'9' * 100_000}\n",
        HEAD + f"  learning_rate: 1e{'9' * 100_000}\n",
        HEAD.replace("head*", "a" * 100_000),
        HEAD.replace("head*", "'re:" + "a" * 100_000 + "'"),
        HEAD + f"  {'k' * 100_000}: 1\n",
        HEAD.replace("head*", "!" + "t" * 100_000 + " x"),
        HEAD + f"  batch_norm: {'b' * 1500}\n",
    ],
)
def test_huge_values_get_a_short_message(text):
    with pytest.raises(ScheduleError) as raised:
        from_yaml(text)
    assert len(str(raised.value)) < 500
