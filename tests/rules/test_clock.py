"""S3: the store's clock. A scratch store's is set by hand; the last tests have the server's own."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from featurekit import FeatureStore
from featurekit.core.keys import clock_key
from featurekit.core.types import micros
from featurekit.errors import AsOfInFuture, BadRowError, InstantsInFuture
from rules.asking import NOON, D, H, S, instant, present, table, write_repo

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count

user = Entity("user", {"key": int})

def service(name, **options):
    source = EventSource(name, path=f"{name}.parquet", schema={"key": int, "n": int},
                         timestamp_field="at", created_timestamp_column="arrived", **options)
    row = FeatureView(f"{name}_row", entities=[user], source=source, features={"n": "n"})
    window = FeatureView(f"{name}_window", entities=[user], source=source,
                         features={"rows": Count(window="1d")})
    return FeatureService(name, features=[row, window])

strict = service("strict")
lenient = service("lenient", on_bad_row="quarantine")
"""
ROWS = [{"key": 1, "at": NOON, "arrived": NOON, "n": 1}]
LATER = {"key": 1, "at": instant(-S), "arrived": instant(2 * H), "n": 2}
MINUTE = 60 * S


class Hand:
    """A clock that is set by hand, in microseconds after NOON."""

    def __init__(self) -> None:
        self.at = H

    def __call__(self) -> int:
        return micros(instant(self.at))


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def store(tmp_path: Path, rules_url: str, clock: Hand) -> Iterator[FeatureStore]:
    made = table(*ROWS, LATER, n=pa.int64())
    folder = write_repo(tmp_path / "clocked", MODULE, {"strict": made, "lenient": made})
    with redis.Redis.from_url(rules_url) as server:
        for key in server.scan_iter("fk:clocked:*"):
            server.delete(key)
    with FeatureStore(folder, redis_url=rules_url) as opened:
        opened.parts.clock = clock
        opened.apply()
        opened.materialize()
        yield opened


def row(arrived: int, *, key: int = 1, at: int = 0, n: int = 7) -> dict[str, Any]:
    return {"key": key, "at": instant(at), "arrived": instant(arrived), "n": n}


def logged(store: FeatureStore, source: str) -> list[Any]:
    """The arrivals of the rows in the log, after NOON, as a training set at the end of time has
    them."""
    con = store.parts.connect()
    view = next(v for v in store.parts.fed() if v.source.name == source)
    relation = store.parts.snapshot(con, view, marked=True).events.relation
    found = con.execute(f"SELECT __created FROM {relation} WHERE __pushed ORDER BY 1").fetchall()
    con.close()
    return [created - micros(NOON) for (created,) in found]


def as_frame(rows: list[dict[str, Any]]) -> pa.Table:
    return table(*rows, n=pa.int64()).select(["key", "at", "n", "arrived"])


@pytest.mark.parametrize("how", [list, as_frame])
def test_an_arrival_within_the_tolerance_becomes_the_clock_and_is_logged_so(
    store: FeatureStore, clock: Hand, how: Any
) -> None:
    wanted = []
    for clock.at, ahead in ((3 * H, 1), (4 * H, S), (5 * H, 5 * MINUTE)):
        store.push("strict", how([row(clock.at + ahead), row(2 * H, n=8), row(clock.at, n=9)]))
        wanted += [2 * H, clock.at, clock.at]
        assert logged(store, "strict") == sorted(wanted)
        found = store.get_online_features("strict", [{"key": 1}])
        assert found.as_of == instant(clock.at)
        assert found.columns["rows"] == [1 + len(wanted)]


@pytest.mark.parametrize("how", [list, as_frame])
def test_a_later_arrival_is_a_bad_row_and_nothing_is_written(
    store: FeatureStore, clock: Hand, how: Any
) -> None:
    clock.at = 3 * H
    for ahead in (5 * MINUTE + 1000, 9 * H, 1100 * D):
        with pytest.raises(BadRowError, match=r"row 1 .*'arrived'.*after the store's clock"):
            store.push("strict", how([row(0), row(3 * H + ahead)]))
    assert logged(store, "strict") == []
    assert store.get_online_features("strict", [{"key": 1}]).columns["rows"] == [1]


@pytest.mark.parametrize("how", [list, as_frame])
def test_a_later_arrival_is_set_aside_where_the_source_says_so(
    store: FeatureStore, clock: Hand, how: Any
) -> None:
    clock.at = 3 * H
    done = store.push("lenient", how([row(0), row(1100 * D, n=70), row(3 * H, n=9)]))
    assert (done.rows, done.quarantined) == (2, 1)
    assert logged(store, "lenient") == [0, 3 * H]
    (kept,) = (store.state_dir / "quarantine").glob("lenient.pushed-*")
    if kept.suffix == ".jsonl":
        (told,) = map(json.loads, kept.read_text().splitlines())
        assert (told["row"], told["values"]["n"]) == (1, 70)
    else:
        (told,) = pq.read_table(kept).to_pylist()
        assert told["n"] == 70
    assert told["reason"].startswith("arrived: it arrives after the store's clock")


def test_the_tolerance_is_a_setting(store: FeatureStore, clock: Hand) -> None:
    folder, url = store.path, store.online.url  # type: ignore[attr-defined]
    settings = folder / "feature_store.yaml"
    settings.write_text(settings.read_text() + "featurekit:\n  clock_tolerance: 2h\n")
    with FeatureStore(folder, redis_url=url) as other:
        other.parts.clock = clock
        other.push("strict", [row(3 * H)])
        found = other.get_online_features("strict", [{"key": 1}], as_of=instant(3 * H))
        assert H <= micros(found.as_of) - micros(NOON) < H + S


