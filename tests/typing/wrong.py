"""A user's mistakes: a type checker must report each line marked `# wrong`, and no other."""

from __future__ import annotations

from typing import Any

import keras_bnguard as bng
from keras_bnguard import BNGard  # wrong

bng.BNGard()  # wrong
print(bng.guard)  # wrong
bng.BNGuard(on_findings="warn")  # wrong
bng.BNGuard(fix="yes")  # wrong
bng.enable_warnings(slect="BNG1")  # wrong
bng.disable_warnings(True)  # wrong


def use(model: Any, data: Any) -> None:
    bng.audit(model, data, "BNG1")  # wrong
    print(bng.audit(model).findings[0].cod)  # wrong
    bng.audit(model).save()  # wrong
    bng.force_inference(model, layer="backbone/*")  # wrong
    bng.force_inference(model).relase()  # wrong
    bng.recalibrate(model)  # wrong
    bng.PhaseScheduler()  # wrong
    bng.PhaseScheduler([], optimiser_state="reset")  # wrong
    bng.PhaseScheduler.from_yml("schedule.yaml")  # wrong
    bng.Phase("head", epoch=5)  # wrong
    print(BNGard)
