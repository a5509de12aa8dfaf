"""`audit`: every rule that needs no training, in one call."""

from __future__ import annotations

from typing import Any

from keras_bnguard.arguments import short_traceback
from keras_bnguard.backends.graph_mode import require_eager
from keras_bnguard.data.containers.registry import readable_container
from keras_bnguard.data.measure import measure
from keras_bnguard.data.model_inputs import fixed_rows
from keras_bnguard.data.sample import sample
from keras_bnguard.guard.data_sampling import find_other_trainers
from keras_bnguard.guard.fact_collector import FactCollector
from keras_bnguard.guard.run_kinds import AuditRun
from keras_bnguard.model.expected_mode import modes
from keras_bnguard.records import AUDIT, RunFacts
from keras_bnguard.report.report import Report
from keras_bnguard.rules.evaluate import Ignore, RuleFilter, Select, evaluate


@short_traceback
def audit(model: Any, data: Any = None, *, select: Select = None, ignore: Ignore = None) -> Report:
    """Audit every BN of a model as it is now; nothing is changed, and without data nothing run.

    Args:
        model: a Keras model, built or not, compiled or not.
        data: arrays, (x, y), a dataset, a loader, a list of batches, or a function that returns an
            iterator of batches; docs/data-rules.md lists every kind. The data rules run the
            model on 16 batches in inference mode; nothing is used up, and weights, metrics and
            random states stay as they are. Defaults to None: the data rules are skipped.
        select: rule codes or prefixes to run, "ALL" for the info rules too.
        ignore: rule codes or prefixes to ignore, or a mapping from one to layer globs.

    Returns:
        A `Report`: findings, the mode of every BN, and how every rule ended.

    Raises:
        UnsupportedModelError: `model` is no Keras model, or TensorFlow runs in graph mode.
        SettingError: `select` or `ignore` names no rule.
        DataError: `data` is nothing that batches can be read from.
    """
    rule_filter = RuleFilter.of(select, ignore)
    require_eager(model, "audit")
    collector = FactCollector(model, AuditRun(), rule_filter)
    snapshot = collector.trackers.snapshot
    measured = None
    if data is not None:
        sampled = sample(readable_container(data).data, batch_size=fixed_rows(model))
        measured = measure(snapshot, sampled)
        find_other_trainers(snapshot, measured)
    facts = collector.collect(RunFacts(moment=AUDIT), data=measured)
    findings, outcomes = evaluate(facts, rule_filter=rule_filter)
    return Report(
        model=snapshot.inventory.model,
        stack=snapshot.inventory.stack,
        findings=findings,
        outcomes=outcomes,
        modes=modes(snapshot.inventory),
        weights=snapshot.inventory.weights,
    )
