"""What holds for every rule: its doc, its names, its file, its imports."""

import ast
import copy
import inspect
import pickle
import re
import sys
from pathlib import Path

import pytest

from keras_bnguard.records import (
    NEEDS,
    SEVERITIES,
    BatchDependence,
    BlockFlags,
    Convolution,
    ExpectedMode,
    Facts,
    GraphContext,
    LostMask,
    NormKind,
    RunMode,
    TimeSteps,
)
from keras_bnguard.rules import ALL_RULES, BY_CODE
from keras_bnguard.rules.base import HEADINGS, Rule
from tests.builders.facts import (
    adam,
    changed,
    ema_bias,
    facts,
    gap,
    labels,
    layer,
    norm,
    past,
    reached,
    run,
    sampled,
    shared,
    site,
    stack,
    stuck,
    switch,
    trainable_change,
)

CONTRACT = """
| BNG101 | trainable-changed-after-compile | error | A R |
| BNG102 | trainable-batchnorm-under-frozen-parent | error | A |
| BNG103 | trainable-batchnorm-among-frozen-layers | warning | A |
| BNG104 | pretrained-batchnorm-unfrozen | warning | A R |
| BNG105 | frozen-batchnorm-uses-batch-statistics | error | A R |
| BNG106 | batchnorm-shared-by-compiled-models | info | A |
| BNG107 | block-cut-in-half | info | A |
| BNG201 | training-false-ignored | error | A |
| BNG202 | training-true-hard-wired | warning | A |
| BNG203 | training-flag-leaks-to-later-layers | error | A R |
| BNG204 | augmentation-switches-batchnorm-to-training | warning | A |
| BNG205 | subclass-drops-training | error | A R |
| BNG206 | train-step-runs-inference | error | R |
| BNG207 | batchnorm-inside-time-distributed | info | A |
| BNG208 | mask-does-not-reach-batchnorm | warning | A |
| BNG209 | batchnorm-called-on-several-inputs | info | A |
| BNG301 | momentum-too-slow-for-run | warning | A H |
| BNG302 | momentum-or-epsilon-out-of-range | warning | A |
| BNG303 | wrong-axis | warning | A |
| BNG304 | half-precision-statistics | error | A |
| BNG305 | renorm | info | A |
| BNG401 | statistics-never-loaded | error | A |
| BNG402 | non-finite-statistics | error | A R |
| BNG403 | dead-or-negative-variance | warning | A R |
| BNG404 | frozen-statistics-updated | error | R |
| BNG405 | trainable-statistics-unchanged | error | R |
| BNG406 | statistics-drifted | warning | R |
| BNG407 | statistics-still-converging | warning | A R |
| BNG501 | input-scale-mismatch | error | A P |
| BNG502 | batch-too-small | warning | A |
| BNG503 | tiny-last-batch | warning | A H |
| BNG504 | domain-shift | warning | A P |
| BNG505 | batches-not-shuffled | warning | A P |
| BNG506 | train-inference-gap | warning | A P |
| BNG507 | output-depends-on-batch | error | P |
| BNG601 | optimizer-does-not-know-variable | error | A O |
| BNG602 | weight-decay-on-batchnorm | info | O |
| BNG604 | gradient-accumulation | info | O |
| BNG605 | learning-rate-schedule-conflict | error | O |
| BNG606 | fine-tuning-rate-too-high | warning | O R |
| BNG607 | recompiled-inside-fit | error | R |
| BNG608 | phase-boundary-loss-spike | warning | R |
| BNG701 | per-replica-statistics | warning | A |
| BNG702 | hidden-batchnorm | warning | A |
| BNG703 | steps-per-execution-hides-batches | info | A |
| BNG704 | variance-convention-changed | info | A |
"""
ROWS = {
    row[0]: row[1:]
    for row in (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in CONTRACT.split("\n")
        if line
    )
}
FOLDER = Path(inspect.getfile(Rule)).parent
every_rule = pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.code)


def file_of(rule):
    return Path(inspect.getfile(rule))


AROUND = GraphContext(
    axis=-1,
    convolution=Convolution("conv", 1, 4),
    lost_mask=LostMask("masking", "conv"),
    time_steps=TimeSteps("td", 4, True),
    call_sites=2,
    positions=1,
)


def everything_wrong():
    """Facts in which many rules find something."""
    return facts(
        norm("backbone/a", frozen_ancestors=("backbone",)),
        norm("backbone/b", trainable=False, at_default=True),
        norm("wrapper/0", kind=NormKind.TORCH, trainable=False, host="TorchModuleWrapper"),
        norm(
            "c",
            trainable=True,
            momentum=0.1,
            stats_dtype="float16",
            renorm=True,
            graph_context=AROUND,
        ),
        on=stack("k3-jax"),
        replicas=2,
        steps_per_execution=2,
        saved_by="keras 2.15.0",
        blocks=(BlockFlags("block", ("a",), ("b",)),),
        training_defaults=(switch("trainable_change", 0),),
        shared=(shared("c", True, False),),
        optimizer=adam(
            unknown=("c/gamma",),
            weight_decay=0.1,
            decayed=("c",),
            accumulation=2,
            rate_is_schedule=True,
            learning_rate_writers=("ReduceLROnPlateau",),
            learning_rate=1.0,
        ),
        run=run(
            changed("backbone/b", ExpectedMode.INFERENCE, dead_channels=1),
            changed("backbone/a", mean_shift=9.0, nonfinite=("gamma",)),
            stuck("c", ran=RunMode.INFERENCE),
            trainable_changes=(trainable_change("c"),),
            calls={"c": (site(False, leaked_from="a"),), "backbone/b": (site(True),)},
            recompiled="epoch 1 end",
            before=past(norm("c", trainable=False), layers=(layer("conv", 1, trainable=False),)),
            ema_biases=(
                ema_bias("c", initial_weight=0.5, start_shift=3.0),
                ema_bias("backbone/a", shift=3.0),
            ),
            ended=True,
        ),
        fit_settings={"epochs": 1, "steps": 10, "batch_size": 32, "samples": 65},
        data=sampled(
            reached("backbone/a", variance_ratio=1e-6),
            reached("c", values_per_row=1.0),
            reached("wrapper/0", mean_shift=3.0),
            labels=labels(single_class_batches=16, within_batch_variance_ratio=0.0),
            gap=gap(0.1, 2.0),
            batch_dependence=BatchDependence(difference=1.0),
        ),
    )


