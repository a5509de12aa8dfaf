"""Which policy for BN is right for a model on the user's data: measured, then said."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.advice.trials import (
    FROZEN,
    LIVE,
    POLICIES,
    Held,
    Length,
    Trials,
    cut_folds,
)
from keras_bnguard.data.batch import Batch, check_shapes, join
from keras_bnguard.data.batches import Batches
from keras_bnguard.data.scores import row_accuracies
from keras_bnguard.errors import DataError, SettingError
from keras_bnguard.inference.selection import choose_norms
from keras_bnguard.model.expected_mode import expected_mode
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.records import Advice, ExpectedMode, NormKind, PolicyScore
from keras_bnguard.selectors import Selectors
from keras_bnguard.statistics.uncertainty import bootstrap_standard_error

Metric = Callable[[Any, Any], Any]

# A difference counts from two standard errors on; from one on it is a lead.
CLEAR, LEAD = 2.0, 1.0


def advise(
    model: Any,
    data: Any,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    metric: Optional[Metric] = None,
    layers: Optional[Selectors] = None,
    steps: int = 200,
    folds: int = 3,
    n_repeats: Optional[int] = None,
    max_batches: int = 64,
    seed: int = 0,
) -> Advice:
    """Measure which policy for pretrained BN does best on your data.

    There are three policies. *Frozen*: the loaded statistics, BN in inference mode. *Recalibrated*:
    statistics of your data, then inference mode. *Trainable*: BN in training mode, statistics are
    updated. The rows are cut into folds. For each fold and policy the model is trained for a few
    steps on the other folds, with its own optimizer, loss and step, and scored on the rows of the
    fold in inference mode, as it will be used. For *trainable* the moving statistics are brought
    to where the whole planned training would bring them. Afterwards all of the model is restored,
    bit for bit: weights, optimizer, metrics, seeds, compiled step.

    The cost is `3 * folds * n_repeats` trainings of at most `steps` steps, and a pass over the
    data for each recalibration.

    Args:
        model: a built Keras model, compiled as it is going to be trained.
        data: arrays, (x, y), a dataset, a loader, a list of batches, or a function that returns an
            iterator of batches; docs/data-rules.md lists every kind. Rows of your task, with
            labels; they are used for training and scoring, not for statistics.
        epochs: how long you are going to train, in passes over `data`. Defaults to 10.
        batch_size: rows per batch where data is arrays; use the one of training. Defaults to 32.
        metric: function of (y, outputs) as NumPy that returns one number a row, larger is better.
            Defaults to None: accuracy for a classification with one output, else minus the
            compiled loss.
        layers: which BN: a glob on paths, "re:...", a class, a predicate, or a list of these.
            Defaults to None: every BN that carries trained statistics.
        steps: training steps per trial at most. Defaults to 200.
        folds: how many parts the rows are cut into, at least 2. Defaults to 3.
        n_repeats: how often the rows are cut into folds. Defaults to None: 3 times up to 240 rows,
            twice up to 400, once from there on.
        max_batches: how many batches of data at most. Defaults to 64.
        seed: of the folds and trials. Defaults to 0.

    Returns:
        An `Advice`; print it for the table, the recommendation and code to paste.

    Raises:
        DataError: no labels, too few rows, or data that cannot be read or has another shape.
        SettingError: the model is not compiled, no BN carries trained statistics, or a number
            is out of range.
        SelectorError: `layers` matches no BN.
        UnsupportedModelError: `model` is no Keras model.

    Example:
        print(bng.advise(model, (x, y), epochs=20, batch_size=16))
    """
    _check(model, epochs=epochs, batch_size=batch_size, steps=steps, n_repeats=n_repeats or 1)
    if folds < 2:
        raise SettingError(f"folds={folds!r}: expected at least 2 folds.")
    snapshot = take_snapshot(model)
    snapshot.backend.values.sync(model)
    paths = _chosen_paths(snapshot, layers)
    rows, batch = _gather(model, data, batch_size, max_batches)
    if rows.rows < 4 * folds:
        raise DataError(
            f"{rows.rows} rows are too few to compare policies on {folds} folds: pass at least "
            f"{4 * folds}, or choose by the table in docs/statistics.md."
        )
    planned = epochs * -(-rows.rows // batch)  # `fit` trains on the last, short batch too.
    length = Length(min(steps, planned), planned, batch)
    cuts = cut_folds(rows.rows, folds, n_repeats or _repeats(rows.rows), seed)
    found: List[Dict[str, Held]] = []
    with Trials(snapshot, paths, rows, length) as trials:
        for number, (train, test) in enumerate(cuts):
            found.append(trials.run(train, test, seed + number))
    name, scores, losses, untrained = _row_scores(snapshot, rows, found, metric)
    edge = 1.0 / len(scores[FROZEN]) if name == "accuracy" else 0.0
    said = decide(scores, losses, edge)
    return Advice(
        policy=said.policy,
        difference=said.difference,
        unsure=said.unsure,
        reason=said.reason,
        metric=name,
        scores=_table(scores, losses, untrained, said.policy),
        layers=paths,
        rows=len({int(i) for part in found for i in part[FROZEN].rows}),
        trainings=len(POLICIES) * len(cuts),
        steps=length.steps,
        planned_steps=planned,
        code=code_for(snapshot, paths, said.policy),
    )


def _check(model: Any, **numbers: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SettingError(f"{name}={value!r}: expected a whole number of at least 1.")
    if getattr(model, "optimizer", None) is None or getattr(model, "loss", None) is None:
        raise SettingError(
            "advise trains the model for a few steps, so it has to be compiled as it is going to "
            "be trained: call model.compile(optimizer, loss) first."
        )


def _repeats(rows: int) -> int:
    """Few rows make trials that depend much on the cut and on chance: then more of them."""
    return min(3, max(1, round(600 / rows)))


def _chosen_paths(snapshot: ModelSnapshot, layers: Optional[Selectors]) -> Tuple[str, ...]:
    usable = {
        n.path for n in snapshot.inventory.norms if n.built and n.kind is not NormKind.VARIABLES
    }
    if layers is not None:
        return tuple(path for path in choose_norms(snapshot, layers) if path in usable)
    trained = tuple(
        n.path for n in snapshot.inventory.norms if n.path in usable and not n.at_default
    )
    if not trained:
        raise SettingError(
            "no BN of this model carries trained statistics, so there is nothing to decide: BN "
            "that is trained from scratch has to be live. Load the weights first, or name BN by "
            "layers=."
        )
    return trained


def _gather(model: Any, data: Any, batch_size: int, limit: int) -> Tuple[Batch, int]:
    """All rows as one batch, and how many make a training batch."""
    parts = []
    for part in Batches(data, batch_size=batch_size, limit=limit):
        check_shapes(model, part)
        if part.y is None:
            raise DataError("advise needs labels: pass (x, y), or batches of (x, y).")
        parts.append(part)
    return join(parts), parts[0].rows


# ------------------------------------------------------------------------- scoring
Rows = Mapping[str, np.ndarray]


def _row_scores(
    snapshot: ModelSnapshot,
    data: Batch,
    found: Sequence[Mapping[str, Held]],
    metric: Optional[Metric],
) -> Tuple[str, Rows, Rows, Rows]:
    """(name of the score, scores, losses, scores before training), each policy -> one number
    a row that was held out, the mean over repeats."""
    backend, model = snapshot.backend, snapshot.model
    places = np.concatenate([part[FROZEN].rows for part in found])
    name = "score" if metric is not None else "accuracy"

    def score(rows: np.ndarray, outputs: Any) -> np.ndarray:
        nonlocal name
        y = data.take(rows).y
        if metric is not None:
            values = np.asarray(metric(y, outputs), float)
            if values.shape != (len(rows),):
                raise SettingError(
                    f"metric gave shape {values.shape} for {len(rows)} rows: expected one number "
                    "a row, so that policies can be compared row by row."
                )
            return values
        right = row_accuracies(model, y, outputs)
        if right is None:
            name = "-loss"
            return -backend.step.row_losses(model, y, outputs)
        return right

    def gather(value: Callable[[Held], np.ndarray]) -> Rows:
        return {
            policy: _mean_by_row(places, np.concatenate([value(part[policy]) for part in found]))
            for policy in POLICIES
        }

    scores = gather(lambda held: score(held.rows, held.outputs))
    losses = gather(lambda h: backend.step.row_losses(model, data.take(h.rows).y, h.outputs))
    untrained = gather(lambda held: score(held.rows, held.untrained))
    return name, scores, losses, untrained


def _mean_by_row(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    _, where = np.unique(places, return_inverse=True)
    return np.bincount(where, values) / np.bincount(where)


class Decision(NamedTuple):
    """policy: to take. difference: beyond noise. unsure: it leads, not beyond noise."""

    policy: str
    difference: bool
    unsure: bool
    reason: str


def decide(scores: Rows, losses: Rows, edge: float = 0.0) -> Decision:
    """Which policy to take, from one score and one loss per held-out row and policy.

    The best score is taken; of equal ones the lower loss, then the one that changes least.
    Policies differ where one is behind it by more than two standard errors of the difference
    on the same rows, in score or in loss. Where it is more than one, it is said to lead.

    Args:
        scores, losses: policy -> shape `(rows,)`, the rows in the same order.
        edge: mean scores no more than this apart are equal; for accuracy that of one row.
    """
    pick = _best(scores, losses, edge)
    parts = _behind(scores, losses, pick, CLEAR)
    if parts:
        return Decision(pick, True, False, "; ".join(parts))
    lead = _behind(scores, losses, pick, LEAD)
    if lead:
        reason = (
            f"not sure: {'; '.join(lead)}, which may be noise; it is the better guess, and more "
            "rows would tell"
        )
        return Decision(pick, False, True, reason)
    reason = (
        "no difference beyond noise between the policies on these rows; choose what changes "
        "least, or pass more rows"
    )
    return Decision(pick, False, False, reason)


def _behind(scores: Rows, losses: Rows, pick: str, size: float) -> List[str]:
    """In words: by how much a policy beats each other one that is `size` errors behind."""
    parts, rest = [], []
    for policy in POLICIES:
        ahead, lower = _gap(scores, pick, policy), _gap(losses, policy, pick)
        if _beyond(ahead, size):
            parts.append(f"{ahead[0]:.3f} +- {ahead[1]:.3f} better than {policy}")
        elif _beyond(lower, size):
            parts.append(f"loss {lower[0]:.3f} +- {lower[1]:.3f} lower than {policy}")
        elif policy != pick:
            rest.append(policy)
    if parts and rest:
        parts.append(f"not to be told from {' and '.join(rest)}")
    return parts


def _best(scores: Rows, losses: Rows, edge: float) -> str:
    """The policy with the best score, then the lowest loss, then the least change."""
    means = {policy: float(np.mean(scores[policy])) for policy in POLICIES}
    equal = [p for p in POLICIES if means[p] >= max(means.values()) - edge - 1e-9]
    return min(equal, key=lambda policy: round(float(np.mean(losses[policy])), 9))


def _beyond(gap: Tuple[float, float], errors: float) -> bool:
    return gap[0] > errors * gap[1]


def _gap(values: Rows, one: str, other: str) -> Tuple[float, float]:
    """Mean of one policy minus the other's over the same rows, and its standard error."""
    difference = values[one] - values[other]
    return float(np.mean(difference)), bootstrap_standard_error(difference)


