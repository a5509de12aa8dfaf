"""Which process this is: frameworks that are connected are asked, then the launcher."""

from __future__ import annotations

import json
import sys
import warnings
from types import SimpleNamespace
from typing import Any, Dict, Optional

import pytest

from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.processes import place as places
from keras_bnguard.backends.processes import voice
from keras_bnguard.backends.processes.exchange import can_exchange, exchange
from keras_bnguard.backends.processes.place import Place, Source, current_place
from keras_bnguard.errors import BNGuardWarning, SettingError
from keras_bnguard.guard.emit import Emitter
from keras_bnguard.guard.report_sink import ReportSink

LAUNCHERS = [name for pair in places._PAIRS for name in pair]


@pytest.fixture(autouse=True)
def _nobody_knows(monkeypatch: Any) -> None:
    for name in [*LAUNCHERS, "TF_CONFIG"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(voice, "_KNOWN", {})


def tf_config(kind: str, index: int, **tasks: int) -> str:
    cluster = {name: [f"host:{i}" for i in range(count)] for name, count in tasks.items()}
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def connected(rank: int, count: int) -> SimpleNamespace:
    return SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        get_rank=lambda: rank,
        get_world_size=lambda: count,
        rank=lambda: rank,
        size=lambda: count,
    )


def test_one_process_is_the_chief_and_alone() -> None:
    assert current_place() == Place(0, 1, Source.NOBODY)
    assert current_place().is_chief
    assert current_place().is_alone


@pytest.mark.parametrize(("rank", "count"), places._PAIRS)
def test_a_launcher_names_rank_and_count(rank: str, count: str, monkeypatch: Any) -> None:
    monkeypatch.setenv(rank, "2")
    assert current_place().is_alone
    monkeypatch.setenv(count, "4")
    assert current_place() == Place(2, 4, Source.LAUNCHER)
    monkeypatch.setenv(count, "many")
    assert current_place().is_alone


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (tf_config("worker", 0, worker=2), (0, 2)),
        (tf_config("worker", 1, worker=3), (1, 3)),
        (tf_config("chief", 0, chief=1, worker=2), (0, 3)),
        (tf_config("worker", 0, chief=1, worker=2), (1, 3)),
        (tf_config("evaluator", 0, chief=1, worker=2, evaluator=1), (3, 3)),
        (tf_config("ps", 1, chief=1, worker=2, ps=2), (4, 3)),
        (tf_config("worker", 0, worker=1), (0, 1)),
        ("not json", (0, 1)),
        ("[1]", (0, 1)),
    ],
)
def test_tf_config_names_the_place_in_the_cluster(
    task: str, expected: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("TF_CONFIG", task)
    assert (current_place().rank, current_place().count) == expected


@pytest.mark.parametrize(
    ("name", "source"), [("torch.distributed", Source.TORCH), ("horovod.keras", Source.HOROVOD)]
)
def test_a_connected_framework_comes_before_the_launcher(
    name: str, source: Source, monkeypatch: Any
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setitem(sys.modules, name, connected(1, 2))
    assert current_place() == Place(1, 2, source)


def test_the_strategy_of_the_model_is_asked() -> None:
    cluster = SimpleNamespace(as_dict=lambda: {"worker": ["a", "b"]})
    resolver = SimpleNamespace(task_type="worker", task_id=1, cluster_spec=lambda: cluster)
    strategy = SimpleNamespace(cluster_resolver=resolver)
    model = SimpleNamespace(distribute_strategy=strategy)
    assert current_place(model) == Place(1, 2, Source.STRATEGY, strategy)


def test_nothing_is_gathered_where_nothing_connects_the_processes() -> None:
    assert exchange("mine", Place()) == ["mine"]
    apart = Place(1, 2, Source.LAUNCHER)
    assert not can_exchange(apart)
    with pytest.raises(SettingError, match="init_process_group"):
        exchange("mine", apart)


def as_rank(rank: Optional[int], monkeypatch: Any) -> None:
    values: Dict[str, str] = {} if rank is None else {"RANK": str(rank), "WORLD_SIZE": "2"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("rank", [None, 0, 1])
def test_the_chief_alone_warns(rank: Optional[int], monkeypatch: Any) -> None:
    as_rank(rank, monkeypatch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_user("text")
    assert [each.category for each in caught] == ([] if rank else [BNGuardWarning])
    assert all(each.filename == __file__ for each in caught)


def test_the_place_is_known_after_the_processes_were_taken_apart(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "torch.distributed", connected(1, 2))
    assert not voice.speaks()
    monkeypatch.delitem(sys.modules, "torch.distributed")
    assert current_place().is_alone
    assert not voice.speaks()


@pytest.mark.parametrize("rank", [0, 1])
def test_the_chief_alone_writes_the_report(rank: int, tmp_path: Any, monkeypatch: Any) -> None:
    as_rank(rank, monkeypatch)
    report = SimpleNamespace(save=lambda path: open(path, "w").close())
    ReportSink(str(tmp_path / "report.json"), None).finish(report)  # type: ignore[arg-type]
    assert (tmp_path / "report.json").exists() is (rank == 0)


def test_a_function_of_the_user_gets_the_findings_of_every_process(monkeypatch: Any) -> None:
    as_rank(1, monkeypatch)
    found: Any = []
    Emitter(found.append)("finding")  # type: ignore[arg-type]
    assert found == ["finding"]
