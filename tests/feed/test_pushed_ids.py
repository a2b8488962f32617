"""T7 in a repo: files, pushes, retries, crashes, corrections, `known_at`, errors, parity."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from slow import slow_unless

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.core.types import micros
from featurekit.define.definitions import EventSource
from featurekit.define.plan import View
from featurekit.errors import (
    AsOfTooOld,
    BadRowError,
    DataError,
    DefinitionError,
    OnlineError,
    StoreUnavailable,
    WriteError,
)
from featurekit.feed import events as events_module
from featurekit.feed import settle
from featurekit.feed.events import Pushed
from featurekit.log import segments
from featurekit.log import writer as writer_module
from featurekit.online.store.protocol import Pending, PendingSteps
from featurekit.online.store.redis import RedisStore
from featurekit.parity import paths

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

customer = Entity("customer", {"customer": int})
times = {"timestamp_field": "at", "created_timestamp_column": "arrived"}
orders = EventSource(
    "orders", path="data/orders.parquet", event_id="order_id", **times,
    schema={"order_id": str, "customer": int | None, "amount": float},
)
lines = EventSource(
    "lines", path="data/lines.parquet", event_id="line_id", op="op", dedupe_within="30d", **times,
    schema={"line_id": int, "customer": int | None, "amount": float, "op": str},
)

def windows(name, source):
    features = {f"{name}_sum": Sum("amount", window="7d"), f"{name}_count": Count(window="30d")}
    return FeatureView(name, entities=[customer], source=source, features=features, history="9d")

def latest(name, source):
    return FeatureView(name, entities=[customer], source=source, ttl="30d", history="9d",
                       features={f"{name}_amount": "amount"})

service = FeatureService("service", features=[
    windows("ordered", orders), latest("order", orders),
    windows("lined", lines), latest("line", lines),
])
"""
DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC)


def table(source: str, *rows: tuple[Any, ...]) -> pa.Table:
    """Rows of id, customer, amount, days ago, days ago it arrived, and, of lines, op."""
    stamp = pa.timestamp("us", tz="UTC")
    columns: dict[str, Any] = {
        f"{source[:-1]}_id": pa.array(
            [r[0] for r in rows], pa.string() if source == "orders" else pa.int64()
        ),
        "customer": pa.array([r[1] for r in rows], pa.int64()),
        "amount": pa.array([r[2] for r in rows], pa.float64()),
        "at": pa.array([NOW - r[3] * DAY for r in rows], stamp),
        "arrived": pa.array([NOW - r[4] * DAY for r in rows], stamp),
    }
    if source == "lines":
        columns["op"] = pa.array([r[5] for r in rows], pa.string())
    return pa.table(columns)


ORDERS = table(
    "orders",
    ("a", 1, 10.0, 5, 5),
    ("a", 1, 11.0, 5, 4),  # a copy
    ("a", 2, 12.0, 5, 3),  # a copy of another customer
    ("b", 2, 20.0, 2, 2),
    ("c", None, 30.0, 3, 3),
    ("c", 2, 31.0, 3, 2.5),  # a copy of an order of no customer
    ("d", 3, 40.0, 60, 60),
    ("d", 3, 41.0, 1, 1),  # forgotten: a new order
)
LINES = table(
    "lines",
    (1, 1, 10.0, 6, 6, "upsert"),
    (1, 1, 15.0, 6, 4, "upsert"),
    (2, 1, 20.0, 5, 5, "upsert"),
    (2, 2, 20.0, 5, 3, "upsert"),  # the customer was corrected
    (3, 2, 30.0, 4, 4, "upsert"),
    (3, None, 30.0, 4, 2, "delete"),
    (4, 3, 40.0, 2, 2, "upsert"),
)


@pytest.fixture
def repo(make_repo: Callable[..., Path]) -> Path:
    return make_repo(MODULE, {"orders": ORDERS, "lines": LINES})


@pytest.fixture
def store(repo: Path, redis_url: str, redis_store: RedisStore) -> Iterator[FeatureStore]:
    with FeatureStore(repo, redis_url=redis_url) as opened:
        opened.apply()
        opened.materialize()
        yield opened


