"""What drift of BN statistics goes with what loss of accuracy, and what drift does no harm.

    BNGUARD_STACK=k3-jax python benchmarks/drift_experiment.py [--out drift.jsonl]
        [--net plain-3 ...] [--kind replaced | fine-tuned]
    python benchmarks/drift_experiment.py --table drift*.jsonl

Five nets with BN (plain ones of 2, 3 and 5 convolutions, a wide one, a residual one) are trained
on half of the digits. Then, with weights as they are:

- "replaced": the statistics are changed a part of the way (as by a moving average) to those of
  shifted images: brightness, contrast, inversion, noise, blur, each at three strengths. Accuracy
  is measured on images like those of the training: what is lost is lost by statistics alone.
- "fine-tuned": the net continues to train with BN in training mode on the other digits, which no
  shift touches, at usual and at high learning rates, with its head or, for a new task, with a new
  one. This drift is right, and must not be reported.

Drift of a run is the largest of any layer, each layer the mean over its channels, as BNG406
takes it. Results are appended to --out. Every stack has to be run: how data is shuffled, and so
how much statistics change, differs between them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

MEASURES = ("mean_shift", "log_variance_ratio", "distance")
PARTS = (0.1, 0.25, 0.5, 1.0)
STRENGTHS = (0.15, 0.4, 1.0)
LEARNING_RATES = (1e-4, 1e-3, 3e-3)


def shifts() -> Dict[str, Callable[[np.ndarray, float], np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        "brightness": lambda x, s: x + s,
        "contrast": lambda x, s: x * (1.0 + 2.0 * s),
        "dim": lambda x, s: x * (1.0 - 0.8 * s),
        "inversion": lambda x, s: x + s * (1.0 - 2.0 * x),
        "noise": lambda x, s: x + s * rng.normal(size=x.shape).astype("float32"),
        "blur": lambda x, s: (1.0 - s) * x + s * (np.roll(x, 1, 1) + x + np.roll(x, 1, 2)) / 3,
    }


def nets(keras: Any) -> Dict[str, Callable[[], Any]]:
    layers = keras.layers

    def block(x: Any, width: int, number: int, stride: int = 1) -> Any:
        x = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9, name=f"bn{number}")(x)

    def head(inputs: Any, x: Any) -> Any:
        x = layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))

    def plain(depth: int, width: int) -> Any:
        inputs = x = keras.Input((8, 8, 1))
        for i in range(depth):
            x = layers.ReLU()(block(x, width, i, 2 if i == 1 else 1))
        return head(inputs, x)

    def residual() -> Any:
        inputs = keras.Input((8, 8, 1))
        x = layers.ReLU()(block(inputs, 12, 0))
        for i in range(1, 5, 2):
            y = layers.ReLU()(block(x, 12, i))
            x = layers.ReLU()(layers.Add()([x, block(y, 12, i + 1)]))
        return head(inputs, x)

    return {
        "plain-2": lambda: plain(2, 12),
        "plain-3": lambda: plain(3, 12),
        "plain-5": lambda: plain(5, 12),
        "wide-3": lambda: plain(3, 32),
        "residual-5": residual,
    }


class Experiment:
    """One stack: trains the nets and gives one record per run."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        from tests.stack import STACK, keras

        if keras.backend.backend() == "jax":
            import jax

            jax.config.update("jax_disable_most_optimizations", True)
        self.keras, self.stack = keras, STACK
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))
        self.x = (images.reshape(-1, 8, 8, 1) / 16.0).astype("float32")[order]
        self.y = labels[order].astype("int32")
        self.source, self.target, self.test = slice(0, 640), slice(640, 1280), slice(1280, 1792)

    def records(self, wanted: Any, n_classes: Any) -> Iterator[Dict[str, Any]]:
        for name, make in nets(self.keras).items():
            if wanted and name not in wanted:
                continue
            self.keras.utils.set_random_seed(1)
            model = make()
            self.compile(model, 5e-3)
            model.fit(self.x[self.source], self.y[self.source], batch_size=64, epochs=25, verbose=0)
            weights = model.get_weights()
            before = self.accuracy(model)
            for kind, runs in (("replaced", self.replaced), ("fine-tuned", self.fine_tuned)):
                if n_classes and kind not in n_classes:
                    continue
                for settings, drift in runs(model, weights):
                    record = {"stack": self.stack, "net": name, "kind": kind, **settings, **drift}
                    yield {**record, "before": before, "lost": before - self.accuracy(model)}
            self.keras.backend.clear_session()

    def compile(self, model: Any, learning_rate: float) -> None:
        optimizer = self.keras.optimizers.Adam(learning_rate)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

    def accuracy(self, model: Any) -> float:
        found = model.predict(self.x[self.test], batch_size=512, verbose=0).argmax(-1)
        return float(np.mean(found == self.y[self.test]))

    def replaced(self, model: Any, weights: List[np.ndarray]) -> Iterator[Tuple[Any, Any]]:
        import keras_bnguard as bng
        from keras_bnguard.guard.tracking.statistics_tracker import StatisticsTracker
        from keras_bnguard.model.snapshot import take_snapshot
        from keras_bnguard.records import Moment, MomentKind

        for shift, change in shifts().items():
            for strength in STRENGTHS:
                model.set_weights(weights)
                changed = bng.recalibrate(
                    model, change(self.x[self.source], strength), batch_size=640
                )
                changed.undo()
                for part in PARTS:
                    model.set_weights(weights)
                    watch = StatisticsTracker(take_snapshot(model))
                    for path, before in changed.before.items():
                        layer, after = model.get_layer(path), changed.after[path]
                        for name in ("mean", "variance"):
                            old, new = getattr(before, name), getattr(after, name)
                            getattr(layer, f"moving_{name}").assign(old + part * (new - old))
                    watch.update()
                    snapshot = watch.drift(Moment(MomentKind.CHECK), None, 0)
                    yield {"shift": shift, "strength": strength, "part": part}, largest(snapshot)

    def fine_tuned(self, model: Any, weights: List[np.ndarray]) -> Iterator[Tuple[Any, Any]]:
        import keras_bnguard as bng

        for learning_rate in LEARNING_RATES:
            self.compile(model, learning_rate)
            for batch, epochs, task in ((8, 2, "same"), (32, 2, "same"), (16, 5, "new")):
                model.set_weights(weights)
                if task == "new":  # a fresh head: other labels for the same images
                    head = model.layers[-1]
                    head.set_weights([np.zeros_like(w) for w in head.get_weights()])
                labels = self.y if task == "same" else 9 - self.y
                self.keras.utils.set_random_seed(2)
                guard = bng.BNGuard(on_finding="log")
                model.fit(self.x[self.target], labels[self.target], batch_size=batch,
                          epochs=epochs, verbose=0, callbacks=[guard])  # fmt: skip
                settings = {"learning_rate": learning_rate, "batch": batch, "task": task}
                settings["reported"] = "BNG406" in guard.report.codes
                yield settings, largest(guard.report.drift[-1])


