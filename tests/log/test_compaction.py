"""The log of pushes holds each event once, however its segments are joined and whoever looks."""

from __future__ import annotations

import datetime as dt
import fcntl
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import EventSource, FeatureStore
from featurekit.log import compaction
from featurekit.log.compaction import compact
from featurekit.log.relation import log_sql
from featurekit.log.segments import level, log_folder, segments, write_segment
from featurekit.offline.session import prepare
from featurekit.parity.compare import bits

SOURCE = EventSource(
    "events",
    path="events.parquet",
    schema={"k": int, "x": float | None},
    timestamp_field="ts",
)


def rows(*numbers: int) -> pa.Table:
    made = {"k": [n % 7 for n in numbers], "x": [n / 3 if n % 5 else None for n in numbers]}
    typed = {"k": pa.array(made["k"], pa.int64()), "x": pa.array(made["x"], pa.float64())}
    return pa.table({**typed, "__ts": pa.array(numbers), "__created": pa.array(numbers)})


def logged(folder: Path) -> Counter[Any]:
    import duckdb

    con = duckdb.connect()
    prepare(con)
    found = con.execute(
        f"SELECT * FROM {log_sql(con, segments(folder, 'events'), SOURCE)}"
    ).fetchall()
    return Counter(bits(list(row)) for row in found)


def test_joining_keeps_every_event_once(tmp_path: Path) -> None:
    wanted: Counter[Any] = Counter()
    joined = 0
    for n in range(100):
        write_segment(tmp_path, SOURCE, rows(n, n, n + 1000))
        wanted.update(bits([r["k"], r["x"], r["__ts"], r["__created"]])
                      for r in rows(n, n, n + 1000).to_pylist())  # fmt: skip
        if n % 3 == 0:
            joined += compact(tmp_path, "events", fan=4, grace_s=0.0 if n % 2 else 60.0)
        assert logged(tmp_path) == wanted
    assert joined > 100
    left = segments(tmp_path, "events")
    assert len(left) < 16
    assert max(map(level, left)) >= 3
    compact(tmp_path, "events", fan=1000, grace_s=0.0)
    assert sorted(log_folder(tmp_path, "events").glob("*.parquet")) == left
    assert logged(tmp_path) == wanted


@pytest.mark.parametrize("folder", ["a[b]c", "x=7"])
def test_the_log_of_a_folder_that_has_signs_in_its_name_is_its_own(
    tmp_path: Path, folder: str
) -> None:
    """`[b]` is no pattern, which the other folder's name fits, and `x=7` no column."""
    write_segment(tmp_path / "abc", SOURCE, rows(1))
    mine = write_segment(tmp_path / folder, SOURCE, rows(2))
    (other,) = segments(tmp_path / "abc", "events")
    other.rename(other.with_name(mine.name))
    assert logged(tmp_path / folder) == Counter([bits([2, 2 / 3, 2, 2])])


def test_a_reader_that_began_before_finds_its_segments(tmp_path: Path) -> None:
    for n in range(8):
        write_segment(tmp_path, SOURCE, rows(n))
    before = segments(tmp_path, "events")
    assert compact(tmp_path, "events", fan=4) == 8
    assert all(path.exists() for path in before)
    assert not set(segments(tmp_path, "events")) & set(before)


def test_readers_see_each_event_once_while_segments_are_joined(tmp_path: Path) -> None:
    write_segment(tmp_path, SOURCE, rows(-1))
    pushed: list[int] = [-1]
    over = threading.Event()
    failures: list[str] = []

    def read() -> None:
        while not over.is_set():
            least = len(pushed)
            found = logged(tmp_path)
            most = len(pushed) + 1
            if max(found.values()) > 1 or not least <= len(found) <= most:
                failures.append(f"{len(found)} events of {least} to {most}")

    def join() -> None:
        while not over.is_set():
            compact(tmp_path, "events", fan=3)

    threads = [threading.Thread(target=t, daemon=True) for t in (read, read, join, join)]
    for thread in threads:
        thread.start()
    for n in range(60):
        write_segment(tmp_path, SOURCE, rows(n))
        pushed.append(n)
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(segments(tmp_path, "events")) < 30


def test_two_processes_do_not_join_the_same(tmp_path: Path) -> None:
    for n in range(8):
        write_segment(tmp_path, SOURCE, rows(n))
    with (log_folder(tmp_path, "events") / ".rewriting").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert compact(tmp_path, "events", fan=4) == 0
    assert compact(tmp_path, "events", fan=4) == 8


