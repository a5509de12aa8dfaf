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
percentage points. A pick is right where it is the winner, or does not differ from it by
the same measure. Results are appended to --out line by line, so that a run can be done in parts.
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
EARLY = 2  # seeds after which a case is left where all policies are within half of LEAST
T_QUANTILE = 2.776  # 97.5 % of Student's t with SEEDS - 1 degrees of freedom
STEPS = 12  # of an epoch at most, so that a case takes seconds; 8 epochs only up to six
POLICIES = ("frozen", "recalibrated", "trainable")
SHIFTS = ("none", "brightness", "contrast", "inversion", "channels", "noise")


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
        "batch": (batch := int(rng.choice([b for b in (4, 8, 16, 32) if rows <= STEPS * b]))),
        "momentum": float(rng.choice([0.9, 0.99])),
        "learning_rate": float(rng.choice([3e-4, 1e-3])),
        "epochs": int(rng.choice([4, 8] if rows <= STEPS / 2 * batch else [4])),
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
    """Pretrained nets by (source, depth), and one case after the other.

    The models are kept for later cases: weights, optimizer and learning rate are set each time, and
    what was compiled is used again.
    """

    def __init__(self, every: bool) -> None:
        from tests.stack import keras

        if keras.backend.backend() == "jax":
            import jax

            # Many small programs, each run a few times: quickly compiled is better than well.
            jax.config.update("jax_disable_most_optimizations", True)
        self.keras = keras
        self.every = every
        self.images, self.labels = digits()
        self.pretrained: Dict[Tuple[int, int], List[np.ndarray]] = {}
        self.models: Dict[Tuple[int, float, str], Any] = {}

    def model(self, case: Dict[str, Any], policy: str = "trainable") -> Any:
        """The net of a case with its trained weights, ready for `fit` at its learning rate."""
        import keras_bnguard as bng

        key = (case["depth"], case["momentum"], policy)
        if key not in self.models:
            self.models[key] = model = net(self.keras, case["depth"], case["momentum"])
            if policy != "trainable":
                bng.force_inference(model, layers="*")
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            model.optimizer.build(model.trainable_variables)
        model = self.models[key]
        self.rewind(model, case, self.weights(case["source"], case["depth"]))
        return model

    def rewind(self, model: Any, case: Dict[str, Any], weights: List[np.ndarray]) -> None:
        model.set_weights(weights)
        for variable in model.optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))
        model.optimizer.learning_rate = case["learning_rate"]

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

        pool = np.random.default_rng(case["case"]).permutation(len(self.labels) - 500) + 500
        x, y = shifted(self.images, case), self.labels
        rows, test = pool[: case["rows"]], pool[case["rows"] : case["rows"] + TEST]
        started = time.perf_counter()
        scores = self.truth(case, (x[rows], y[rows]), (x[test], y[test]))
        case["truth_seconds"] = round(time.perf_counter() - started, 2)
        case.update(judge(scores))
        if not case["real"] and not self.every:
            return case
        model = self.model(case)
        start = model.get_weights()
        started = time.perf_counter()
        self.keras.utils.set_random_seed(case["case"])
        advice = bng.advise(
            model, (x[rows], y[rows]), epochs=case["epochs"], batch_size=case["batch"]
        )
        case["advise_seconds"] = round(time.perf_counter() - started, 2)
        assert all(np.array_equal(a, b) for a, b in zip(start, model.get_weights()))
        case["advised"] = advised = advice.policy.value
        case["difference"], case["unsure"] = advice.difference, advice.unsure
        case["measured"] = {
            s.policy.value: [s.score, s.score_error, s.loss, s.loss_error, s.behind, s.behind_error]
            for s in advice.scores
        }
        case["right"] = advised in case["winners"]
        case["lost"] = case["behind"][advised]
        return case

    def truth(self, case: Dict[str, Any], train: Any, test: Any) -> np.ndarray:
        """Right or wrong, shape (policies, seeds, test images), after training to the end."""
        import keras_bnguard as bng

        models, starts = [], []
        for policy in POLICIES:
            starts.append(self.weights(case["source"], case["depth"]))
            if policy == "recalibrated":
                plain = self.model(case)
                bng.recalibrate(plain, train[0])
                starts[-1] = plain.get_weights()
            models.append(self.model(case, policy))
        right: List[List[np.ndarray]] = [[] for _ in POLICIES]
        for seed in range(SEEDS):
            for model, start, done in zip(models, starts, right):
                self.rewind(model, case, start)
                self.keras.utils.set_random_seed(seed)
                model.fit(*train, batch_size=case["batch"], epochs=case["epochs"], verbose=0)
                outputs = model.predict(test[0], batch_size=TEST, verbose=0)
                done.append(outputs.argmax(-1) == test[1])
            means = np.array(right, float).mean((1, 2))
            if seed + 1 == EARLY and np.ptp(means) < LEAST / 2:
                break  # No real difference is to be expected here.
        return np.array(right, float)