def test_no_stamp_is_below_the_one_before(store: FeatureStore, clock: Hand) -> None:
    """A server takes over whose clock is behind."""
    clock.at = 3 * H - S
    store.materialize()  # with the row that has arrived meanwhile
    clock.at = 3 * H
    push = {"key": 1, "at": NOON, "n": 7}
    store.push("strict", push)
    for behind in (1, S, H, 1100 * D):
        clock.at = 3 * H - behind
        store.push("strict", push)
        store.push("lenient", push)
    assert logged(store, "strict") == [3 * H, *(3 * H + k for k in (1, 3, 5, 7))]
    found = store.get_online_features("strict", [{"key": 1}])
    assert found.as_of == instant(3 * H + 8)
    assert found.columns["rows"] == [7]
    frame = [{"key": 1, "event_timestamp": found.as_of}]
    assert store.get_historical_features(frame, "strict").to_arrow()["rows"].to_pylist() == [7]


def test_a_row_of_a_file_that_has_not_arrived_is_counted_and_never_bad(
    store: FeatureStore, clock: Hand
) -> None:
    done = store.materialize()
    assert [view.not_arrived for view in done.views] == [1, 1, 1, 1]
    assert store.get_online_features("strict", [{"key": 1}]).columns["rows"] == [1]
    frame = [{"key": 1, "event_timestamp": instant(30 * MINUTE)}]
    made = store.get_historical_features(frame, "strict").manifest
    assert made["sources"]["strict"]["not_yet_arrived"] == 1
    assert instant(H) < dt.datetime.fromisoformat(made["known_at"]) < instant(H + S)
    clock.at = 2 * H + S
    done = store.materialize()
    assert [view.not_arrived for view in done.views] == [0, 0, 0, 0]
    assert store.get_online_features("strict", [{"key": 1}]).columns["rows"] == [2]


def test_an_instant_within_the_tolerance_is_answered_as_of_the_clock(
    store: FeatureStore, clock: Hand
) -> None:
    clock.at = 2 * H
    for ahead in (0, 1, 5 * MINUTE):
        found = store.get_online_features("strict", [{"key": 1}], as_of=instant(2 * H + ahead))
        assert found.as_of == instant(2 * H)
    earlier = store.get_online_features("strict", [{"key": 1}], as_of=instant(H))
    assert earlier.as_of == instant(H)


def test_a_later_instant_is_an_error(store: FeatureStore, clock: Hand) -> None:
    clock.at = 2 * H
    for ahead in (5 * MINUTE + 1, 9 * H, 1100 * D):
        with pytest.raises(AsOfInFuture, match="the store's clock says 2024-05-01T14:00:00"):
            store.get_online_features("strict", [{"key": 1}], as_of=instant(2 * H + ahead))


def test_without_rows_the_instant_is_the_clock_too(store: FeatureStore) -> None:
    found = store.get_online_features("strict", [], as_of=instant(H + MINUTE))
    assert H <= micros(found.as_of) - micros(NOON) < H + S
    with pytest.raises(AsOfInFuture):
        store.get_online_features("strict", [], as_of=instant(9 * H))


def test_a_later_instant_in_a_frame_is_computed_from_what_has_arrived_and_counted(
    store: FeatureStore,
) -> None:
    frame = [{"key": 1, "event_timestamp": instant(t)} for t in (0, 3 * H, 4 * H)]
    training = store.get_historical_features(frame, "strict")
    with pytest.warns(InstantsInFuture, match="2 rows ask for instants after the store's clock"):
        made = training.to_arrow()
    assert made["rows"].to_pylist() == [1, 1, 1]
    assert training.manifest["rows_after_known_at"] == 2


def test_known_at_that_is_asked_for_is_counted_without_a_warning(store: FeatureStore) -> None:
    frame = [{"key": 1, "event_timestamp": instant(t)} for t in (0, 3 * H)]
    training = store.get_historical_features(frame, "strict", known_at=instant(2 * H))
    assert training.to_arrow()["rows"].to_pylist() == [1, 2]
    assert training.manifest["rows_after_known_at"] == 1


def test_a_grid_in_the_future_has_only_who_has_arrived(store: FeatureStore) -> None:
    new = {**LATER, "key": 2}
    made = table(*ROWS, LATER, new, n=pa.int64())
    pq.write_table(made, store.path / "strict.parquet")
    training = store.get_historical_features(None, "strict", at=[instant(3 * H)])
    with pytest.warns(InstantsInFuture):
        assert training.to_arrow()["key"].to_pylist() == [1]


# --- the server's own clock -----------------------------------------------------------------------


def test_the_server_s_own_clock_stamps_and_answers(tmp_path: Path, rules_url: str) -> None:
    def now() -> dt.datetime:
        seconds, us = server.time()
        return dt.datetime.fromtimestamp(seconds, dt.UTC) + dt.timedelta(microseconds=us)

    made = table(*ROWS, n=pa.int64())
    folder = write_repo(tmp_path / "served", MODULE, {"strict": made, "lenient": made})
    with (
        redis.Redis.from_url(rules_url) as server,
        FeatureStore(folder, redis_url=rules_url) as store,
    ):
        store.apply()
        store.materialize()
        before = now()
        store.push("strict", {"key": 1, "at": before, "n": 2})
        after = now()
        (stamp,) = logged(store, "strict")
        assert before <= instant(stamp) <= after
        assert server.get(clock_key("served")) == b"%d" % micros(instant(stamp))
        found = store.get_online_features("strict", [{"key": 1}])
        assert after <= found.as_of <= now()
        assert found.columns["n"] == [2]
        assert present(2)
