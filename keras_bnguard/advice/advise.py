"""`advise`: measure which policy for BN suits a model on the user's data."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from keras_bnguard.advice.code import code_for
from keras_bnguard.advice.decision import decide, table
from keras_bnguard.advice.scoring import HeldOutScores, RowMetric, RowScores
from keras_bnguard.advice.trials import Length, Trials, cut_folds
from keras_bnguard.arguments import check_count, short_traceback
from keras_bnguard.backends.graph_mode import require_eager
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.data.all_processes import refuse_several_processes
from keras_bnguard.data.batch import Batch, join
from keras_bnguard.data.batches import Batches
from keras_bnguard.data.model_inputs import check_built, check_inputs
from keras_bnguard.data.progress import Verbose, check_verbose, progress
from keras_bnguard.errors import DataError, SettingError
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.records import Advice, NormKind, Policy
from keras_bnguard.selectors import Selectors, check_layers


@short_traceback
def advise(
    model: Any,
    data: Any,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    metric: Optional[RowMetric] = None,
    layers: Optional[Selectors] = None,
    steps: int = 200,
    folds: int = 3,
    n_repeats: Optional[int] = None,
    max_batches: int = 64,
    seed: int = 0,
    verbose: Verbose = "auto",
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
        verbose: as in `fit`: 0 is silent, 1 a progress bar, 2 one line at the end. Defaults to
            "auto": a bar on a terminal and in a notebook.

    Returns:
        An `Advice`; print it for the table, the recommendation and code to paste.

    Raises:
        DataError: no labels, too few rows, or data that cannot be read or has another shape.
        SettingError: the model is not compiled, no BN carries trained statistics, or a number
            is out of range.
        SelectorError: `layers` matches no BN.
        UnsupportedModelError: `model` is no Keras model, or TensorFlow runs in graph mode.

    Example:
        print(bng.advise(model, (x, y), epochs=20, batch_size=16))
    """
    shown = check_verbose(verbose)
    numbers = {"epochs": epochs, "batch_size": batch_size, "steps": steps}
    for name, value in {**numbers, "n_repeats": n_repeats or 1}.items():
        check_count(name, value)
    check_count("folds", folds, 2)
    check_count("seed", seed, 0)
    if layers is not None:
        check_layers(layers)
    backend_for(model)
    _check_compiled(model)
    require_eager(model, "advise")
    refuse_several_processes(model, "advise")
    snapshot = take_snapshot(model)
    check_built(model, "advise")
    snapshot.backend.values.sync(model)
    paths = _chosen_paths(snapshot, layers)
    rows, batch = _read_rows(model, data, batch_size, max_batches)
    if rows.rows < 4 * folds:
        raise DataError(
            f"{rows.rows} rows are too few to compare policies on {folds} folds: pass at least "
            f"{4 * folds}, or choose by the table in docs/statistics.md."
        )
    planned = epochs * -(-rows.rows // batch)  # `fit` trains on the last, short batch too.
    length = Length(min(steps, planned), planned, batch)
    cuts = cut_folds(rows.rows, folds, n_repeats or _repeats_for(rows.rows), seed)
    with Trials(snapshot, paths, rows, length) as trials:
        numbered = list(enumerate(cuts))
        work = progress(snapshot.backend.keras, numbered, shown, len(cuts), "fold")
        found = [trials.run(train, test, seed + number) for number, (train, test) in work]
    scored = HeldOutScores(RowScores(snapshot, rows, metric), found)
    decision = decide(scored.scores, scored.losses, scored.tolerance)
    return Advice(
        policy=decision.policy,
        difference=decision.difference,
        unsure=decision.unsure,
        reason=decision.reason,
        metric=scored.metric,
        scores=table(scored.scores, scored.losses, scored.untrained, decision.policy),
        layers=paths,
        rows=scored.rows,
        trainings=len(Policy) * len(cuts),
        steps=length.steps,
        planned_steps=planned,
        code=code_for(snapshot, paths, decision.policy),
    )


def _check_compiled(model: Any) -> None:
    if getattr(model, "optimizer", None) is None or getattr(model, "loss", None) is None:
        raise SettingError(
            "advise trains the model for a few steps, so it has to be compiled as it is going to "
            "be trained: call model.compile(optimizer, loss) first."
        )


def _repeats_for(rows: int) -> int:
    """With few rows a trial depends much on the cut and on chance, so there are more of them."""
    return min(3, max(1, round(600 / rows)))


def _chosen_paths(snapshot: ModelSnapshot, layers: Optional[Selectors]) -> Tuple[str, ...]:
    usable = {
        norm.path: norm
        for norm in snapshot.inventory.norms
        if norm.built and norm.kind is not NormKind.VARIABLES
    }
    if layers is not None:
        return tuple(path for path in snapshot.select_norms(layers) if path in usable)
    trained = tuple(path for path, norm in usable.items() if not norm.at_default)
    if not trained:
        raise SettingError(
            "no BN of this model carries trained statistics, so there is nothing to decide: BN "
            "that is trained from scratch has to be trainable. Load the weights first, or name BN "
            "by layers=."
        )
    return trained


def _read_rows(model: Any, data: Any, batch_size: int, max_batches: int) -> Tuple[Batch, int]:
    """All rows as one batch, and how many make a training batch."""
    parts = []
    for part in Batches(data, batch_size=batch_size, limit=max_batches):
        check_inputs(model, part)
        if part.y is None:
            raise DataError("advise needs labels: pass (x, y), or batches of (x, y).")
        parts.append(part)
    return join(parts), parts[0].rows