def test_codes_are_sorted_and_unique():
    codes = [rule.code for rule in ALL_RULES]
    assert codes == sorted(set(codes))
    assert [BY_CODE[code] for code in codes] == list(ALL_RULES)


def test_names_and_classes_are_unique():
    assert len({rule.name for rule in ALL_RULES}) == len(ALL_RULES)
    assert len({rule.__name__ for rule in ALL_RULES}) == len(ALL_RULES)


def test_every_rule_file_is_listed():
    assert {file_of(rule).name for rule in ALL_RULES} == {p.name for p in FOLDER.glob("bng*.py")}


@every_rule
def test_a_rule_has_the_name_severity_and_needs_of_the_contract(rule):
    if rule.code in ROWS:
        name, severity, needs = ROWS[rule.code]
        assert (rule.name, rule.severity, rule.needs) == (name, severity, tuple(needs.split()))
    assert rule.severity in SEVERITIES
    assert set(rule.needs) <= set(NEEDS)


def test_every_row_of_the_contract_has_its_rule():
    assert set(ROWS) <= set(BY_CODE)


@every_rule
def test_a_file_is_named_after_code_and_name(rule):
    assert file_of(rule).stem == f"{rule.code}_{rule.name}".lower().replace("-", "_")


@every_rule
def test_a_class_is_named_after_its_rule(rule):
    assert rule.__name__.lower() == rule.name.replace("-", "")


@every_rule
def test_a_rule_is_documented_under_all_headings_in_order(rule):
    assert rule.title().endswith(".")
    sections = rule.sections()
    assert tuple(sections) == HEADINGS
    assert all(sections.values())


@every_rule
def test_a_doc_fits_the_line_and_stays_in_ascii(rule):
    assert rule.__doc__.isascii()
    assert max(len(line) for line in rule.__doc__.splitlines()) <= 100


@every_rule
def test_an_uncertain_rule_says_so_under_its_limits(rule):
    if not rule.certain:
        assert re.search(
            r"not\s+certain|not\s+as\s+a\s+fault", rule.sections()["Known limits"], re.I
        )


@every_rule
def test_a_rule_is_silent_where_nothing_is_known(rule):
    assert list(rule().check(Facts())) == []
    assert rule().skip_reason(Facts()) is None


@every_rule
def test_a_rule_is_silent_where_a_part_that_it_needs_is_missing(rule):
    parts = {"A": "inventory", "O": "optimizer", "R": "run", "P": "data", "H": "fit_settings"}
    full = everything_wrong()
    for need in rule.needs:
        left = {part: getattr(full, part) for key, part in parts.items() if key != need}
        assert list(rule().check(Facts(**left))) == []


@every_rule
def test_a_rule_leaves_the_facts_as_they_were(rule):
    known = everything_wrong()
    before = copy.deepcopy(known)
    list(rule().check(known))
    rule().skip_reason(known)
    assert known == before


@every_rule
def test_a_hit_says_what_to_do_and_can_be_pickled(rule):
    for violation in rule().check(everything_wrong()):
        assert violation.message
        assert violation.fix
        assert len(set(violation.layers)) == len(violation.layers)
        assert pickle.loads(pickle.dumps(violation)) == violation


def test_most_rules_are_tried_by_the_tests_above():
    fired = [rule.code for rule in ALL_RULES if list(rule().check(everything_wrong()))]
    assert len(fired) >= 11, fired


@every_rule
def test_every_yield_of_a_rule_has_a_fix(rule):
    tree = ast.parse(file_of(rule).read_text(encoding="utf-8"))
    made = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Violation"
    ]
    assert made
    for node in made:
        assert {"layers", "message", "fix"} <= {keyword.arg for keyword in node.keywords}


@every_rule
def test_a_rule_has_its_own_test_file(rule):
    assert Path(__file__).with_name(f"test_{rule.code.lower()}.py").is_file()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("bng*.py")), ids=lambda path: path.stem)
def test_a_rule_file_imports_only_records_the_base_drift_and_the_standard_library(path):
    allowed = {
        "keras_bnguard.records",
        "keras_bnguard.rules.base",
        "keras_bnguard.statistics.drift",
    }
    allowed |= {"keras_bnguard.records", "keras_bnguard.rules.thresholds"}
    if path.stem == "bng407_statistics_still_converging":  # what is left to it by the other
        allowed.add("keras_bnguard.rules.bng301_momentum_too_slow_for_run")
    if path.stem == "__init__":
        allowed |= {f"keras_bnguard.rules.{file_of(rule).stem}" for rule in ALL_RULES}
    # `sys.stdlib_module_names` is younger than the oldest Python we support.
    own = {"__future__", "dataclasses", "inspect", "math", "re", "textwrap", "typing", "numpy"}
    standard = set(getattr(sys, "stdlib_module_names", own)) | {"numpy"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            assert not node.level
        else:
            continue
        for module in modules:
            assert module in allowed or module.split(".")[0] in standard, f"{path.name}: {module}"
