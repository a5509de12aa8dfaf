"""Small builders of facts, so that a rule's test names only what matters to it."""

from __future__ import annotations

import ast
import textwrap
from typing import Any, Iterable, List, Optional, Tuple, Type

from keras_bnguard.records import (
    Behaviour,
    CallSite,
    ChangeOutcome,
    DataFacts,
    EmaBias,
    ExpectedMode,
    Facts,
    FlagTiming,
    Gap,
    GraphCall,
    Inventory,
    Labels,
    LayerFlag,
    Moment,
    MomentKind,
    NormInput,
    NormLayer,
    OptimizerFacts,
    PastRun,
    ReplicaStatistics,
    RunFacts,
    RunMode,
    SharedNorm,
    SkipKind,
    Stack,
    StatisticsChange,
    TrainableChange,
    TrainingDefault,
)
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.evaluate import check, skip_reason

STACKS = {
    "k2": ("tf.keras", "2.15.0", "tensorflow", FlagTiming.COMPILE),
    "tfk": ("tf_keras", "2.21.0", "tensorflow", FlagTiming.COMPILE),
    "k3-tf": ("keras", "3.15.1", "tensorflow", FlagTiming.FIRST_STEP),
    "k3-jax": ("keras", "3.15.1", "jax", FlagTiming.POSITIONAL),
    "k3-torch": ("keras", "3.15.1", "torch", FlagTiming.IMMEDIATE),
}


def stack(name: str = "k3-tf", **behaviour: bool) -> Stack:
    """A stack as its self-test finds it today, with changes to its behaviour."""
    package, version, backend, flags = STACKS[name]
    old = name in ("k2", "tfk")
    known = {
        "graph_false_honoured": old,
        "graph_true_at_inference": old,
        "false_leaks_in_graph": False,
        "false_leaks_in_call": not old,
        "default_leaks": not old,
        "setter_skips_equal": name == "k3-tf",
    }
    stored = {"k2": ReplicaStatistics.AVERAGED, "tfk": ReplicaStatistics.AVERAGED}
    stored["k3-torch"] = ReplicaStatistics.PER_PROCESS
    return Stack(
        name,
        package,
        version,
        backend,
        flags,
        Behaviour(**{**known, **behaviour}),
        stored.get(name, ReplicaStatistics.FIRST_REPLICA),
    )


def norm(path: str, **settings: Any) -> NormLayer:
    """A trainable, built BN with trained statistics; its container is read off the path."""
    known = {
        "class_name": "BatchNormalization",
        "container": path.rpartition("/")[0],
        "momentum": 0.99,
        "epsilon": 1e-3,
        "channels": 8,
        "at_default": False,
    }
    return NormLayer(path, **{**known, **settings})


def layer(path: str, position: int, **settings: Any) -> LayerFlag:
    """A trainable layer that owns weights."""
    known = {
        "class_name": "Conv2D",
        "container": path.rpartition("/")[0],
        "trainable": True,
        "compiled": None,
        "weighted": True,
        "is_norm": False,
    }
    return LayerFlag(path, position=position, **{**known, **settings})


def call(training: Optional[bool], owner: str = "backbone", order: int = 1) -> GraphCall:
    return GraphCall(training, owner, order)


def training_default(path: str, order: int) -> TrainingDefault:
    return TrainingDefault(path, "RandomFlip", order)


def shared(path: str, here: bool, there: bool, contains: bool = False) -> SharedNorm:
    return SharedNorm(path, "gan", here, there, contains)


def trainable_change(
    path: str, now: bool = False, outcome: ChangeOutcome = ChangeOutcome.IGNORED, **settings: Any
) -> TrainableChange:
    return TrainableChange(path, compiled=not now, now=now, outcome=outcome, **settings)


def changed(
    path: str, expected: ExpectedMode = ExpectedMode.TRAINING, **settings: Any
) -> StatisticsChange:
    """A BN whose statistics changed."""
    known = {
        "why": "trainable",
        "changed": True,
        "changed_since_last": True,
        "ran": RunMode.TRAINING,
    }
    return StatisticsChange(path, expected, **{**known, **settings})


def stuck(
    path: str, expected: ExpectedMode = ExpectedMode.TRAINING, **settings: Any
) -> StatisticsChange:
    """A BN whose statistics are bit-identical."""
    return changed(path, expected, **{"changed": False, "changed_since_last": False, **settings})


def site(arrived: Any = True, explicit: Any = None, **settings: Any) -> CallSite:
    return CallSite(explicit, arrived, **settings)


