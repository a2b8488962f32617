"""A push to many views of one source leaves what pushes to each of them alone leave (A2, T7)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from agreeing import source
from paths import plan_of, service_of

from featurekit import Entity, FeatureView
from featurekit.aggregates import Count, Sum
from featurekit.errors import OnlineError
from featurekit.feed import settle
from featurekit.feed.events import prepare
from featurekit.feed.settle import write
from featurekit.online.store.memory import MemoryStore

SCHEMA: Any = {"id": int, "op": str, "user": int | None, "shop": str, "x": float}
corrected = source(
    "corrected", SCHEMA, created_timestamp_column="arrived", event_id="id", op="op",
    dedupe_within="60s",
)  # fmt: skip
copied = source(
    "copied", SCHEMA, created_timestamp_column="arrived", event_id="id", dedupe_within="60s"
)
plain = source("plain", SCHEMA, created_timestamp_column="arrived")
USER, SHOP = Entity("user", {"user": int}), Entity("shop", {"shop": str})
SERVICES = {
    of.name: service_of(
        FeatureView("by_user", entities=[USER], source=of, features={"n": Count(window="1h")}),
        FeatureView("by_shop", entities=[SHOP], source=of, features={"x": Sum("x", window="1h")}),
        FeatureView("by_both", entities=[SHOP, USER], source=of, features={"x": "x", "op": "op"}),
        FeatureView("again", entities=[USER], source=of, features={"x": "x"}, ttl="1h"),
    )
    for of in (corrected, copied, plain)
}


def rows_of(chance: random.Random, n: int, now: int) -> list[dict[str, Any]]:
    """New rows, copies and corrections, some of which change the entity."""
    return [
        {"id": chance.randrange(12), "op": chance.choice(["upsert", "upsert", "delete"]),
         "user": chance.choice([1, 2, 3, None]), "shop": chance.choice("ab"), "x": chance.random(),
         "__ts": now - chance.randrange(9), "__created": now, "arrived": now}
        for _ in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize("name", list(SERVICES))
def test_views_written_together_are_as_views_written_alone(name: str) -> None:
    views = plan_of(SERVICES[name]).service.views
    chance, together, alone, by_row = random.Random(3), *(MemoryStore() for _ in range(3))
    for step in range(25):
        rows = rows_of(chance, chance.choice([1, 3, 8]), 10**15 + step * 10**6)
        done = write(together, prepare("tests", views, rows))
        each = [write(alone, prepare("tests", [view], rows)) for view in views]
        for row in rows:
            write(by_row, prepare("tests", views, [row]))
        assert done.entities == sum(one.entities for one in each)
        assert done.null_keys == sum(one.null_keys for one in each)
    assert together.values == alone.values == by_row.values
    assert len(together.values) >= 14  # 3 users, 2 shops, 6 pairs, 3 users again


@pytest.mark.parametrize("name", list(SERVICES))
def test_a_small_push_changes_all_of_its_views_at_once(name: str) -> None:
    views = plan_of(SERVICES[name]).service.views
    store = MemoryStore()
    asked: list[int] = []
    opened = store.open_update

    def counted(keys: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(len(keys))
        return opened(keys, *args, **kwargs)

    store.open_update = counted  # type: ignore[method-assign]
    write(store, prepare("tests", views, rows_of(random.Random(1), 20, 10**15)))
    assert len(asked) == 1


def test_each_view_remembers_the_ids() -> None:
    views = plan_of(SERVICES["copied"]).service.views
    store, (row,) = MemoryStore(), rows_of(random.Random(1), 1, 10**15)
    prepared = prepare("tests", views, [row])
    write(store, prepared)
    for writer, of_ids in prepared.rows:
        assert writer.ids is not None
        (key,) = of_ids
        assert store.values[key] == writer.ids.written(key, [row])


def test_where_one_view_refuses_a_row_nothing_of_the_push_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last view has forgotten what the row would be compared with."""
    views = plan_of(SERVICES["copied"]).service.views
    store, now = MemoryStore(), 10**15
    last = prepare("tests", views[-1:], []).rows[0][0]
    assert last.ids is not None
    store.write({last.floor_key: last.ids.written_floor(last.floor_key, now + 5)})
    before = dict(store.values)
    with pytest.raises(OnlineError, match="remembers no longer"):
        write(store, prepare("tests", views, rows_of(random.Random(1), 3, now)))
    assert store.values == before


def test_a_large_push_with_ids_changes_no_more_keys_at_once_than_are_said() -> None:
    views = plan_of(SERVICES["copied"]).service.views
    rows = [
        {"id": i, "op": "upsert", "user": i, "shop": f"s{i}", "x": 1.0, "__ts": 10**15,
         "__created": 10**15, "arrived": 10**15}
        for i in range(1_000)
    ]  # fmt: skip
    for parts in settle._parts(prepare("tests", views, rows)):
        settlings = [settle._Settling(MemoryStore(), *part) for part in parts]
        assert sum(len(s.keys) - 1 for s in settlings) <= settle._CHUNK
        assert len({id(s.writer) for s in settlings}) == len(settlings)
