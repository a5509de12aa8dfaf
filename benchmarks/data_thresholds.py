"""Where the limits of the rules on data come from: clean runs and faulty runs, measured.

    KERAS_BACKEND=torch python benchmarks/data_thresholds.py            # some minutes on a CPU
    KERAS_BACKEND=jax python benchmarks/data_thresholds.py --seeds 1
    python benchmarks/data_thresholds.py --first 10 --out cases.jsonl --only short_runs  # a part
    python benchmarks/data_thresholds.py --table cases.jsonl  # all parts of it

Digits of scikit-learn, several small models. A case is *faulty* where recalibration gains more
than 0.1 of held-out accuracy. It is *clean* where recalibration gains less than 0.02, and, for
new data, where the model as it is has lost less than 0.02. What lies between decides nothing.
For each measure the table has the largest clean value, the
smallest faulty one, and the limit that the rule uses; docs/data-rules.md has the result.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_bnguard as bng
from keras_bnguard.data.measure import measure
from keras_bnguard.data.sample import sample
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import DataPart
from keras_bnguard.rules import bng301_momentum_too_slow_for_run as bng301
from keras_bnguard.rules import bng407_statistics_still_converging as bng407
from keras_bnguard.rules import bng501_input_scale_mismatch as bng501
from keras_bnguard.rules import bng506_train_inference_gap as bng506
from keras_bnguard.rules import bng507_output_depends_on_batch as bng507
from keras_bnguard.rules import thresholds

layers = keras.layers
Rows = Dict[str, List[Tuple[str, float]]]
CLEAN, FAULTY = 0.02, 0.10


def digits(seed: int) -> Tuple[np.ndarray, np.ndarray]:
    raw = load_digits()
    order = np.random.default_rng(seed).permutation(len(raw.target))
    return (raw.images[order, ..., None] / 16.0).astype("float32"), raw.target[order]


# --------------------------------------------------------------------- models
def conv(momentum: float = 0.9, dropout: float = 0.0) -> Any:
    x = inputs = keras.Input((8, 8, 1))
    for i, width in enumerate((16, 24, 32)):
        x = layers.Conv2D(width, 3, strides=1 + (i == 1), padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=momentum, name=f"bn{i}")(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D(name="features")(layers.Dropout(dropout)(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def residual(momentum: float = 0.9, dropout: float = 0.0) -> Any:
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs)
    for i in range(3):
        y = layers.BatchNormalization(momentum=momentum, name=f"bn{2 * i}")(x)
        y = layers.Conv2D(16, 3, padding="same", use_bias=False)(layers.ReLU()(y))
        y = layers.BatchNormalization(momentum=momentum, name=f"bn{2 * i + 1}")(y)
        x = layers.Add()([x, layers.Conv2D(16, 1)(layers.ReLU()(y))])
    x = layers.GlobalAveragePooling2D(name="features")(layers.Dropout(dropout)(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def dense(momentum: float = 0.9, dropout: float = 0.0) -> Any:
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(inputs)
    for i in range(2):
        x = layers.BatchNormalization(momentum=momentum, name=f"bn{i}")(layers.Dense(48)(x))
        x = layers.ReLU()(x)
    x = layers.Dropout(dropout, name="features")(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


MODELS: Dict[str, Callable[..., Any]] = {"conv": conv, "residual": residual, "dense": dense}


def train(model: Any, x: Any, y: Any, guard: Any = None, **settings: Any) -> Any:
    learning_rate = settings.pop("learning_rate", 2e-3)
    model.compile(
        keras.optimizers.Adam(learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    callbacks = [guard] if guard is not None else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, y, verbose=0, callbacks=callbacks, **settings)
    return model


def facts_of(model: Any, data: Any, **settings: Any) -> Any:
    parts = settings.pop("parts", frozenset({DataPart.NORMS, DataPart.LABELS, DataPart.GAP}))
    return measure(take_snapshot(model), sample(data, **settings), parts=parts)


# ------------------------------------------------------------- 504: other data
SHIFTS: Dict[str, Callable[[np.ndarray, Any], np.ndarray]] = {
    "same": lambda x, r: x,
    "brighter 0.1": lambda x, r: x + 0.1,
    "contrast 0.8": lambda x, r: 0.8 * x,
    "contrast 1.3": lambda x, r: 1.3 * x,
    "noise 0.05": lambda x, r: x + r.normal(0, 0.05, x.shape),
    "noise 0.15": lambda x, r: x + r.normal(0, 0.15, x.shape),
    "moved by a pixel": lambda x, r: np.roll(x, 1, axis=2),
    "mirrored": lambda x, r: x[:, :, ::-1],
    "contrast 0.5": lambda x, r: 0.5 * x,
    "contrast 0.25": lambda x, r: 0.25 * x,
    "contrast 3": lambda x, r: 3 * x,
    "brighter 0.5": lambda x, r: x + 0.5,
    "brighter 1": lambda x, r: x + 1.0,
    "brighter 3": lambda x, r: x + 3.0,
    "noise 0.4": lambda x, r: x + r.normal(0, 0.4, x.shape),
    "noise 0.8": lambda x, r: x + r.normal(0, 0.8, x.shape),
    "inverted": lambda x, r: 1 - x,
    "inverted, contrast 0.5": lambda x, r: 1 - 0.5 * x,
}


def other_data(rows: Rows, seeds: Sequence[int]) -> None:
    """A trained model on new data of the same classes, with old and with recalibrated BN."""
    for name, make in MODELS.items():
        for seed in seeds:
            keras.utils.set_random_seed(seed)
            x, y = digits(seed)
            model = train(make(), x[:900], y[:900], batch_size=32, epochs=6)
            best = accuracy(model, x[900:1400], y[900:1400])
            for shift, change in SHIFTS.items():
                changed = change(x[900:1400], np.random.default_rng(seed)).astype("float32")
                facts = facts_of(model, changed[:256], parts=frozenset({DataPart.NORMS}))
                frozen = accuracy(model, changed, y[900:1400])
                undo = bng.recalibrate(model, changed[:256])
                gain = accuracy(model, changed, y[900:1400]) - frozen
                undo.undo()
                if gain < CLEAN and frozen < best - CLEAN:
                    gain = (CLEAN + FAULTY) / 2  # Lost either way: other data, no other cure.
                mean = max(n.mean_shift for n in facts.norms)
                variance = max(n.log_variance_ratio for n in facts.norms)
                either = max(
                    mean / thresholds.MAX_MEAN_SHIFT,
                    variance / thresholds.MAX_LOG_VARIANCE_RATIO,
                )
                case = f"{name}, {shift}, seed {seed}: {gain:+.2f} ({mean:.2f}, {variance:.2f})"
                note(rows, "504 mean shift", gain, mean, case)
                note(rows, "504 log variance", gain, variance, case)
                note(rows, "504 either, over its limit", gain, either, case)
                scale = abs(np.log10(facts.norms[0].variance_ratio))
                note(rows, "501 log10 of the variance ratio", min(gain, 0.0), scale, case)


def accuracy(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    return float(model.evaluate(x, y, verbose=0, batch_size=256)[1])


# ------------------------------------------------------------ 501: other scale
def other_scale(rows: Rows, seeds: Sequence[int]) -> None:
    for name, make in MODELS.items():
        for seed in seeds:
            keras.utils.set_random_seed(seed)
            x, y = digits(seed)
            model = train(make(), 255 * x, y, batch_size=32, epochs=4)
            for cause, wrong in {"0..1": x, "-1..1": 2 * x - 1}.items():
                facts = facts_of(model, wrong[:256], parts=frozenset({DataPart.NORMS}))
                value = abs(np.log10(facts.norms[0].variance_ratio))
                rows.setdefault("501 log10 of the variance ratio", []).append(
                    ("faulty", value, f"{name}, trained on 0..255, given {cause}")
                )


# ------------------------------------------------- 301, 407, 506: short runs
def short_runs(rows: Rows, seeds: Sequence[int]) -> None:
    """How far statistics are behind, and what held-out accuracy gains by recalibration."""
    for name, make in MODELS.items():
        for seed in seeds:
            for momentum in (0.9, 0.99):
                for epochs in (1, 4, 12):
                    size, dropout = ((16, 0.0), (64, 0.3))[(epochs + seed) % 2]
                    keras.utils.set_random_seed(seed)
                    x, y = digits(seed)
                    few = slice(0, 480)
                    guard = bng.BNGuard(on_finding=lambda finding: None)
                    model = make(momentum, dropout)
                    train(model, x[few], y[few], guard, batch_size=size, epochs=epochs)
                    what = f"{name}, momentum {momentum}, {epochs} x {-(-480 // size)} steps"
                    ema_biases(rows, guard, model, x, y, few, what)


def ema_biases(rows: Rows, guard: Any, model: Any, x: Any, y: Any, few: slice, what: str) -> None:
    found = guard._run._evaluator.progress.ema_biases
    held_out = slice(480, None)
    facts = facts_of(model, (x[few], y[few]), batch_size=64)
    before = accuracy(model, x[held_out], y[held_out])
    undo = bng.recalibrate(model, x[few])
    gain = accuracy(model, x[held_out], y[held_out]) - before
    undo.undo()
    case = f"{what}: {gain:+.2f}"
    started = [
        ema_bias for ema_bias in found if ema_bias.initial_weight > thresholds.MAX_START_LEFT
    ]
    if started:
        worst = max(
            max(
                ema_bias.start_shift / bng301.MAX_SHIFT,
                ema_bias.start_log_variance / bng301.MAX_LOG_VARIANCE,
            )
            for ema_bias in started
        )
        note(rows, "301 start values, over the limit", gain, worst, case)
        note(rows, "301 shift", gain, max(ema_bias.start_shift for ema_bias in started), case)
        note(
            rows,
            "301 log variance",
            gain,
            max(ema_bias.start_log_variance for ema_bias in started),
            case,
        )
    else:
        worst = max(
            max(ema_bias.shift / bng407.MAX_SHIFT, ema_bias.log_variance / bng407.MAX_LOG_VARIANCE)
            for ema_bias in found
        )
        note(rows, "407 to go, over the limit", gain, worst, case)
    gap = facts.gap
    more = gap.inference - gap.training
    ratio = gap.inference / max(gap.training, 1e-9) if more > bng506.MIN_GAP else 1.0
    note(rows, "506 loss ratio (gap above 0.1)", gain, ratio, case)
    note(rows, "506 loss difference", gain, more, case)


# ---------------------------------------------------------------- 505: order
def order_of_rows(rows: Rows, seeds: Sequence[int]) -> None:
    for name, make in MODELS.items():
        for seed in seeds:
            keras.utils.set_random_seed(seed)
            x, y = digits(seed)
            model = train(make(), x[:800], y[:800], batch_size=32, epochs=2)
            rare = np.where((y == 3) & (np.arange(len(y)) % 10 > 0), 0, y)
            for size in (4, 8, 32):
                for kind, labels in {"shuffled": y, "rare classes": rare}.items():
                    order(rows, model, x, labels, size, "clean", f"{name}, {kind}, batch {size}")
                by_class = np.argsort(y, kind="stable")
                order(rows, model, x[by_class], y[by_class], size, "faulty", f"{name}, sorted")
                pairs = np.argsort(np.where(y < 5, 0, 1), kind="stable")
                half = f"{name}, sorted in halves, batch {size}"
                order(rows, model, x[pairs], y[pairs], size, "between", half)


def order(rows: Rows, model: Any, x: Any, y: Any, size: int, kind: str, case: str) -> None:
    facts = facts_of(model, (x, y), batch_size=size, in_order=True)
    expected = 1 - 1 / size
    rows.setdefault("505 labels inside / expected", []).append(
        (kind, facts.labels.within_batch_variance_ratio / expected, case)
    )
    inside = min(norm.within_batch_variance_ratio for norm in facts.norms) / expected
    rows.setdefault("505 inputs inside / expected", []).append((kind, inside, case))


# -------------------------------------------------------------- 507: one row
def one_row(rows: Rows, seeds: Sequence[int]) -> None:
    class Wired(keras.Model):
        def __init__(self, body: Any, wired: bool) -> None:
            super().__init__()
            self.body, self.wired = body, wired
            self.bn = layers.BatchNormalization()

        def call(self, x: Any, training: Any = None) -> Any:
            x = self.body(x, training=training)
            return self.bn(x, training=True if self.wired else training)

    for name, make in MODELS.items():
        x, y = digits(seeds[0])
        for wired in (False, True):
            model = Wired(make(), wired)
            train(model, x[:320], y[:320], batch_size=32, epochs=1)
            dependence = facts_of(
                model, x[:64], parts=frozenset({DataPart.NORMS, DataPart.BATCH_DEPENDENCE})
            ).batch_dependence
            kind = "faulty" if wired else "clean"
            rows.setdefault("507 difference", []).append((kind, dependence.difference, name))


# --------------------------------------------------------------------- table
LIMITS = {
    "501 log10 of the variance ratio": np.log10(bng501.MAX_SCALE),
    "504 mean shift": thresholds.MAX_MEAN_SHIFT,
    "504 log variance": thresholds.MAX_LOG_VARIANCE_RATIO,
    "504 either, over its limit": 1.0,
    "301 shift": bng301.MAX_SHIFT,
    "301 log variance": bng301.MAX_LOG_VARIANCE,
    "301 start values, over the limit": 1.0,
    "407 to go, over the limit": 1.0,
    "505 labels inside / expected": thresholds.MAX_LABELS_WITHIN,
    "505 inputs inside / expected": thresholds.MAX_WITHIN,
    "506 loss ratio (gap above 0.1)": bng506.MAX_RATIO,
    "506 loss difference": bng506.MIN_GAP,
    "507 difference": bng507.MAX_DIFFERENCE,
}
BELOW = {"505 labels inside / expected", "505 inputs inside / expected"}


def note(rows: Rows, name: str, gain: float, value: float, case: str) -> None:
    kind = "clean" if gain < CLEAN else "faulty" if gain > FAULTY else "between"
    rows.setdefault(name, []).append((kind, float(value), case))


def table(rows: Rows, verbose: bool) -> str:
    lines = [
        "| measure | clean | faulty | limit | clean beyond | faulty not seen |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted(rows):
        by = {k: [r for r in rows[name] if r[0] == k] for k in ("clean", "faulty", "between")}
        limit = LIMITS[name]
        sign = -1 if name in BELOW else 1
        wrong = [r for r in by["clean"] if sign * r[1] > sign * limit]
        missed = [r for r in by["faulty"] if not sign * r[1] > sign * limit]
        worst = max(by["clean"], key=lambda r: sign * r[1], default=("", np.nan, ""))
        least = min(by["faulty"], key=lambda r: sign * r[1], default=("", np.nan, ""))
        lines.append(
            f"| {name} | {'from' if sign < 0 else 'to'} {worst[1]:.3g} ({len(by['clean'])}) | "
            f"{'to' if sign < 0 else 'from'} {least[1]:.3g} ({len(by['faulty'])}) | {limit:.3g} | "
            f"{len(wrong)} | {len(missed)} |"
        )
        if verbose:
            for kind in ("clean", "faulty"):
                rising = sorted(by[kind], key=lambda r: sign * r[1])
                shown = rising[-6:] if kind == "clean" else rising[:10]
                lines += [f"    {kind:7s}{r[1]:9.3g}  {r[2]}" for r in shown]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="of the seeds")
    parser.add_argument("--only", default="", help="a part: other_data, short_runs, ...")
    parser.add_argument("--models", nargs="*", default=list(MODELS), help="of these only")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--out", type=Path, help="a file to add what was measured to")
    parser.add_argument("--table", type=Path, help="such a file: nothing is measured")
    options = parser.parse_args()
    rows: Rows = {}
    if options.table:
        for line in options.table.read_text().splitlines():
            name, kind, value, case = json.loads(line)
            rows.setdefault(name, []).append((kind, value, case))
        print(table(rows, options.verbose))
        return
    for name in set(MODELS) - set(options.models):
        del MODELS[name]
    seeds = range(options.first, options.first + options.seeds)
    for part in (other_data, other_scale, short_runs, order_of_rows, one_row):
        if options.only and part.__name__ not in options.only:
            continue
        begun = time.monotonic()
        found: Rows = {}
        part(found, seeds)
        for name, measured in found.items():
            rows.setdefault(name, []).extend(measured)
            if options.out:
                lines = [json.dumps([name, kind, float(v), case]) for kind, v, case in measured]
                with options.out.open("a") as file:
                    file.write("\n".join(lines) + "\n")
        print(f"{part.__name__}: {time.monotonic() - begun:.0f} s", flush=True)
    print(f"keras {keras.__version__} on {keras.backend.backend()}, seeds {list(seeds)}\n")
    print(table(rows, options.verbose))


if __name__ == "__main__":
    main()
