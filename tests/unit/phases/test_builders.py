"""Schedules made from the architecture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_bnguard.errors import ScheduleError, SelectorError
from keras_bnguard.model.blocks.finder import find_blocks
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.phases.builders import _balanced_cuts, escape, fine_tune, gradual
from keras_bnguard.phases.conditions import Plateau
from keras_bnguard.phases.learning_rates import RelativeRate
from keras_bnguard.phases.phase import check_phases
from keras_bnguard.phases.plan import make_plan
from keras_bnguard.selectors import path_matches, select
from tests.stack import STACK, keras
from tests.unit.model.blocks.test_finder import build

layers = keras.layers


def convs(x, count, width=4):
    for i in range(1, count + 1):
        x = layers.Conv2D(width, 3, padding="same", name=f"block{i}_conv")(x)
        x = layers.BatchNormalization(name=f"block{i}_bn")(x)
        x = layers.ReLU()(x)
    return x


def nested(count=6):
    inputs = keras.Input((8, 8, 3))
    backbone = keras.Model(inputs, convs(inputs, count, 8), name="backbone")
    outer = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(backbone(outer))
    return keras.Model(outer, layers.Dense(2, name="out")(layers.Dense(3, name="fc")(x)))


def flat(trained=True, count=6):
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(convs(inputs, count, 8))
    x = layers.BatchNormalization(name="head_bn")(layers.Dense(3, name="head_fc")(x))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    if trained:
        for i in range(1, count + 1):
            layer = model.get_layer(f"block{i}_bn")
            layer.set_weights([w + 0.5 for w in layer.get_weights()])
    return model


def weighted(model):
    snapshot = take_snapshot(model)
    return [
        (p, layer) for p, layer in snapshot.layers if snapshot.backend.graph.owns_weights(layer)
    ]


def trained(model, phase):
    return list(select(phase.train, weighted(model)))


def test_the_head_comes_first_and_everything_last():
    model = nested()
    phases = gradual(model, "backbone", stages=3)
    assert [phase.name for phase in phases] == [
        "head",
        "from backbone/block5",
        "from backbone/block3",
        "all",
    ]
    assert trained(model, phases[0]) == ["fc", "out"]
    assert trained(model, phases[-1]) == [path for path, _ in weighted(model)]


def test_each_stage_trains_what_the_one_before_did_and_whole_blocks():
    model = nested()
    found = find_blocks(take_snapshot(model), "backbone")
    before = set()
    for phase in gradual(model, "backbone", stages=4):
        now = set(trained(model, phase))
        assert before < now
        for block in found:
            assert not set(block.paths) & now or set(block.paths) <= now
        before = now


def test_learning_rates_go_down_from_stage_to_stage():
    found = [p.learning_rate for p in gradual(nested(), stages=3)]
    assert found == [1e-3, 1e-4, RelativeRate(0.5), RelativeRate(0.5)]
    found = [
        p.learning_rate
        for p in gradual(nested(), stages=2, head_learning_rate=0.1, learning_rate=0.01, decay=0.25)
    ]
    assert found == [0.1, 0.01, RelativeRate(0.25)]
    assert gradual(nested(), stages=2, decay=RelativeRate(0.3))[2].learning_rate == RelativeRate(
        0.3
    )


def test_epochs_are_one_number_or_one_a_phase():
    assert [p.epochs for p in gradual(nested(), stages=2, epochs=7)] == [7, 7, 7]
    assert [p.epochs for p in gradual(nested(), stages=2, epochs=[3, 2, 9])] == [3, 2, 9]
    with pytest.raises(ScheduleError, match="2 entries for 3 phases"):
        gradual(nested(), stages=2, epochs=[3, 2])


def test_patience_ends_all_but_the_last_phase():
    phases = gradual(nested(), stages=2, epochs=None, patience=4, monitor="val_acc")
    assert [p.until for p in phases] == [Plateau("val_acc", 4), Plateau("val_acc", 4), None]
    check_phases(phases)


def test_a_schedule_that_never_ends_is_refused():
    with pytest.raises(ScheduleError, match="no phase would end"):
        gradual(nested(), epochs=None)


def test_batch_norm_is_passed_on():
    assert {p.batch_norm for p in gradual(nested(), batch_norm="affine-only")} == {"affine-only"}
    assert {p.batch_norm for p in fine_tune(nested(), batch_norm="train")} == {"train"}


def test_a_sub_model_with_most_parameters_is_the_backbone():
    assert gradual(nested()) == gradual(nested(), "backbone")


def test_in_one_graph_the_backbone_ends_with_the_last_trained_norm():
    model = flat()
    phases = gradual(model, stages=2)
    assert trained(model, phases[0]) == ["head_fc", "head_bn", "out"]
    assert [p.name for p in phases] == ["head", "from block4", "all"]


def test_in_one_graph_without_trained_norms_the_head_is_the_last_block():
    model = flat(trained=False)
    assert trained(model, gradual(model)[0]) == ["out"]


def test_more_stages_than_blocks_make_one_stage_a_block():
    phases = gradual(nested(count=2), "backbone", stages=9)
    assert [p.name for p in phases] == ["head", "from backbone/block2", "all"]


@pytest.mark.parametrize("stages", [0, -1, 2.0])
def test_stages_are_a_positive_integer(stages):
    with pytest.raises(ScheduleError, match="stages="):
        gradual(nested(), stages=stages)


def test_a_model_that_is_all_backbone_is_refused():
    model = nested()
    backbone = model.get_layer("backbone")
    wrapped = keras.Sequential([keras.Input((8, 8, 3)), backbone])
    with pytest.raises(ScheduleError, match="there is no head to train"):
        gradual(wrapped, "backbone")


def test_a_backbone_that_is_not_there_is_named():
    with pytest.raises(SelectorError, match="bakcbone"):
        gradual(nested(), "bakcbone")


def test_the_classic_trains_the_head_then_all_at_a_tenth():
    model = nested()
    head, rest = fine_tune(model, head_epochs=3, base_lr=0.02, epochs=8)
    assert (head.name, head.epochs, head.learning_rate) == ("head", 3, 0.02)
    assert (rest.name, rest.epochs) == ("all", 8)
    assert rest.learning_rate == pytest.approx(0.002)
    assert trained(model, head) == ["fc", "out"]
    assert trained(model, rest) == [path for path, _ in weighted(model)]
    assert fine_tune(model)[1].epochs is None


@pytest.mark.parametrize("factor", [0, 0.5, -0.1])
def test_the_classic_refuses_to_unfreeze_at_a_high_learning_rate(factor):
    with pytest.raises(ScheduleError, match="factor="):
        fine_tune(nested(), factor=factor)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(1, 10))
def test_cuts_leave_every_stage_a_block(parameters, stages):
    cuts = _balanced_cuts(parameters, stages)
    assert len(cuts) == min(stages, len(parameters))
    assert cuts[-1] == 0
    assert all(one > other for one, other in zip(cuts, cuts[1:]))
    assert max(cuts) < len(parameters)


@given(st.integers(2, 8), st.integers(1, 8))
def test_equal_blocks_are_shared_out_equally(stages, each):
    cuts = [stages * each, *_balanced_cuts([7] * (stages * each), stages)]
    assert {one - other for one, other in zip(cuts, cuts[1:])} == {each}


@given(st.text(alphabet="ab[]*?!/re:#-", min_size=1), st.text(alphabet="ab[]*?!", min_size=1))
def test_an_escaped_path_matches_itself_and_nothing_beside_it(path, other):
    assert path_matches(escape(path), path)
    if not (other == path or path.startswith("/") or other.startswith(path)):
        assert not path_matches(escape(path), other)


# ------------------------------------------------------------- keras.applications
APPLICATIONS = [name for name in dir(keras.applications) if name[0].isupper()]
if STACK == "k3-torch":  # Keras does not build them there.
    APPLICATIONS = [name for name in APPLICATIONS if not name.startswith("NASNet")]
HERE = APPLICATIONS if STACK in ("k3-torch", "tfk") else ["MobileNetV2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_every_application_is_unfrozen_in_whole_blocks_flat_and_nested(name):
    """The head alone, then more of the backbone in each stage, never half a block, then all."""
    base = build(name)
    pooled = layers.GlobalAveragePooling2D()(base.output)
    outer = keras.Input(base.input_shape[1:])
    again = layers.GlobalAveragePooling2D()(base(outer, training=False))
    stages = []
    for model in (
        keras.Model(base.input, layers.Dense(2, name="out")(pooled)),
        keras.Model(outer, layers.Dense(2, name="out")(again)),
    ):
        snapshot = take_snapshot(model)
        plan = make_plan(snapshot, gradual(model, epochs=1))
        sets = [set(planned.trains) for planned in plan]
        assert sets[0] == {"out"}
        assert all(before < now for before, now in zip(sets, sets[1:]))
        assert sets[-1] == {path for path, _ in weighted(model)}
        for block in find_blocks(snapshot):
            assert all(set(block.paths) <= now or not set(block.paths) & now for now in sets)
        classic = make_plan(snapshot, fine_tune(model))
        assert [set(planned.trains) for planned in classic] == [sets[0], sets[-1]]
        stages.append(len(sets))
    assert stages == [5, 5]