def judge(right: np.ndarray) -> Dict[str, Any]:
    """Which policy won, which ones do not differ from it, and which are behind."""
    means, seeds = right.mean((1, 2)), right.shape[1]
    best = int(means.argmax())

    def behind(i: int) -> Tuple[float, float]:
        """Difference to the winner, and what noise of seeds and test images explains of it."""
        difference = right[best] - right[i]
        training = T_QUANTILE * difference.mean(1).std(ddof=1) / np.sqrt(seeds)
        images = 1.96 * difference.mean(0).std(ddof=1) / np.sqrt(difference.shape[1])
        return float(difference.mean()), float(np.hypot(training, images))

    gaps = {policy: behind(i) for i, policy in enumerate(POLICIES)}
    winners = [p for p, (gap, noise) in gaps.items() if gap <= max(noise, LEAST)]
    return {
        "truth": {p: float(m) for p, m in zip(POLICIES, means)},
        "seeds": seeds,
        "winner": POLICIES[best],
        "winners": winners,
        "behind": {p: gap for p, (gap, _) in gaps.items()},
        "real": seeds == SEEDS and len(winners) < len(POLICIES),
    }


def wilson(right: int, of: int) -> str:
    """Right picks of cases, the share, and its 95 % interval (Wilson 1927)."""
    z, share = 1.96, right / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * np.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return f"{right} of {of} = {share:.1%} ({middle - half:.1%} to {middle + half:.1%})"


def table(path: Path) -> None:
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    real = [c for c in cases if c["real"]]
    print(f"{len(cases)} cases, {len(real)} with a real difference")
    groups: List[Tuple[str, Any]] = [("all", lambda c: True)]
    groups += [(s, lambda c, s=s: c["shift"] == s) for s in dict.fromkeys(SHIFTS)]
    groups += [(f"{n} rows", lambda c, n=n: c["rows"] == n) for n in (48, 96, 192)]
    groups.append(("5 points", lambda c: max(c["behind"].values()) >= 0.05))
    for name, wanted in groups:
        chosen = [c for c in real if wanted(c)]
        if not chosen:
            continue
        right = sum(c["right"] for c in chosen)
        led = sum(c["right"] and (c["difference"] or c["unsure"]) for c in chosen)
        sure = sum(c["right"] and c["difference"] for c in chosen)
        wins = {p: sum(c["winner"] == p for c in chosen) for p in POLICIES}
        lost = float(np.mean([c["lost"] for c in chosen]))
        fixed = {p: float(np.mean([c["behind"][p] for c in chosen])) for p in POLICIES}
        print(
            f"{name:12s} policy right {wilson(right, len(chosen))}; and not 'no difference' "
            f"{wilson(led, len(chosen))}; and sure {wilson(sure, len(chosen))}; winners {wins}; "
            f"lost by advice {lost:.3f}, by always "
            + ", ".join(f"{p} {v:.3f}" for p, v in fixed.items())
        )
    for c in real:
        if not (c["right"] and c["difference"]):
            print(
                f"    case {c['case']}: advised {c['advised']}, difference {c['difference']}, "
                f"unsure {c['unsure']}, "
                f"true { ({p: round(v, 3) for p, v in c['truth'].items()}) }"
            )
    none = [c for c in cases if not c["real"] and "difference" in c]
    if none:
        sure = sum(not c["difference"] and not c["unsure"] for c in none)
        print(f"without a real difference: reported in {wilson(sure, len(none))}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("advise_cases.jsonl"))
    parser.add_argument("--seconds", type=float, default=280.0)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--every", action="store_true", help="ask where no difference is real too")
    parser.add_argument("--shift", choices=SHIFTS, help="instead of the one drawn")
    parser.add_argument("--batch", type=int, help="instead of the one drawn")
    options = parser.parse_args()
    if options.table:
        table(options.table)
        return
    done = set()
    if options.out.exists():
        done = {json.loads(line)["case"] for line in options.out.read_text().splitlines()}
    started, bench, longest = time.perf_counter(), Bench(options.every), 0.0
    for number in range(options.first, options.first + options.cases):
        if number in done:
            continue
        if time.perf_counter() - started + longest > options.seconds:
            break
        start = time.perf_counter()
        case = draw(number)
        for name in ("shift", "batch"):
            if getattr(options, name) is not None:
                case[name] = getattr(options, name)
        result = bench.run(case)
        longest = max(longest, time.perf_counter() - start)
        with open(options.out, "a") as file:
            file.write(json.dumps(result) + "\n")
        shown = ("shift", "real", "winners", "advised", "difference", "right")
        print(number, *(result.get(name) for name in shown), flush=True)
    table(options.out)


if __name__ == "__main__":
    main()