def largest(snapshot: Any) -> Dict[str, float]:
    return {name: max(getattr(snapshot, name).values()) for name in MEASURES}


# ------------------------------------------------------------------------- tables
BINS = {
    "mean_shift": (0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, np.inf),
    "log_variance_ratio": (0, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.3, np.inf),
    "distance": (0, 0.003, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4, np.inf),
}


def table(paths: List[Path]) -> None:
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    replaced = [r for r in rows if r["kind"] == "replaced"]
    tuned = [r for r in rows if r["kind"] == "fine-tuned"]
    print(f"{len(replaced)} runs with replaced statistics, {len(tuned)} with correct fine-tuning")
    for name, edges in BINS.items():
        print(f"\n| largest {name} | runs | accuracy lost: median | 90 % | lost over 0.05 | "
              "correct fine-tuning in here |\n|---|---|---|---|---|---|")  # fmt: skip
        for low, high in zip(edges, edges[1:]):
            lost = [r["lost"] for r in replaced if low <= r[name] < high]
            fine = sum(low <= r[name] < high for r in tuned)
            if lost:
                median, top = np.median(lost), np.percentile(lost, 90)
                share = np.mean(np.array(lost) > 0.05)
                cells = f"{len(lost)} | {median:.3f} | {top:.3f} | {share:.0%}"
            else:
                cells = "0 | - | - | -"
            print(f"| {low:g} to {high:g} | {cells} | {fine} |")
    print("\n| stack | correct runs | largest mean shift | log variance ratio | distance | "
          "BNG406 |\n|---|---|---|---|---|---|")  # fmt: skip
    for stack in dict.fromkeys(r["stack"] for r in tuned):
        mine = [r for r in tuned if r["stack"] == stack]
        cells = " | ".join(f"{max(r[name] for r in mine):.3f}" for name in MEASURES)
        print(f"| {stack} | {len(mine)} | {cells} | {sum(r['reported'] for r in mine)} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("drift.jsonl"))
    parser.add_argument("--net", nargs="+")
    parser.add_argument("--kind", nargs="+")
    parser.add_argument("--table", type=Path, nargs="+")
    options = parser.parse_args()
    if options.table:
        table(options.table)
        return
    with open(options.out, "a") as file:
        for record in Experiment().records(options.net, options.kind):
            file.write(json.dumps(record) + "\n")
            file.flush()
    table([options.out])


if __name__ == "__main__":
    main()