def states(redis: RedisStore) -> dict[bytes, bytes | None]:
    keys = list(redis.keys(b"fk:tests:state:"))
    return dict(zip(keys, redis.read(keys), strict=True))


def offline(store: FeatureStore, customer: int, at: dt.datetime, **options: Any) -> dict[str, Any]:
    frame = [{"customer": customer, "event_timestamp": at}]
    made = store.get_historical_features(frame, "service", **options).to_arrow().to_pylist()[0]
    return {k: v for k, v in made.items() if k not in ("customer", "event_timestamp")}


def online(store: FeatureStore, customer: int, at: dt.datetime) -> dict[str, Any]:
    found = store.get_online_features("service", [{"customer": customer}], as_of=at).to_pylist()[0]
    return {k: v for k, v in found.items() if k != "customer"}


def both(store: FeatureStore, customer: int, at: dt.datetime | None = None) -> dict[str, Any]:
    at = at or dt.datetime.now(dt.UTC)
    found = offline(store, customer, at)
    assert online(store, customer, at) == found
    return found


def backfilled(store: FeatureStore, redis: RedisStore) -> dict[bytes, bytes | None]:
    """The states that a materialisation of the files and the log alone would write."""
    before = {k: redis.read([k])[0] for k in redis.keys(b"fk:tests:")}
    for kind in (b"state", b"ids", b"floor"):
        redis.delete(list(redis.keys(b"fk:tests:" + kind)))
    store.materialize()
    made = states(redis)
    redis.delete(list(redis.keys(b"fk:tests:")))
    redis.write({k: v for k, v in before.items() if v is not None and b":pushes" not in k})
    return made


ORDER = {"order_id": "e", "customer": 1, "amount": 7.0, "at": NOW}
LINE = {"line_id": 5, "customer": 1, "amount": 7.0, "at": NOW, "op": "upsert"}


# --- what the files say ---------------------------------------------------------------------------


def test_a_copy_counts_once_whoever_it_is_of(store):
    assert both(store, 1)["ordered_sum"] == 10.0
    assert both(store, 2)["ordered_sum"] == 20.0
    assert both(store, 3)["ordered_sum"] == 41.0


def test_a_correction_moves_an_event_and_a_deletion_takes_it_away(store):
    assert both(store, 1)["lined_sum"] == 15.0
    assert both(store, 2)["lined_sum"] == 20.0
    assert both(store, 2)["line_amount"] == 20.0


@pytest.mark.parametrize(
    ("days", "sums"),
    [(5.5, (10.0, None)), (4.5, (30.0, None)), (3.5, (35.0, 30.0)), (2.5, (15.0, 50.0))],
)
def test_before_a_correction_arrived_the_old_value_is_answered(store, days, sums):
    at = NOW - days * DAY
    assert tuple(both(store, customer, at)["lined_sum"] for customer in (1, 2)) == sums


# --- pushes ---------------------------------------------------------------------------------------


def logged(store: FeatureStore, source: str) -> int:
    """The rows in a source's log."""
    tables = map(segments.read_segment, segments.segments(store.state_dir, source))
    return sum(0 if table is None else table.num_rows for table in tables)


@pytest.mark.parametrize(("source", "row"), [("orders", ORDER), ("lines", LINE)])
def test_rows_that_are_pushed_again_leave_no_trace(store, redis_store, source, row):
    named = f"{source[:-1]}_id"
    rows = [row | {named: row[named] * n, "customer": n} for n in (1, 2, 3)]
    store.push(source, rows)
    once = states(redis_store)
    store.push(source, rows)
    store.push(source, rows[::-1])
    for one in rows:
        store.push(source, one)
    assert states(redis_store) == once
    assert backfilled(store, redis_store) == once
    assert logged(store, source) == 3 * 3 + 3  # the log keeps every arrival


