"""Runs a script, pastes a printed fix in the place that it names, and runs it again."""

from __future__ import annotations

import re
import textwrap
import warnings
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from tests.stack import STACK, keras

IMPORTS = {"k2": "from tensorflow import keras", "tfk": "import tf_keras as keras"}
HEADER = f"""\
{IMPORTS.get(STACK, "import keras")}
import numpy as np
from keras_bnguard import BNGuard

keras.utils.set_random_seed(0)
L = keras.layers
rng = np.random.default_rng(0)
features = rng.normal(size=(96, 8)).astype("float32")
labels = (features[:, :1] > 0).astype("float32")
guard = BNGuard(select="ALL")


def backbone(units=(8, 8), momentum=0.9):
    h = inputs = keras.Input((8,))
    for i, width in enumerate(units, 1):
        h = L.Dense(width, name=f"dense{{i}}")(h)
        h = L.BatchNormalization(name=f"bn{{i}}", momentum=momentum)(h)
    base = keras.Model(inputs, h, name="base")
    values = np.random.default_rng(2)
    for layer in base.layers:
        if isinstance(layer, L.BatchNormalization):
            size = layer.moving_mean.shape[0]
            layer.moving_mean.assign(values.normal(0, 0.05, size).astype("float32"))
            layer.moving_variance.assign(values.uniform(0.8, 1.2, size).astype("float32"))
    return base


def on_top(base, **how):
    inputs = keras.Input((8,))
    return keras.Model(inputs, L.Dense(1, activation="sigmoid")(base(inputs, **how)))


def compiled(net, step=0.01):
    net.compile(
        optimizer=keras.optimizers.SGD(step),
        loss=keras.losses.BinaryCrossentropy(label_smoothing=0.1),
        metrics=["accuracy"],
    )
    return net


"""


def run(source: str, file: Path) -> Dict[str, Any]:
    """Run a script as `python train.py` does, in this process; its names when it is over."""
    keras.backend.clear_session()
    np.random.seed(0)
    names = {"__name__": "__main__", "__file__": str(file)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(source, str(file), "exec"), names)
    return names


def alternatives(fix: str) -> List[Tuple[str, str]]:
    """Each block of code in a fix, with the prose in front of it."""
    prose, code, found = "", [], []
    for line in [*fix.split("\n"), ""]:
        if line.startswith("    "):
            code.append(line)
            continue
        if code:
            found.append((prose, textwrap.dedent("\n".join(code))))
            code = []
        prose = line
    return found


def pasted(source: str, prose: str, code: str) -> str:
    """The script with the code in the place that the prose names."""
    place = re.search(r"\b(before|after) train\.py:([0-9]+)", prose)
    assert place is not None, f"no place is named: {prose!r}"
    at = int(place[2]) - (place[1] == "before")
    lines = source.split("\n")
    here = lines[int(place[2]) - 1]
    code = textwrap.indent(code, here[: len(here) - len(here.lstrip())])
    return "\n".join([*lines[:at], code, *lines[at:]])
