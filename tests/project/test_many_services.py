"""What an `apply` does grows with the services and their views alone, and not with their square."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.define import compile_view, published
from featurekit.online.lookup import watch
from featurekit.online.store.memory import MemoryStore
from featurekit.project import marks

KEY = Entity("key", {"key": int})
SOURCE = EventSource("events", path="none.parquet", schema={"key": int, "x": float},
                     timestamp_field="at")  # fmt: skip


def services(n: int) -> list[Any]:
    """Services of two views each, of which they share one."""
    shared = FeatureView("shared", entities=[KEY], source=SOURCE, features={"x": "x"})
    made = []
    for i in range(n):
        own = FeatureView(f"view{i}", entities=[KEY], source=SOURCE, features={f"x{i}": "x"})
        made.append(FeatureService(f"service{i}", features=[shared, own]))
    return made


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the store was asked or written to, a plan was read and a view was compiled."""
    counts = Counter[str]()

    def counted(of: Any, name: str) -> None:
        plain = getattr(of, name)

        def call(*args: Any, **options: Any) -> Any:
            counts[name] += 1
            return plain(*args, **options)

        monkeypatch.setattr(of, name, call)

    for name in ("read", "write", "update"):
        counted(MemoryStore, name)
    counted(published, "_opened")
    counted(compile_view._ViewCompiler, "compile")
    return counts


def applied(n: int) -> None:
    with FeatureStore(definitions=services(n), project="many") as store:
        assert len([c for c in store.apply() if c.kind == "service"]) == n
        found = store.get_online_features(f"service{n - 1}", [{"key": 1}])
        assert list(found.columns) == ["x", f"x{n - 1}"]
        assert store.plan() == []


def test_an_apply_of_many_services_asks_as_often_as_one_of_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: Counter[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    counts = []
    for n in (2, 80):
        published.opened.cache_clear()
        done.clear()
        applied(n)
        counts.append(dict(done))
    few, many = counts
    assert many == few | {"_opened": 80, "compile": 81}


def test_first_lookups_of_many_services_read_as_much_each_as_those_of_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (marks, watch):
        monkeypatch.setattr(module, "EVERY_S", 3600.0)
    keys_read: list[int] = []
    plain = MemoryStore.read

    def read(store: MemoryStore, keys: Any) -> Any:
        keys_read.append(len(keys))
        return plain(store, keys)

    monkeypatch.setattr(MemoryStore, "read", read)

    def each(n: int) -> float:
        with FeatureStore(definitions=services(n), project="many") as store:
            store.apply()
            keys_read.clear()
            for i in range(n):
                store.get_online_features(f"service{i}", [{"key": 1}])
            return sum(keys_read) / n

    assert each(40) <= each(10)