@pytest.mark.parametrize("source", ["orders", "lines"])
def test_rows_that_two_push_at_once_are_pushed_once(store, redis_store, source):
    row = ORDER if source == "orders" else LINE
    name = f"{source[:-1]}_id"
    rows = [row | {name: row[name] * n, "customer": n % 3} for n in range(1, 40)]

    def pushes(seed: int) -> None:
        with FeatureStore(store.path, redis_url=store.parts.redis_url) as own:
            for first in range(seed, len(rows), 7):
                own.push(source, rows[first : first + 7])
            own.push(source, rows[:seed])

    with ThreadPoolExecutor() as pool:
        list(pool.map(pushes, (0, 3)))
    found = states(redis_store)
    assert both(store, 1)["ordered_count" if source == "orders" else "lined_count"] >= 13
    assert backfilled(store, redis_store) == found
    store.push(source, rows)
    assert states(redis_store) == found


@pytest.mark.parametrize("where", ["before the log", "before the states"])
@pytest.mark.parametrize(("source", "row"), [("orders", ORDER), ("lines", LINE)])
def test_a_push_that_died_is_pushed_again(store, redis_store, monkeypatch, source, row, where):
    def die(*_: Any) -> Any:
        raise WriteError("the disk is full")

    def logged_and_dead(*_: Any) -> PendingSteps[Pushed]:
        yield
        assert logged(store, source) == 1
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        if where == "before the log":
            patch.setattr(writer_module.PushLog, "keep", die)
        else:
            patch.setattr(settle, "open_write", lambda *_: Pending(logged_and_dead()))
        with pytest.raises((StoreUnavailable, WriteError)):
            store.push(source, row)
    store.push(source, row)
    found = states(redis_store)
    assert both(store, 1)["order_amount" if source == "orders" else "line_amount"] == 7.0
    assert backfilled(store, redis_store) == found


def test_a_pushed_copy_of_a_row_of_the_files_is_none(store, redis_store):
    once = states(redis_store)
    store.push("orders", ORDER | {"order_id": "b", "customer": 2, "amount": 99.0})
    assert both(store, 2)["ordered_sum"] == 20.0
    assert backfilled(store, redis_store) == states(redis_store) != once


def test_pushed_corrections_move_and_delete(store, redis_store):
    before = dt.datetime.now(dt.UTC)
    store.push("lines", LINE | {"line_id": 1, "customer": 3, "amount": 16.0, "at": NOW - 6 * DAY})
    assert [both(store, n)["lined_sum"] for n in (1, 2, 3)] == [None, 20.0, 56.0]
    store.push("lines", LINE | {"line_id": 2, "customer": None, "op": "delete"})
    store.push("lines", LINE | {"line_id": 4, "customer": 3, "op": "delete"})
    assert [both(store, n)["lined_sum"] for n in (1, 2, 3)] == [None, None, 16.0]
    assert both(store, 2)["line_amount"] is None
    assert [both(store, n, before)["lined_sum"] for n in (1, 2, 3)] == [15.0, 20.0, 40.0]
    assert backfilled(store, redis_store) == states(redis_store)


def test_an_older_version_that_is_pushed_alone_takes_effect_once_more(store):
    store.push("lines", LINE)
    store.push("lines", LINE | {"amount": 8.0})
    store.push("lines", LINE)
    assert both(store, 1)["line_amount"] == 7.0


def test_what_arrived_before_ids_were_forgotten_is_refused_before_anything_is_written(
    store, redis_store
):
    once = states(redis_store)
    late = LINE | {"arrived": NOW - 31 * DAY, "at": NOW - 31 * DAY}
    with pytest.raises(OnlineError, match=r"line_id 5 .*in the order of their arrival"):
        store.push("lines", late)
    assert states(redis_store) == once
    assert logged(store, "lines") == 0


