"""A user's program: every line must be accepted by a strict type checker."""

from __future__ import annotations

from typing import Any, Sequence

from typing_extensions import assert_type

import keras_bnguard as bng
from keras_bnguard import BNGuard, Report


class Mixed(bng.GuardedTrainStep):
    """The mixin alone; a real one also names its keras.Model."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


class Subclassed(bng.GuardedModel):
    """The model class; its attributes come from the Keras of the process."""

    def call(self, x: Any) -> Any:
        return self.some_layer(x)


class OwnGuard(bng.BNGuard):
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, logs)


def observe(model: Any, data: Any) -> Report:
    guard = bng.BNGuard(on_finding=print, select=["BNG2"], ignore={"BNG404": "siamese/*"}, every=5)
    assert_type(guard, BNGuard)
    model.fit(data, callbacks=[guard, OwnGuard(fix=True)])
    report = bng.audit(model, data, select="ALL")
    assert_type(report, Report)
    report.save("report.html")
    codes: Sequence[str] = report.codes
    for finding in report.findings:
        assert_type(finding, bng.Finding)
        print(finding.code, finding.layers, codes)
    return report


def repair(model: Any, data: Any) -> None:
    handle = bng.force_inference(model, layers=["backbone/*", "re:.*_bn"])
    assert_type(handle, bng.force_inference)
    handle.release()
    with bng.force_inference(model) as forced:
        print(forced.paths)
    built = bng.GuardedModel(model.inputs, model.outputs)
    built.compile("adam", loss="mse")
    built.fit(data, callbacks=[bng.Recalibrate(data)])
    bng.recalibrate(model, data)
    Subclassed().compile("adam")


def schedule(model: Any, data: Any) -> None:
    phases = [bng.Phase("head", train="head*", epochs=5), bng.Phase("all", train="*", epochs=2)]
    scheduler = bng.PhaseScheduler(phases, verbose=0)
    assert_type(scheduler, bng.PhaseScheduler)
    assert_type(bng.PhaseScheduler.gradual(model), bng.PhaseScheduler)
    assert_type(bng.PhaseScheduler.fine_tune(model), bng.PhaseScheduler)
    assert_type(bng.PhaseScheduler.from_yaml("schedule.yaml"), bng.PhaseScheduler)
    model.fit(data, callbacks=[scheduler])


def automatic() -> None:
    bng.enable_warnings(select=("BNG1", "BNG2"), fix=True, on_finding="raise", report="r.json")
    bng.disable_warnings()
    try:
        pass
    except bng.FindingError as error:
        print(error.finding)


version: str = bng.__version__