def _table(scores: Rows, losses: Rows, untrained: Rows, best: str) -> Tuple[PolicyScore, ...]:
    return tuple(
        PolicyScore(
            policy=policy,
            loss=float(np.mean(losses[policy])),
            loss_error=bootstrap_standard_error(losses[policy]),
            score=float(np.mean(scores[policy])),
            score_error=bootstrap_standard_error(scores[policy]),
            behind=_gap(scores, best, policy)[0],
            behind_error=_gap(scores, best, policy)[1],
            untrained_score=float(np.mean(untrained[policy])),
        )
        for policy in POLICIES
    )


# ---------------------------------------------------------------------------- code
def code_for(snapshot: ModelSnapshot, paths: Sequence[str], policy: str) -> str:
    """What to paste."""
    norms = [snapshot.inventory.norm(path) for path in paths]
    chosen = _selector(snapshot, paths)
    if policy == LIVE:
        if any(expected_mode(norm)[0] is ExpectedMode.INFERENCE for norm in norms):
            return _unfreeze(paths)
        return "model.fit(...)  # as it is: these BN are trainable and live"
    lines = [] if policy == FROZEN else [f"bng.recalibrate(model, x, layers={chosen})"]
    return "\n".join([*lines, f"bng.force_inference(model, layers={chosen})", "model.fit(...)"])


def _unfreeze(paths: Sequence[str]) -> str:
    return (
        f"for path in {list(paths)}:\n"
        "    layer = model\n"
        '    for name in path.split("/"):\n'
        "        layer = layer.get_layer(name)\n"
        "    layer.trainable = True  # and every model around it, if that is frozen\n"
        "model.compile(...)"
    )


def _selector(snapshot: ModelSnapshot, paths: Sequence[str]) -> str:
    """The shortest selector that matches these BN and no other."""
    everything = [handle.path for handle in snapshot.handles]
    if len(paths) == len(everything):
        return '"*"'
    tops = {path.rsplit("/", 1)[0] for path in paths if "/" in path}
    patterns = sorted({top.split("/", 1)[0] for top in tops})
    if all("/" in path for path in paths) and len(patterns) == 1:
        inside = [path for path in everything if path.startswith(patterns[0] + "/")]
        if len(inside) == len(paths):
            return f'"{patterns[0]}/*"'
    return repr(list(paths))
