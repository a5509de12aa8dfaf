"""What each example has to show, on every Keras that its page names; no numbers but these."""

from __future__ import annotations

import re


def percent(line, after=""):
    return float(re.search(re.escape(after) + r"\D*?(\d+\.\d) %", line).group(1))


def line(lines, start):
    (found,) = [each for each in lines if each.startswith(start)]
    return found


def keras_guide(lines, stack):
    keras3 = stack.startswith("k3")
    assert line(lines, "weights of a frozen BN").endswith(": 0")
    head = line(lines, "head on the frozen base")
    assert re.search(r"(\d+) of \1 base arrays kept", head)
    guarded = line(lines, "fine-tuned with bng.force_inference")
    assert "10 of 10 moving arrays kept" in guarded
    plain = line(lines, "fine-tuned as the guide has it")
    found = line(lines, "  findings:")
    if keras3:
        assert "0 of 10 moving arrays kept" in plain
        assert "BNG201 training-false-ignored" in found
        assert "BNG404 frozen-statistics-updated" in found
        assert percent(guarded) > percent(plain)
    else:
        assert "10 of 10 moving arrays kept" in plain
        assert "BNG201" not in found
        assert "BNG404" not in found
    phases = line(lines, "two phases in one fit")
    assert "the same bits as by hand" in phases or not keras3
    assert abs(percent(phases) - percent(guarded)) < (0.01 if keras3 else 3)
    assert "other outputs in training mode" in line(lines, "  refused:")
    features = line(lines, "head on features")
    assert abs(percent(features) - percent(head)) < 15
    assert "times less CPU" in features


def torch_features(lines, stack):
    plain = line(lines, "frozen, as Keras has it")
    assert "an image: other" in plain
    assert {"BNG105", "BNG702", "BNG404"} <= set(plain.split())
    guarded = line(lines, "frozen, bng.force_inference")
    assert "an image: same bits" in guarded
    assert not {"BNG105", "BNG404"} & set(guarded.split())
    held, called = line(lines, "and called, held"), line(lines, "and called as it is")
    assert held.endswith("same bits")
    assert percent(held) == percent(guarded)
    assert called.endswith("other")
    assert percent(line(lines, "fine-tuned")) > percent(guarded)


def frozen_or_inference(lines, stack):
    keras3 = stack.startswith("k3")
    works = "live moves, frozen stands still"
    assert works in line(lines, "Keras's own BN")
    assert works in line(lines, "YOLOv4's, in Python")
    with_tensors = line(lines, "YOLOv4's, with tensors")
    fails = {"k3-tf": "OperatorNotAllowedInGraphError", "k3-jax": "RuntimeError"}
    assert (f"live {fails[stack]}" if stack in fails else works) in with_tensors
    before, flipped, after = (
        re.search(r"([\d,]+) params, ([\d,]+) train", line(lines, start)).groups()
        for start in ("live:", "frozen after compile:", "compiled again:")
    )
    assert before[0] == flipped[0] == after[0]  # what the summary counts
    assert after[1] != before[1]
    assert flipped[1] == (after[1] if keras3 else before[1])
    assert "; 0 of 8 BN moved" in line(lines, "encoder frozen")
    assert "; 8 of 8 BN moved" in line(lines, "thawed  ")
    assert "; 0 of 8 BN moved" in line(lines, "thawed, BN held")


def train_equals_validation(lines, stack):
    def phases(start):
        found = line(lines, start)
        return [percent(found, name) for name in ("phase 1:", "phase 0:", "evaluate:")]

    def gap(start):
        return float(re.search(r"loss ([-+]\d+\.\d+) from mode", line(lines, start)).group(1))

    said = line(lines, "fit says")
    as_is, repaired = phases("as it is"), phases("recalibrated")
    assert percent(said, "val_accuracy") < percent(said, "accuracy")
    assert as_is[1] == as_is[2] == percent(said, "val_accuracy") < as_is[0]
    assert gap("as it is") > 0.2 > abs(gap("recalibrated"))
    assert repaired[1] == repaired[2] > as_is[1]
    assert phases("undone") == as_is
    held = phases("held")
    assert held[0] == held[1] == held[2] > as_is[1]
    assert gap("held") == 0


def efficientnet_transfer(lines, stack):
    frozen, flipped = line(lines, "base frozen"), line(lines, "BN thawed, not compiled")
    rescued = line(lines, "BN thawed and compiled")
    assert "BNG101 trainable-changed-after-compile" in flipped
    assert "BNG101" not in frozen + rescued
    assert percent(rescued, "F1") > percent(frozen, "F1") + 5
    if stack == "k3-jax":
        assert "fit raised ValueError" in flipped
    recalibrated = line(lines, "base recalibrated and frozen")
    assert "6,861 weights" in recalibrated
    assert percent(recalibrated, "F1") > percent(frozen, "F1") + 3
    (advice,) = [each for each in lines if re.match(r"(frozen|recalibrated|live): ", each)]
    assert advice


# name: (the Keras it is run on, what to check).
ALL = ("k2", "tfk", "k3-tf", "k3-jax", "k3-torch")
EXAMPLES = {
    "keras_guide": (ALL, keras_guide),
    "torch_features": (("k3-torch",), torch_features),
    "frozen_or_inference": (ALL, frozen_or_inference),
    "train_equals_validation": (ALL, train_equals_validation),
    "efficientnet_transfer": (ALL, efficientnet_transfer),
}
