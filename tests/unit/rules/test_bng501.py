"""BNG501 with hand-made records."""

import pytest

from keras_bnguard.records import DataPart, SkipKind
from keras_bnguard.rules.bng501_input_scale_mismatch import InputScaleMismatch, family_of
from tests.builders.facts import (
    facts,
    inventory,
    layer,
    norm,
    reached,
    sampled,
    skipped,
    the_violation,
    violations,
)

RULE = InputScaleMismatch


def known(scale, path="base/bn", layers=(), low=0.0, high=1.0, **settings):
    item = reached(path, variance_ratio=scale, **settings)
    return facts(norm(path), layers=layers, data=sampled(item, low=low, high=high))


def test_it_fires_on_data_that_are_a_hundred_times_too_small():
    violation = the_violation(RULE, known(1.5e-5))
    assert violation.layers == ("base/bn",)
    assert "1.5e-05 times the variance" in violation.message
    assert "rescaled, where the model was trained on larger values" in violation.message


def test_it_names_double_rescaling_where_the_model_rescales():
    rescaling = layer("base/rescaling", 0, class_name="Rescaling", weighted=False)
    violation = the_violation(RULE, known(1.5e-5, layers=[rescaling]))
    assert "rescaled twice, by base/rescaling inside the model" in violation.message


def test_it_names_data_that_were_not_rescaled():
    assert "not rescaled" in the_violation(RULE, known(6.5e4, high=255.0)).message


@pytest.mark.parametrize(
    ("name", "scale", "words"),
    [
        ("resnet50", 1e-4, "resnet50 expects pixels from 0 to 255 less the mean"),
        ("resnet50v2", 2e4, "not rescaled; resnet50v2 expects pixels from -1 to 1"),
        ("efficientnetb0", 2e-5, "rescaled twice; efficientnetb0 expects pixels from 0 to 255"),
        ("mobilenetv2_1.00_224", 2e4, "not rescaled; mobilenetv2_1.00_224 expects"),
        ("densenet121", 5e3, "not rescaled; densenet121 expects pixels from 0 to 1"),
    ],
)
def test_it_knows_what_models_of_keras_applications_expect(name, scale, words):
    inside = [layer(f"{name}/rescaling", 0, class_name="Rescaling", weighted=False)]
    high = 255.0 if scale > 1 else 1.0
    data = known(scale, path=f"{name}/bn", layers=inside, high=high)
    assert words in the_violation(RULE, data).message


@pytest.mark.parametrize(
    ("name", "scale", "high", "words"),
    [
        # Made without its Rescaling, as include_preprocessing=False and ports of others are.
        ("efficientnetv2-b0", 1e4, 255.0, "Likely cause: not rescaled, where the model was"),
        ("efficientnetv2-b0", 1e-4, 1.0, "Likely cause: rescaled, where the model was"),
        # No model of keras.applications.
        ("resnet18", 1e4, 255.0, "Likely cause: not rescaled, where the model was"),
        # A port whose weights expect other values than those of keras.applications.
        ("resnet50", 1e4, 255.0, "Likely cause: not rescaled, where the model was"),
        ("mobilenetv2", 1e4, 1.0, "Likely cause: not rescaled, where the model was"),
        ("densenet121", 1e-4, 255.0, "Likely cause: rescaled, where the model was"),
    ],
)
def test_a_name_does_not_count_where_data_or_layers_contradict_it(name, scale, high, words):
    violation = the_violation(RULE, known(scale, path=f"{name}/bn", high=high))
    assert words in violation.message
    assert name not in violation.fix


def test_the_fix_is_silent_about_values_that_the_model_gets_already():
    inside = [layer("efficientnetb0/rescaling", 0, class_name="Rescaling", weighted=False)]
    data = known(1e4, path="efficientnetb0/bn", layers=inside, high=255.0)
    assert "from 0 to 255" not in the_violation(RULE, data).fix


def test_constant_data_are_named():
    assert "are the same" in the_violation(RULE, known(0.0, low=1.0, high=1.0)).message


def test_a_flat_model_is_known_by_its_own_name():
    assert family_of(inventory(norm("bn")), "") == ("", "")
    assert family_of(inventory(norm("bn")), "x/xception") == ("xception", "tf")


@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0, 100.0])
def test_a_domain_shift_of_a_smaller_size_is_silent(scale):
    assert not violations(RULE, known(scale))


def test_only_the_first_bn_of_a_sub_model_counts():
    assert not violations(RULE, known(1e-5, first=False))


def test_default_statistics_are_silent():
    item = reached("bn", variance_ratio=1e-5)
    assert not violations(RULE, facts(norm("bn", at_default=True), data=sampled(item)))


def test_non_finite_data_are_silent():
    assert not violations(RULE, known(1e-5, finite=False))


def test_it_is_skipped_where_no_bn_was_measured():
    data = sampled(missing={DataPart.NORMS: "the model is not built yet"})
    assert skipped(RULE, facts(norm("bn"), data=data)) is SkipKind.NOT_MEASURED
