"""How often `bng.advise` picks the policy for BN that wins when training is done for real.

    BNGUARD_STACK=k3-jax python benchmarks/advise_cases.py [--cases 100] [--first 0]
        [--out cases.jsonl] [--seconds 280] [--shift none] [--batch 2]
    python benchmarks/advise_cases.py --table cases.jsonl

A case is drawn at random: a convolutional net with BN that was trained on part of the digits
(as colour images), a shift of the domain (none, brightness, contrast, inversion, channels, noise),
how many labelled images there are of it, and batch size, momentum, learning rate and epochs of
the fine-tuning. `advise` sees the labelled images alone. The truth: each policy is trained to the
end SEEDS times by plain `fit` and tested on TEST other images. The winner's difference to the worst
is real where it is beyond the 95 % interval over seeds and test images, and at least two
percentage points. A pick is a hit where it is the winner, or cannot be told from it by the same
measure. Results are appended to --out line by line, so that a run can go on in pieces.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

SEEDS, TEST, LEAST = 5, 900, 0.02
T_QUANTILE = 2.776  # 97.5 % of Student's t with SEEDS - 1 degrees of freedom
POLICIES = ("frozen", "recalibrated", "live")
SHIFTS = ("none", "none", "brightness", "contrast", "inversion", "channels", "noise")


def draw(number: int) -> Dict[str, Any]:
    """The settings of one case."""
    rng = np.random.default_rng(1000 + number)
    shift = str(rng.choice(SHIFTS))
    return {
        "case": number,
        "shift": shift,
        "strength": float(rng.uniform(0.2, 1.0)),
        "source": int(rng.integers(3)),
        "depth": int(rng.integers(2, 4)),
        "rows": (rows := int(rng.choice([48, 96, 192]))),
        "batch": int(rng.choice([4, 8, 32] if rows < 192 else [8, 32])),
        "momentum": float(rng.choice([0.9, 0.99])),
        "rate": float(rng.choice([3e-4, 1e-3])),
        "epochs": int(rng.choice([4, 8])),
        "shift_seed": int(rng.integers(1 << 30)),
    }


def digits() -> Tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    grey = (images.reshape(-1, 8, 8, 1) / 16.0).astype("float32")[order]
    return np.repeat(grey, 3, axis=-1), labels[order].astype("int32")


def shifted(images: np.ndarray, case: Dict[str, Any]) -> np.ndarray:
    """The images as the new domain shows them."""
    rng = np.random.default_rng(case["shift_seed"])
    strength = case["strength"]
    noise = rng.normal(0.0, 1.0, images.shape)
    sign = rng.choice([-1.0, 1.0])
    changed = {
        "none": images,
        "brightness": images + sign * 1.5 * strength,
        "contrast": (images - 0.3) * (1.0 - 0.85 * strength if sign < 0 else 1.0 + 3.0 * strength),
        # Half inverted is no image at all: from a third on inverted, or up to a third.
        "inversion": images + (strength if strength > 0.6 else strength / 2) * (1 - 2 * images),
        "channels": images * (1.0 + strength * rng.uniform(-1.0, 1.0, 3)) * 1.0
        + strength * rng.uniform(-1.0, 1.0, 3),
        "noise": images + 0.5 * strength * noise,
    }
    return changed[case["shift"]].astype("float32")


def net(keras: Any, depth: int, momentum: float) -> Any:
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = inputs
    for i in range(depth):
        x = layers.Conv2D(16, 3, strides=1 + (i > 0), padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=momentum, name=f"bn{i}")(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


class Bench:
    """Pretrained nets by (source, depth), and one case after the other."""

    def __init__(self) -> None:
        from tests.stack import keras

        if keras.backend.backend() == "jax":
            import jax

            # Many small programs, each run a few times: quickly compiled is better than well.
            jax.config.update("jax_disable_most_optimizations", True)
        self.keras = keras
        self.images, self.labels = digits()
        self.pretrained: Dict[Tuple[int, int], List[np.ndarray]] = {}

    def model(self, case: Dict[str, Any]) -> Any:
        self.keras.utils.set_random_seed(case["case"])
        model = net(self.keras, case["depth"], case["momentum"])
        model.set_weights(self.weights(case["source"], case["depth"]))
        self.compile(model, case)
        return model

    def compile(self, model: Any, case: Dict[str, Any]) -> None:
        optimizer = self.keras.optimizers.Adam(case["rate"])
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

    def weights(self, source: int, depth: int) -> List[np.ndarray]:
        key = (source, depth)
        if key not in self.pretrained:
            self.keras.utils.set_random_seed(source)
            model = net(self.keras, depth, 0.9)
            model.compile(
                self.keras.optimizers.Adam(5e-3),
                "sparse_categorical_crossentropy",
                metrics=["accuracy"],
            )
            rows = slice(0, 500)
            model.fit(self.images[rows], self.labels[rows], batch_size=50, epochs=40, verbose=0)
            self.pretrained[key] = model.get_weights()
        return self.pretrained[key]

    def run(self, case: Dict[str, Any]) -> Dict[str, Any]:
        import keras_bnguard as bng

        model = self.model(case)
        start = model.get_weights()
        pool = np.random.default_rng(case["case"]).permutation(len(self.labels) - 500) + 500
        x, y = shifted(self.images, case), self.labels
        rows, test = pool[: case["rows"]], pool[case["rows"] : case["rows"] + TEST]
        begun = time.perf_counter()
        advice = bng.advise(
            model, (x[rows], y[rows]), epochs=case["epochs"], batch_size=case["batch"]
        )
        case["advise_seconds"] = round(time.perf_counter() - begun, 2)
        assert all(np.array_equal(a, b) for a, b in zip(start, model.get_weights()))
        case["advised"], case["difference"] = advice.policy, advice.difference
        case["measured"] = {
            s.policy: [s.score, s.score_error, s.loss, s.loss_error, s.behind, s.behind_error]
            for s in advice.scores
        }
        begun = time.perf_counter()
        hits = self.truth(case, model, start, (x[rows], y[rows]), (x[test], y[test]))
        case["truth_seconds"] = round(time.perf_counter() - begun, 2)
        case.update(judge(hits, case["advised"]))
        return case

    def truth(
        self, case: Dict[str, Any], model: Any, start: List[np.ndarray], train: Any, test: Any
    ) -> np.ndarray:
        """Right or wrong, shape (policies, seeds, test images), after training to the end."""
        import keras_bnguard as bng

        right = []
        for policy in POLICIES:
            bng.unguard(model)
            model.set_weights(start)
            if policy == "recalibrated":
                bng.recalibrate(model, train[0])
            if policy != "live":
                bng.guard(model, hold="*")
            self.compile(model, case)
            begin = model.get_weights()
            for seed in range(SEEDS):
                model.set_weights(begin)
                for variable in model.optimizer.variables if seed else ():
                    if "learning_rate" not in variable.path:
                        variable.assign(np.zeros(variable.shape, variable.dtype))
                self.keras.utils.set_random_seed(seed)
                model.fit(*train, batch_size=case["batch"], epochs=case["epochs"], verbose=0)
                right.append(
                    model.predict(test[0], batch_size=300, verbose=0).argmax(-1) == test[1]
                )
        bng.unguard(model)
        return np.array(right, float).reshape(len(POLICIES), SEEDS, -1)


def judge(right: np.ndarray, advised: str) -> Dict[str, Any]:
    """What the truth says, and whether the advice agrees."""
    means = right.mean((1, 2))
    best = int(means.argmax())

    def behind(i: int) -> Tuple[float, float]:
        """Difference to the winner, and what noise of seeds and test images explains of it."""
        difference = right[best] - right[i]
        seeds = T_QUANTILE * difference.mean(1).std(ddof=1) / np.sqrt(SEEDS)
        images = 1.96 * difference.mean(0).std(ddof=1) / np.sqrt(difference.shape[1])
        return float(difference.mean()), float(np.hypot(seeds, images))

    gaps = {policy: behind(i) for i, policy in enumerate(POLICIES)}
    apart = {p: gap > max(noise, LEAST) for p, (gap, noise) in gaps.items()}
    return {
        "truth": {p: float(m) for p, m in zip(POLICIES, means)},
        "winner": POLICIES[best],
        "real": any(apart.values()),
        "hit": not apart[advised],
        "lost": gaps[advised][0],
    }


def table(path: Path) -> None:
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    real = [c for c in cases if c["real"]]
    print(f"{len(cases)} cases, {len(real)} with a real difference")
    for name in ("all", *dict.fromkeys(SHIFTS), 48, 96, 192):
        chosen = [c for c in real if name in ("all", c["shift"], c["rows"])]
        if not chosen:
            continue
        hits = sum(c["hit"] for c in chosen)
        wins = {p: sum(c["winner"] == p for c in chosen) for p in POLICIES}
        lost = float(np.mean([c["lost"] for c in chosen]))
        fixed = {
            p: float(np.mean([max(c["truth"].values()) - c["truth"][p] for c in chosen]))
            for p in POLICIES
        }
        print(
            f"{name!s:12s} hit {hits}/{len(chosen)} = {hits / len(chosen):.1%}; winners {wins}; "
            f"lost by advice {lost:.3f}, by always one policy "
            + ", ".join(f"{p} {v:.3f}" for p, v in fixed.items())
        )
    said = [c for c in cases if not c["difference"]]
    print(f"said no difference: {len(said)}, of which real {sum(c['real'] for c in said)}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("advise_cases.jsonl"))
    parser.add_argument("--seconds", type=float, default=280.0)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--shift", choices=SHIFTS, help="instead of the one drawn")
    parser.add_argument("--batch", type=int, help="instead of the one drawn")
    options = parser.parse_args()
    if options.table:
        table(options.table)
        return
    done = set()
    if options.out.exists():
        done = {json.loads(line)["case"] for line in options.out.read_text().splitlines()}
    begun, bench, longest = time.perf_counter(), Bench(), 0.0
    for number in range(options.first, options.first + options.cases):
        if number in done:
            continue
        if time.perf_counter() - begun + longest > options.seconds:
            break
        start = time.perf_counter()
        case = draw(number)
        for name in ("shift", "batch"):
            if getattr(options, name) is not None:
                case[name] = getattr(options, name)
        result = bench.run(case)
        bench.keras.backend.clear_session()
        longest = max(longest, time.perf_counter() - start)
        with open(options.out, "a") as file:
            file.write(json.dumps(result) + "\n")
        print(number, result["shift"], result["advised"], result["winner"], result["real"],
              result["hit"], flush=True)  # fmt: skip
    table(options.out)


if __name__ == "__main__":
    main()
