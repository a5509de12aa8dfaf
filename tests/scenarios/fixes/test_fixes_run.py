"""Every printed fix is pasted in the place that it names, it runs, and the finding is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest

from keras_bnguard import audit
from tests.builders.pasting import HEADER, alternatives, pasted, run
from tests.stack import IS_KERAS3

FIT = "net.fit(features, labels, batch_size=16, epochs=1, verbose=0, callbacks=[guard])\n"

STUBBORN = """
class Stubborn(L.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        kept, self.trainable = self.trainable, True
        try:
            return super().call(inputs, training=training)
        finally:
            self.trainable = kept


h = inputs = keras.Input((8,))
h = Stubborn(name="stubborn", momentum=0.9)(L.Dense(8)(h))
net = keras.Model(inputs, L.Dense(1, activation="sigmoid")(h))
net.get_layer("stubborn").trainable = False
compiled(net)
"""
"""A frozen BN that goes on updating its statistics."""

CASES: Dict[str, str] = {
    "BNG101": """
base = backbone()
net = compiled(on_top(base))
base.trainable = False
"""
    + FIT,
    "BNG101 in a class": """
class Trainer:
    def __init__(self):
        self.base = backbone()
        self.network = compiled(on_top(self.base))

    def train(self, x, y):
        self.base.trainable = False
        self.network.fit(x, y, batch_size=16, verbose=0, callbacks=[guard])


Trainer().train(features, labels)
""",
    "BNG102": """
base = backbone()
base.trainable = False
base.get_layer("bn2").trainable = True
net = compiled(on_top(base))
"""
    + FIT,
    "BNG102 in a wrapper": """
h = inputs = keras.Input((4, 8))
td = L.TimeDistributed(L.BatchNormalization(name="norm", momentum=0.9), name="td")
h = L.GlobalAveragePooling1D()(td(h))
net = keras.Model(inputs, L.Dense(1, activation="sigmoid")(h))
td.trainable = False
td.layer.trainable = True
compiled(net)
features = np.repeat(features[:, None], 4, 1)
"""
    + FIT,
    "BNG103": """
base = backbone((8,) * 11)
for layer in base.layers:
    layer.trainable = isinstance(layer, L.BatchNormalization)
net = compiled(on_top(base))
"""
    + FIT,
    "BNG104": """
base = backbone()
base.trainable = False
net = compiled(on_top(base))
net.fit(features, labels, batch_size=16, epochs=1, verbose=0, callbacks=[BNGuard()])
base.trainable = True
compiled(net, 1e-4)
"""
    + FIT,
    "BNG105": STUBBORN + FIT,
    "BNG201": """
net = compiled(on_top(backbone(), training=False))
"""
    + FIT,
    "BNG301": """
features = 4 * features + 6
net = compiled(on_top(backbone(momentum=0.999)))
"""
    + FIT.replace("epochs=1", "epochs=4"),
    "BNG302": """
net = compiled(on_top(backbone(momentum=0.1)))
"""
    + FIT,
    "BNG403": """
base = backbone()
base.get_layer("bn1").moving_variance.assign(np.full(8, [1e-9] + 7 * [1.0], "float32"))
base.trainable = False
net = compiled(on_top(base))
"""
    + FIT,
    "BNG404": STUBBORN + FIT,
    "BNG406": """
features = 30 * features + 20
net = compiled(on_top(backbone(momentum=0.5)))
"""
    + FIT.replace("batch_size=16", "batch_size=8"),
    "BNG502": """
net = compiled(on_top(backbone(), training=None))
"""
    + FIT.replace("batch_size=16", "batch_size=2"),
    "BNG503": """
features, labels = features[:81], labels[:81]
net = compiled(on_top(backbone()))
"""
    + FIT,
    "BNG504": """
base = backbone()
base.trainable = False
net = compiled(on_top(base))
features = 3 - 2 * features
guard = BNGuard(data=(features, labels))
"""
    + FIT,
    "BNG601": """
base = backbone()
base.trainable = False
net = compiled(on_top(base))
net.fit(features, labels, batch_size=16, epochs=1, verbose=0)
for layer in base.layers:
    layer.trainable = not isinstance(layer, L.BatchNormalization)
net.compile(optimizer=net.optimizer, loss="binary_crossentropy", metrics=["accuracy"])
"""
    + FIT,
    "BNG603": """
net = on_top(backbone(momentum=0.5))
net.compile(
    keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.95, ema_overwrite_frequency=None),
    loss="binary_crossentropy",
)
"""
    + FIT.replace("epochs=1", "epochs=4"),
    "BNG605": """
net = on_top(backbone())
decay = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)
net.compile(keras.optimizers.SGD(decay), loss="binary_crossentropy")
plateau = keras.callbacks.ReduceLROnPlateau("loss")
"""
    + FIT.replace("[guard]", "[guard, plateau]"),
    "BNG606": """
base = backbone()
base.trainable = False
net = compiled(on_top(base), 1e-3)
net.fit(features, labels, batch_size=16, epochs=1, verbose=0, callbacks=[BNGuard()])
for layer in base.layers:
    layer.trainable = not isinstance(layer, L.BatchNormalization)
net.compile(keras.optimizers.SGD(1e-3), loss="binary_crossentropy", metrics=["accuracy"])
"""
    + FIT,
}
ELSEWHERE = {"BNG201": IS_KERAS3, "BNG601": IS_KERAS3}
"""Rules that fire on some stacks only."""


@pytest.mark.parametrize("case", CASES)
def test_a_printed_fix_is_pasted_and_the_finding_is_gone(case: str, tmp_path: Path) -> None:
    if not ELSEWHERE.get(case, True):
        return
    code, source, file = case[:6], HEADER + CASES[case], tmp_path / "train.py"
    fix = _fix(code, source, file)
    blocks = alternatives(fix)
    assert blocks, fix
    for prose, block in blocks:
        if "after train.py" in prose:
            run(pasted(source, prose, block), file)
            continue
        again = run(pasted(source, prose, block), file)
        assert code not in again["guard"].report.codes, (block, again["guard"].report)


def _fix(code: str, source: str, file: Path) -> str:
    try:
        names: Any = run(source, file)
    except Exception as error:  # What the finding warned of.
        names = {"guard": _guard(error)}
    fixes = [f.fix for f in names["guard"].report.findings if f.code == code]
    assert fixes, names["guard"].report.codes
    return str(fixes[0])


def _guard(error: Exception) -> Any:
    trace = error.__traceback__
    while trace is not None:
        if "guard" in trace.tb_frame.f_globals and "features" in trace.tb_frame.f_globals:
            return trace.tb_frame.f_globals["guard"]
        trace = trace.tb_next
    raise error


def test_a_gap_is_closed_by_the_code_for_after_training(tmp_path: Path) -> None:
    source = (
        HEADER
        + """
features = 4 * features + 6
guard = BNGuard(data=(features, labels))
net = on_top(backbone(momentum=0.99))
net.compile(keras.optimizers.SGD(0.05), loss="binary_crossentropy")
"""
        + FIT.replace("epochs=1", "epochs=3")
    )
    file = tmp_path / "train.py"
    names = run(source, file)
    fixes = [f.fix for f in names["guard"].report.findings if f.code == "BNG506"]
    assert fixes, names["guard"].report.codes
    ((prose, block),) = alternatives(fixes[0])
    again = run(pasted(source, prose, block), file)
    data = (again["features"], again["labels"])
    assert "BNG506" in audit(names["net"], data).codes
    assert "BNG506" not in audit(again["net"], data).codes
