"""An increment brings every row that the log holds and the states lack, whenever it was logged, and
reads no more for it than it has to (T3)."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from feature_repos import MakeRepo
from slow import slow_unless

from featurekit import FeatureStore
from featurekit.core.types import micros
from featurekit.log import compaction
from featurekit.log.segments import put_journal, read_segment, segments
from featurekit.online.store.notes import name_of, read_object
from featurekit.online.store.redis import RedisStore
from featurekit.project.deployment import materialized_until, seen_key

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, LastN, Sum

user, shop = Entity("user", {"key": int}), Entity("shop", {"shop": int})

def source(name, **options):
    schema = {"key": int, "shop": int, "n": int, "id": int}
    schema |= {"op": str} if "op" in options else {}
    return EventSource(name, path=f"data/{name}.parquet", schema=schema, timestamp_field="at",
                       created_timestamp_column="arrived", **options)

plain = source("plain")
named = source("named", event_id="id", dedupe_within="2h")
mended = source("mended", event_id="id", op="op", dedupe_within="2h")
DAY = {"n": Sum("n", window="1d"), "rows": Count(window="1d"), "last": LastN("n", n=3, window="3d")}
views = [
    FeatureView("row", entities=[user], source=plain, features={"n": "n"}),
    FeatureView("kept", entities=[user], source=plain, features={"n": "n"}, history="3d"),
    FeatureView("day", entities=[user], source=plain, features=DAY),
    FeatureView("both", entities=[user, shop], source=plain, features=DAY, history="1d"),
    FeatureView("ids", entities=[user], source=named, features=DAY),
    FeatureView("ops", entities=[shop], source=mended, features=DAY),
    FeatureView("last", entities=[user], source=mended, features={"n": "n"}),
]
service = FeatureService("service", features=views)
"""
SOURCES = ("plain", "named", "mended")
HOUR = dt.timedelta(hours=1)
NOW = dt.datetime.now(dt.UTC)


def row(source: str, number: int, ago: dt.timedelta, *, late: dt.timedelta) -> dict[str, Any]:
    """A row that happened some time before now, and arrived `late` after that."""
    made = {
        "key": number % 3,
        "shop": number % 2,
        "n": number,
        "id": number,
        "at": NOW - ago - late,
    }
    made |= {"op": "delete" if number % 5 == 4 else "upsert"} if source == "mended" else {}
    return made | {"arrived": NOW - ago}


def only_logged(store: FeatureStore, source: str, rows: list[dict[str, Any]]) -> None:
    """What a push leaves that dies between the log and the states."""
    definition = store.parts.source(source)
    kept = [{**r, "__ts": micros(r["at"]), "__created": micros(r["arrived"])} for r in rows]
    store.parts.log.keep(definition, kept)


@pytest.fixture
def store(make_repo: MakeRepo, redis_url: str, redis_store: RedisStore) -> Iterator[FeatureStore]:
    stamp = pa.timestamp("us", tz="UTC")
    types = {**dict.fromkeys(("key", "shop", "n", "id"), pa.int64()), "at": stamp, "arrived": stamp}
    files = {}
    for source in SOURCES:
        named = types | ({"op": pa.string()} if source == "mended" else {})
        rows = [row(source, n, (70 - n) * HOUR, late=n % 4 * HOUR) for n in range(60)]
        files[source] = pa.Table.from_pylist(rows, schema=pa.schema(list(named.items())))
    with FeatureStore(make_repo(MODULE, files), redis_url=redis_url) as opened:
        opened.apply()
        for source in SOURCES:
            opened.push(source, [row(source, 60 + n, (9 - n) * HOUR, late=HOUR) for n in range(3)])
        opened.materialize()
        yield opened


def states(store: FeatureStore) -> dict[bytes, bytes | None]:
    """The states, their blocks, and what is remembered of ids."""
    prefixes = [f"fk:tests:{kind}:".encode() for kind in ("state", "block", "ids")]
    keys = [key for prefix in prefixes for key in store.online.keys(prefix)]
    return dict(zip(keys, store.online.read(keys), strict=True))


def read(store: FeatureStore) -> dict[str, int]:
    """Run an increment; the number of events that it read for each view."""
    return {view.view: view.events for view in store.materialize_incremental().views}


