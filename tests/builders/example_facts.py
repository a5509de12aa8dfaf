"""What each example has to show, on every Keras that its page names.

A check raises AssertionError where the output contradicts the story of the example, and LookupError
where a line or a number that it reads is not there at all.
"""

from __future__ import annotations

import re


def line(lines, start):
    """The one line that starts so."""
    found = [each for each in lines if each.startswith(start)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} lines start with {start!r}")
    return found[0]


def percent(text, after=""):
    """The first percentage after some words."""
    return float(part(re.escape(after) + r"\D*?(\d+\.\d) %", text)[0])


def part(pattern, text):
    """The groups of a pattern in a text."""
    found = re.search(pattern, text)
    if found is None:
        raise LookupError(f"{pattern!r} is not in {text!r}")
    return found.groups()


def keras_guide(lines, stack):
    keras3 = stack.startswith("k3")
    assert line(lines, "weights of a frozen BN").endswith(": 0")
    head = line(lines, "head on the frozen base")
    assert "38 of 38 base arrays kept" in head
    forced = line(lines, "fine-tuned, forced inference")
    assert "10 of 10 moving arrays kept" in forced
    plain = line(lines, "fine-tuned as the guide has it")
    found = line(lines, "  findings:")
    if keras3:
        assert "0 of 10 moving arrays kept" in plain
        assert "BNG201 training-false-ignored" in found
        assert "BNG404 frozen-statistics-updated" in found
        assert percent(forced) > percent(plain) + 3
    else:
        assert "10 of 10 moving arrays kept" in plain
        assert "BNG201" not in found
        assert "BNG404" not in found
        assert abs(percent(forced) - percent(plain)) < 3
    phases = line(lines, "two phases in one fit")
    assert "the same bits as by hand" in phases or not keras3
    assert abs(percent(phases) - percent(forced)) < (0.01 if keras3 else 3)
    assert any(re.match("  refused: .* other outputs in training mode", each) for each in lines)
    features = line(lines, "head on features")
    assert abs(percent(features) - percent(head)) < 10
    assert int(part(r"(\d+) times less CPU", features)[0]) > 1


def torch_features(lines, stack):
    plain = line(lines, "frozen, as Keras has it")
    assert "an image: other" in plain
    assert {"BNG105", "BNG702", "BNG404"} <= set(plain.split())
    forced = line(lines, "frozen, bng.force_inference")
    assert "an image: same bits" in forced
    assert not {"BNG105", "BNG404"} & set(forced.split())
    in_block, called = line(lines, "called, forced"), line(lines, "called as it is")
    assert in_block.endswith("same bits")
    assert percent(in_block) == percent(forced)
    assert called.endswith("other")
    assert percent(line(lines, "fine-tuned")) > percent(forced) + 8


def frozen_or_inference(lines, stack):
    keras3 = stack.startswith("k3")
    works = "trainable updated, frozen unchanged"
    assert works in line(lines, "Keras's built-in BN")
    assert works in line(lines, "YOLOv4's, in Python")
    with_tensors = line(lines, "YOLOv4's, with tensors")
    fails = {"k3-tf": "OperatorNotAllowedInGraphError", "k3-jax": "RuntimeError"}
    assert (f"trainable {fails[stack]}" if stack in fails else works) in with_tensors
    before, frozen, after = (
        part(r"([\d,]+) params, ([\d,]+) train", line(lines, start))
        for start in ("trainable:", "frozen after compile:", "compiled again:")
    )
    assert before == ("24,546", "24,258")
    assert after == ("24,546", "1,290")  # `count_params()` counts all, the report what trains
    assert frozen == (after if keras3 else before)
    head, unfrozen = line(lines, "encoder frozen"), line(lines, "unfrozen  ")
    forced = line(lines, "unfrozen, BN forced")
    assert "; 0 of 8 BN updated" in head
    assert "; 8 of 8 BN updated" in unfrozen
    assert "; 0 of 8 BN updated" in forced
    assert percent(unfrozen) + 3 < percent(head) < percent(forced) - 3


def train_equals_validation(lines, stack):
    def phases(start):
        found = line(lines, start)
        return [percent(found, name) for name in ("phase 1:", "phase 0:", "evaluate:")]

    def gap(start):
        return float(part(r"loss ([-+]\d+\.\d+) from mode", line(lines, start))[0])

    fit = line(lines, "fit reports")
    as_is, repaired = phases("as it is"), phases("recalibrated")
    assert percent(fit, "val_accuracy") < percent(fit, "accuracy") - 5
    assert as_is[1] == as_is[2] == percent(fit, "val_accuracy") < as_is[0]
    assert as_is[0] > 95
    assert gap("as it is") > 0.2 > abs(gap("recalibrated"))
    assert part(r"0\.99 \*\* (\d+) = (\d\.\d+)", line(lines, "  0.99")) == ("60", "0.55")
    assert repaired[1] == repaired[2] > as_is[1] + 5
    assert phases("undone") == as_is
    forced = phases("forced inference")
    assert forced[0] == forced[1] == forced[2] > as_is[1]
    assert gap("forced inference") == 0


def efficientnet_transfer(lines, stack):
    frozen, changed = line(lines, "base frozen"), line(lines, "BN unfrozen, not compiled")
    compiled = line(lines, "BN unfrozen and compiled")
    recalibrated = line(lines, "base recalibrated and frozen")
    assert "BNG101 trainable-changed-after-compile" in changed
    assert "BNG101" not in frozen + compiled
    assert percent(compiled, "F1") > percent(frozen, "F1") + 8
    assert percent(recalibrated, "F1") > percent(frozen, "F1") + 4
    if stack in ("k3-jax", "k3-torch"):
        assert "fit raised ValueError" in changed
    for each, trains in ((frozen, "453"), (compiled, "949"), (recalibrated, "453")):
        assert f"; {trains} of 6,861 weights trained" in each
    assert any(re.match(r"(frozen|recalibrated|trainable|live): ", each) for each in lines)


# name: (the Keras it is run on, what to check).
ALL = ("k2", "tfk", "k3-tf", "k3-jax", "k3-torch")
EXAMPLES = {
    "keras_guide": (ALL, keras_guide),
    "torch_features": (("k3-torch",), torch_features),
    "frozen_or_inference": (ALL, frozen_or_inference),
    "train_equals_validation": (ALL, train_equals_validation),
    "efficientnet_transfer": (ALL, efficientnet_transfer),
}