def inventory(
    *norms: NormLayer, on: Optional[Stack] = None, layers: Iterable[LayerFlag] = (), **settings: Any
) -> Inventory:
    return Inventory("model", on or stack(), norms, tuple(layers), **settings)


def run(*statistics_changes: StatisticsChange, **settings: Any) -> RunFacts:
    """Ten steps of training, of which none was observed unless `calls` are given."""
    known = {"moment": Moment(MomentKind.EPOCH_END, 1), "steps": 10, "called": "calls" in settings}
    return RunFacts(statistics_changes=statistics_changes, **{**known, **settings})


def past(
    *norms: NormLayer, on: Optional[Stack] = None, layers: Iterable[LayerFlag] = (), **settings: Any
) -> PastRun:
    """The fit before this one: ten steps of Adam at 1e-3."""
    known = {"steps": 10, "optimizer": "Adam", "learning_rate": 1e-3}
    known.update({"head_learning_rate": 1e-3, "head_optimizer": "Adam"})
    return PastRun(inventory(*norms, on=on, layers=layers), **{**known, **settings})


def adam(**settings: Any) -> OptimizerFacts:
    return OptimizerFacts("Adam", **{"built": True, "iterations": 10, **settings})


def reached(path: str, **settings: Any) -> NormInput:
    """What reaches a BN whose statistics fit: 256 values per channel in a batch of 32 rows."""
    container = path.rpartition("/")[0]
    known = {"container": container, "first": True, "values": 256.0, "values_per_row": 8.0}
    return NormInput(path, **{**known, **settings})


def sampled(*norms: NormInput, **settings: Any) -> DataFacts:
    """Sixteen shuffled batches of 32 rows in the order of training."""
    known = {
        "kind": "list",
        "rows": 512,
        "batches": 16,
        "full_rows": 32,
        "ordered": True,
        "low": 0.0,
        "high": 1.0,
    }
    return DataFacts(norms=norms, **{**known, **settings})


def gap(training: float, inference: float, **settings: Any) -> Gap:
    known = {"standard_error": 0.01, "batches": 8, "rows": 256, "values": 256.0}
    return Gap(training, inference, **{**known, **settings})


def ema_bias(path: str, **settings: Any) -> EmaBias:
    """A BN that is up to date after 400 steps."""
    known = {
        "initial_weight": 0.02,
        "start_shift": 0.0,
        "start_log_variance": 0.0,
        "shift": 0.0,
        "log_variance": 0.0,
        "steps": 40,
    }
    return EmaBias(path, **{**known, **settings})


def labels(**settings: Any) -> Labels:
    """Labels of ten classes at random."""
    known = {
        "n_classes": 10,
        "batches": 16,
        "single_class_batches": 0,
        "within_batch_variance_ratio": 0.97,
    }
    return Labels(**{**known, **settings})


def facts(
    *norms: NormLayer,
    on: Optional[Stack] = None,
    layers: Iterable[LayerFlag] = (),
    run: Optional[RunFacts] = None,
    optimizer: Optional[OptimizerFacts] = None,
    **settings: Any,
) -> Facts:
    """Facts with an inventory of these BN; other settings are the inventory's."""
    more = {name: settings.pop(name) for name in ("data", "fit_settings") if name in settings}
    return Facts(inventory(*norms, on=on, layers=layers, **settings), optimizer, run, **more)


def violations(rule: Type[Rule], known: Facts) -> List[Violation]:
    return list(check(rule, known))


def skipped(rule: Type[Rule], known: Facts) -> Optional[SkipKind]:
    """The kind of reason why a rule cannot judge these facts; None where it can."""
    why = skip_reason(rule, known)
    return None if why is None else why.kind


def the_violation(rule: Type[Rule], known: Facts) -> Violation:
    """The one violation of a rule that must fire, its fix read as code."""
    (violation,) = violations(rule, known)
    assert violation.message.endswith("."), violation.message
    code_of(violation.fix)
    return violation


def layers_of(rule: Type[Rule], known: Facts) -> Tuple[str, ...]:
    """All layers that a rule names, empty where it stays silent."""
    return tuple(path for violation in violations(rule, known) for path in violation.layers)


def code_of(fix: str) -> ast.Module:
    """The indented blocks of a fix, parsed; SyntaxError where one cannot be pasted."""
    lines = [line for line in fix.splitlines() if line.startswith("    ")]
    assert all("._" not in line for line in lines), "a fix uses public names only"
    return ast.parse(textwrap.dedent("\n".join(lines)))