def test_what_would_change_an_event_that_is_settled_is_refused_before_anything_is_written(
    store, redis_store
):
    order = {"order_id": "z", "customer": 1, "amount": 1.0, "at": NOW - 29 * DAY}
    store.online.clock = lambda: micros(NOW + 6 * DAY)
    store.push("orders", order | {"arrived": NOW - 29 * DAY})
    store.push("orders", order | {"order_id": "y", "arrived": NOW + 5 * DAY})
    once, rows = states(redis_store), logged(store, "orders")
    with pytest.raises(OnlineError, match=r"order_id 'z' .*no longer what it would change"):
        store.push("orders", order | {"amount": 2.0, "arrived": NOW - 29.5 * DAY})
    assert states(redis_store) == once
    assert logged(store, "orders") == rows == 2


def test_rows_that_bring_an_arrival_that_is_remembered_are_taken_in_any_order(store, redis_store):
    rows = [LINE | {"amount": float(n), "arrived": NOW - n * DAY} for n in (3, 1, 2)]
    for row in rows:
        store.push("lines", row)
    assert both(store, 1)["line_amount"] == 1.0
    assert backfilled(store, redis_store) == states(redis_store)


def test_ids_are_let_go_when_they_are_forgotten(store, redis_store, repo):
    kept = len(list(redis_store.keys(b"fk:tests:ids:order:")))
    assert kept == 4
    store.materialize(NOW + 100 * DAY)
    assert len(list(redis_store.keys(b"fk:tests:ids:order:"))) == 4  # no end lies in the future
    with pytest.MonkeyPatch.context() as patch:
        ahead = int((NOW + 100 * DAY).timestamp() * 1e6)
        patch.setattr(RedisStore, "settled_until", lambda *_, **__: ahead)
        store.materialize(NOW + 100 * DAY)
    assert list(redis_store.keys(b"fk:tests:ids:order:")) == []
    assert both(store, 1)["ordered_sum"] == 10.0


# --- known_at -------------------------------------------------------------------------------------


def test_known_at_makes_yesterday_s_training_set_again(store):
    then = NOW - 3.5 * DAY
    labels = NOW
    assert offline(store, 1, labels, known_at=then) == {
        "ordered_sum": 10.0, "ordered_count": 1, "order_amount": 10.0,
        "lined_sum": 35.0, "lined_count": 2, "line_amount": 20.0,
    }  # fmt: skip
    assert offline(store, 2, labels, known_at=then)["lined_sum"] == 30.0
    assert offline(store, 2, labels)["lined_sum"] == 20.0


def test_known_at_stands_in_the_manifest_and_the_content_follows_it(store):
    frame = [{"customer": 1, "event_timestamp": NOW}]
    made = {}
    for days in (3.5, 2.75, 0):
        training = store.get_historical_features(frame, "service", known_at=NOW - days * DAY)
        made[days] = training.manifest
    assert made[3.5]["known_at"] == (NOW - 3.5 * DAY).isoformat()
    assert made[3.5]["content_hash"] != made[2.75]["content_hash"] == made[0]["content_hash"]
    whole = store.get_historical_features(frame, "service").manifest
    assert dt.datetime.fromisoformat(whole["known_at"]) >= NOW
    assert whole["content_hash"] == made[0]["content_hash"]


def test_late_data_changes_nothing_that_was_known(store, repo, make_repo):
    then = NOW - 1 * DAY
    before = [offline(store, n, NOW, known_at=then) for n in (1, 2, 3)]
    late = table("orders", ("z", 1, 5.0, 4, 0.5), ("b", 3, 1.0, 2, 0.5))
    make_repo(MODULE, {"orders": pa.concat_tables([ORDERS, late]), "lines": LINES})
    assert offline(store, 1, NOW)["ordered_sum"] == 15.0
    assert [offline(store, n, NOW, known_at=then) for n in (1, 2, 3)] == before


def test_known_at_needs_to_know_when_rows_arrived(make_repo, redis_url, redis_store):
    module = MODULE.replace(', "created_timestamp_column": "arrived"', "")
    with (
        FeatureStore(make_repo(module, {"orders": ORDERS, "lines": LINES})) as opened,
        pytest.raises(DataError, match=r"'orders'.*created_timestamp_column"),
    ):
        opened.get_historical_features(
            [{"customer": 1, "event_timestamp": NOW}], "service", known_at=NOW
        )