def test_who_waits_for_a_join_is_alone_when_it_has_ended(tmp_path: Path) -> None:
    write_segment(tmp_path, SOURCE, rows(1))
    folder = log_folder(tmp_path, "events")
    with compaction.alone_in(folder), compaction.alone_in(folder) as other:
        assert other is None
    holding = compaction.alone_in(folder)
    holding.__enter__()
    threading.Timer(0.1, holding.__exit__, (None, None, None)).start()
    with compaction.alone_in(folder, wait=True) as mine:
        assert mine is not None


def test_a_crash_between_writing_and_removing_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(8):
        write_segment(tmp_path, SOURCE, rows(n))
    wanted = logged(tmp_path)

    def lost(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(compaction, "put_segment", lost)
        with pytest.raises(KeyboardInterrupt):
            compact(tmp_path, "events", fan=4)
    assert logged(tmp_path) == wanted
    (log_folder(tmp_path, "events") / "0-lost.writing").write_bytes(b"half")
    assert compact(tmp_path, "events", fan=4, grace_s=0.0) == 8
    assert not list(log_folder(tmp_path, "events").glob("*.writing"))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lost)
        with pytest.raises(KeyboardInterrupt):
            compact(tmp_path, "events", fan=4, grace_s=0.0)
    assert logged(tmp_path) == wanted


def test_a_removal_that_broke_off_between_two_levels_doubles_nothing(tmp_path: Path) -> None:
    joined = 0
    for n in range(16):
        write_segment(tmp_path, SOURCE, rows(n))
        joined += compact(tmp_path, "events", fan=4)
    assert joined == 16 + 4
    wanted = logged(tmp_path)
    (whole,) = segments(tmp_path, "events")
    assert level(whole) == 2
    parts = list(log_folder(tmp_path, "events").glob("*-L1.parquet"))
    for part in parts:  # what each of them replaced is still there
        part.unlink()
        assert logged(tmp_path) == wanted
    assert len(parts) == 4


def test_segments_of_two_schemas_stay_apart(tmp_path: Path) -> None:
    old = EventSource(
        "events", path="events.parquet", schema={"k": int}, timestamp_field="ts"
    )  # fmt: skip
    for n in range(4):
        write_segment(tmp_path, old, rows(n).drop_columns(["x"]))
        write_segment(tmp_path, SOURCE, rows(n + 100))
    assert compact(tmp_path, "events", fan=4) == 8
    assert [pq.read_schema(p).names for p in segments(tmp_path, "events")].count(
        ["k", "x", "__ts", "__created"]
    ) == 1
    assert sum(logged(tmp_path).values()) == 8


MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum
entity = Entity("entity", join_keys={"k": int})
source = EventSource(
    "events", path="data/events.parquet", schema={"k": int, "x": float},
    timestamp_field="ts",
)
view = FeatureView("view", entities=[entity], source=source,
                   features={"n": Count(window="30d"), "sum": Sum("x", window="30d")})
service = FeatureService("service", features=[view])
"""


def test_many_pushes_leave_few_segments_and_equal_values(
    make_repo: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction.compact, "__kwdefaults__", {"fan": 8, "grace_s": 0.0})
    now = dt.datetime.now(dt.UTC)
    empty = pa.table({
        "k": pa.array([], pa.int64()), "x": pa.array([], pa.float64()),
        "ts": pa.array([], pa.timestamp("us", tz="UTC")),
    })  # fmt: skip
    folder = make_repo(MODULE, {"events": empty})
    rng = random.Random(4)
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.online.client.flushall()  # type: ignore[attr-defined]
        store.apply()
        for _ in range(130):
            store.push("events", {"k": rng.randint(1, 3), "x": rng.uniform(-1e9, 1e9), "ts": now})
        later = dt.datetime.now(dt.UTC)
        assert len(segments(store.state_dir, "events")) < 50
        frame = [{"k": k, "event_timestamp": later} for k in (1, 2, 3)]
        offline = store.get_historical_features(frame, "service").to_arrow()
        store.materialize()
        online = store.get_online_features("service", [{"k": k} for k in (1, 2, 3)], as_of=later)
        for name in ("n", "sum"):
            assert list(map(bits, offline[name].to_pylist())) == list(
                map(bits, online.columns[name])
            )
        assert sum(online.columns["n"]) == 130
