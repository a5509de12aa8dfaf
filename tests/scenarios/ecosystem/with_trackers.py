"""MLflow and W&B themselves, offline: `make test STACK=trackers`; in no other environment.

They are large, so the name keeps this file out of every other run. What both do with `logs` is
tested on all stacks in test_third_party.py.
"""

from __future__ import annotations

import pytest

import keras_bnguard as bng
from keras_bnguard.records import MomentKind
from tests.builders import schedules as r

# Third parties about each other, and about files that a service of theirs keeps open.
pytestmark = pytest.mark.filterwarnings("ignore")


def fit(tracker):
    guard = bng.BNGuard(on_finding="raise", ignore=["BNG301", "BNG407"])
    r.fit(r.compiled(r.transfer()), 4, [guard, r.scheduler(r.head_then_all(2, 2)), tracker])
    snapshots = guard.report.drift
    return [each.total for each in snapshots if each.moment.kind is MomentKind.EPOCH_END]


def test_mlflow_logs_the_drift_of_every_epoch(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    import mlflow
    from mlflow.keras import MlflowCallback

    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        drift = fit(MlflowCallback())
    client = mlflow.MlflowClient()
    logged = client.get_metric_history(run.info.run_id, "bn_drift")
    assert [metric.step for metric in logged] == [0, 1, 2, 3]
    assert [metric.value for metric in logged] == pytest.approx(drift)
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 4


def test_wandb_logs_the_drift_of_every_epoch(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    with wandb.init(mode="offline", dir=str(tmp_path), project="guarded") as run:
        drift = fit(WandbMetricsLogger())
        last = {key: run.summary[key] for key in ("epoch/bn_drift", "epoch/epoch")}
    assert last["epoch/bn_drift"] == pytest.approx(drift[-1])
    assert last["epoch/epoch"] == 3
    assert list(tmp_path.rglob("*.wandb"))