def test_known_at_on_the_command_line(repo, capsys):
    frame = repo / "frame.csv"
    frame.write_text(f"customer,event_timestamp\n1,{NOW.isoformat()}\n", encoding="utf-8")
    sums = {}
    for known in ([], ["--known-at", (NOW - 3.5 * DAY).isoformat()]):
        argv = ["--repo", str(repo), "get-historical", "service", str(frame), *known, "--json"]
        assert main(argv) == 0
        made = json.loads(capsys.readouterr().out)
        known_at = dt.datetime.fromisoformat(made["manifest"]["known_at"])
        sums[known_at >= NOW] = made["first_rows"][0]["lined_sum"]
    assert known_at == NOW - 3.5 * DAY
    assert sums == {True: 15.0, False: 35.0}  # by default, the clock


def test_known_at_without_a_frame_asks_about_what_was_known_then(store):
    made = store.get_historical_features(
        None, "service", at=[NOW], known_at=NOW - 3.5 * DAY
    ).to_arrow()  # fmt: skip
    assert made["customer"].to_pylist() == [1, 2, 3]
    assert made["lined_sum"].to_pylist() == [35.0, 30.0, None]


# --- parity ---------------------------------------------------------------------------------------


def crowded() -> dict[str, pa.Table]:
    """Three hundred rows of few ids and customers, copied, corrected, moved, deleted, forgotten."""
    orders, lines = [], []
    for n in range(300):
        arrived = 100 - n / 3
        lag = (0, 0.5, 2, 40)[n % 4]
        of = (1, 2, 3, 1, None)[n // 7 % 5]
        orders.append((f"o{n * 7 % 40}", of, float(n), arrived + lag, arrived))
        op = "delete" if n % 6 == 5 else "upsert"
        lines.append(
            (n * 11 % 50, (1, 2, 3, None)[n * n // 9 % 4], float(n), arrived + lag, arrived, op)
        )
    return {"orders": table("orders", *orders), "lines": table("lines", *lines)}


def test_the_parity_check_replays_in_the_order_of_arrival_and_agrees(make_repo, redis_url):
    with FeatureStore(make_repo(MODULE, crowded()), redis_url=redis_url) as opened:
        report = opened.check_parity("service", values=6000)
    assert report.ok, report.differences
    for feature in report.features.values():
        assert {"PRESENT", "NOT_FOUND"} <= set(feature.statuses)


def forgetful(patch: pytest.MonkeyPatch) -> None:
    around = paths.prepare

    def prepare(project: str, views: list[View], rows: list[Any]) -> Any:
        prepared = around(project, views, rows)
        lesser = [
            (events_module.ViewWriter(project, writer.view), rows) for writer, rows in prepared.rows
        ]
        for writer, _ in lesser:
            writer.ids.within //= 3
        return dataclasses.replace(prepared, rows=lesser)

    patch.setattr(paths, "prepare", prepare)


def without_deletions(patch: pytest.MonkeyPatch) -> None:
    around = paths.prepare

    def prepare(project: str, views: list[View], rows: list[Any]) -> Any:
        return around(project, views, [r for r in rows if r.get("op") != "delete"])

    patch.setattr(paths, "prepare", prepare)


def staying(patch: pytest.MonkeyPatch) -> None:
    changed = settle._Settling.changed

    def stayed(self: Any, blobs: Any) -> Any:
        class Staying(events_module.RowEvents):
            def __call__(here, row: Any) -> Any:
                key, event = super().__call__(row)
                return (key if key in self.entities else None), event

        self.events = Staying(self.writer)
        return changed(self, blobs)

    patch.setattr(settle._Settling, "changed", stayed)


@pytest.mark.parametrize(
    "plant", slow_unless(lambda plant: plant is staying, [forgetful, without_deletions, staying])
)
def test_the_parity_check_catches_a_fault_with_ids(make_repo, redis_url, monkeypatch, plant):
    with FeatureStore(make_repo(MODULE, crowded()), redis_url=redis_url) as opened:
        plant(monkeypatch)
        report = opened.check_parity("service", values=6000)
    assert report.differing


# --- definitions and bad rows ---------------------------------------------------------------------


def defined(**options: Any) -> EventSource:
    schema = {"id": int, "maybe": str | None, "price": float, "op": str, "flag": bool}
    return EventSource("s", path="s.parquet", schema=schema, timestamp_field="at", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"event_id": "no"}, "event_id 'no' is not in the schema; add it there"),
        ({"event_id": "maybe"}, "'maybe' is declared str | None; it is str or int or bytes"),
        ({"event_id": "price"}, "'price' is declared float"),
        ({"event_id": "id", "op": "flag"}, "op 'flag' is declared bool; it is str"),
        ({"event_id": "id", "op": "no"}, "op 'no' is not in the schema"),
        ({"event_id": "op", "op": "op"}, "two columns"),
        ({"op": "op"}, 'event_id="order_id"'),
        ({"event_id": "id", "dedupe_within": "7"}, "dedupe_within: '7' is not a duration"),
        ({"event_id": "id", "dedupe_within": "0s"}, "must be positive"),
    ],
)
def test_a_definition_that_cannot_be_is_explained(options, message):
    with pytest.raises(DefinitionError) as found:
        defined(**options)
    assert message in str(found.value)