@pytest.mark.parametrize(
    ("source", "seed"),
    slow_unless(
        lambda source, seed: list(SOURCES).index(source) == seed,
        itertools.product(SOURCES, range(3)),
    ),
)
def test_rows_of_any_arrival_that_only_the_log_has_are_brought_as_a_whole_run_brings_them(
    store: FeatureStore, source: str, seed: int
) -> None:
    chance = random.Random(seed)
    ages = [chance.choice((0.0, 0.001, 1, 1.5, 8, 30, 200)) * HOUR for _ in range(5)]
    rows = [
        row(source, chance.randrange(80), age, late=chance.choice((0, 1, 40)) * HOUR)
        for age in ages
    ]
    before = states(store)
    only_logged(store, source, rows)
    assert states(store) == before
    read(store)
    brought = states(store)
    read(store)
    assert states(store) == brought
    store.materialize()
    assert states(store) == brought


def test_no_more_is_read_than_reaches_twice_as_far_back(store: FeatureStore) -> None:
    assert set(read(store).values()) == {0}
    only_logged(store, "plain", [row("plain", 99, 2 * HOUR, late=0 * HOUR)])
    found = read(store)
    # Before the end of the last run, the row's two hours lie between 8,192 and 4,096 seconds.
    arrived = (micros(NOW) - n * 3_600_000_000 for n in (9, 8, 7))
    assert all(at < micros(NOW) - 8_192_000_000 for at in arrived)
    assert {view: found[view] for view in ("row", "day", "ids")} == {"row": 1, "day": 1, "ids": 0}
    assert set(read(store).values()) == {0}


def test_joining_the_files_of_the_log_is_no_change(store: FeatureStore) -> None:
    for n in range(4):
        store.push("plain", row("plain", n, HOUR, late=HOUR))
        store.parts.log.close()  # the next one begins another file
    read(store)
    compaction.compact(store.state_dir, "plain", fan=4, grace_s=0.0)
    assert any("-L" in path.name for path in segments(store.state_dir, "plain"))
    assert set(read(store).values()) == {0}


def test_a_row_that_came_where_another_was_removed_is_seen(store: FeatureStore) -> None:
    (path,) = segments(store.state_dir, "plain")
    table = read_segment(path)
    others = table["n"].to_pylist()
    put_journal(path, table.set_column(table.column_names.index("n"), "n", [[9, *others[1:]]]))
    assert read(store)["row"] >= 1
    brought = states(store)
    store.materialize()
    assert states(store) == brought


def test_after_a_run_of_an_earlier_release_the_log_is_read_again_once(store: FeatureStore) -> None:
    views = store.live()["service"].views
    store.online.delete([seen_key("tests", view) for view in views])
    logged = [row for path in segments(store.state_dir, "plain") for row in read_segment(path)[0]]
    assert len(logged) == 3
    assert read(store)["row"] >= 3
    assert set(read(store).values()) == {0}


def test_after_what_a_run_saw_was_damaged_the_log_is_read_again_once(store: FeatureStore) -> None:
    for view in store.live()["service"].views:
        key = seen_key("tests", view)
        note = store.online.read([key])[0] or b""
        store.online.write({key: note.replace(b"1", b"2", 1)})
    assert read(store)["row"] >= 3
    assert set(read(store).values()) == {0}


def test_a_run_up_to_an_earlier_instant_keeps_what_a_later_one_saw(store: FeatureStore) -> None:
    view = next(v for v in store.live()["service"].views if v.name == "row")
    key = seen_key("tests", view)
    before = store.online.read([key])[0], materialized_until(store.online, "tests", view)
    assert before[0] is not None
    assert read_object(name_of(key), before[0], dict)["until"] == before[1]
    store.materialize(NOW - HOUR)
    assert (store.online.read([key])[0], materialized_until(store.online, "tests", view)) == before
    assert set(read(store).values()) == {0}


def test_what_gc_removes_of_a_version_is_also_what_its_runs_saw(store: FeatureStore) -> None:
    path = store.path / "definitions.py"
    text = path.read_text()
    for days in (4, 5):
        path.write_text(text.replace('"3d")', f'"{days}d")'))
        with FeatureStore(store.path, redis_url=store.online.url) as changed:  # type: ignore[attr-defined]
            changed.apply()
            changed.materialize()
            kept = {view.fingerprint for view in changed.parts.fed()}
            changed.gc()
    found = {key.decode().split(":")[4] for key in store.online.keys(b"fk:tests:seen:")}
    assert found == kept