def test_a_row_whose_op_is_neither_is_bad_in_a_file(make_repo):
    wrong = table("lines", (1, 1, 1.0, 1, 1, "upsert"), (2, 1, 1.0, 1, 1, "Delete"))
    with (
        FeatureStore(make_repo(MODULE, {"orders": ORDERS, "lines": wrong})) as opened,
        pytest.raises(
            BadRowError, match=r"row 1 .*'op': neither \"upsert\" nor \"delete\".*Delete"
        ),
    ):
        offline(opened, 1, NOW)


@pytest.mark.parametrize("form", ["dicts", "arrow"])
def test_a_row_whose_op_is_neither_is_bad_in_a_push(store, form):
    rows: Any = [LINE, LINE | {"op": ""}]
    if form == "arrow":
        rows = pa.Table.from_pylist(rows)
    with pytest.raises(BadRowError, match=r"row 1 .*'op': neither \"upsert\" nor \"delete\""):
        store.push("lines", rows)


def test_an_instant_before_the_horizon_is_too_old(store):
    with pytest.raises(AsOfTooOld):
        online(store, 1, NOW - 30 * DAY)


def test_copies_of_rows_with_lists() -> None:
    """A list is no key of a dict, and what is remembered of an id is looked up by the whole row."""
    from featurekit.aggregates import Last
    from featurekit.define.compile_view import compile_view
    from featurekit.define.definitions import Entity, EventSource, FeatureView
    from featurekit.feed.events import prepare
    from featurekit.feed.settle import write
    from featurekit.online.state.seal import opened_state
    from featurekit.online.state.state import decode_state
    from featurekit.online.store.memory import MemoryStore

    source = EventSource(
        "s",
        path="s.parquet",
        schema={"id": int, "key": int, "tags": list[str | None] | None},
        timestamp_field="at",
        created_timestamp_column="known_at",
        event_id="id",
    )
    features = {"tags": Last("tags", window="1d")}
    view = compile_view(
        FeatureView("v", entities=[Entity("e", {"key": int})], source=source, features=features)
    )
    row = {"id": 1, "key": 1, "tags": ["a", None], "__ts": 0, "__created": 0}
    once, again = MemoryStore(), MemoryStore()
    write(once, prepare("p", [view], [row]))
    for copy in (row, row | {"__created": 5, "tags": ["b"]}, row | {"__created": 6, "tags": None}):
        write(again, prepare("p", [view], [copy]))
    (state,) = once.keys(b"fk:p:state:")
    # The copies arrived, and nothing else came of them.
    assert list(again.keys(b"fk:p:state:")) == [state]
    (event,) = decode_state(view, opened_state(view, state, again.values[state]) or b"").events
    assert event[2][view.features[0].slot] == ["a", None]
