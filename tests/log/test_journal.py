"""The journals of the log: what a push has left there is all of it or nothing, whoever looks, ends
or rewrites them meanwhile, and wherever a process died."""

from __future__ import annotations

import datetime as dt
import errno
import gc
import multiprocessing
import os
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import EventSource, FeatureStore
from featurekit.core.files import locked
from featurekit.core.types import Vector
from featurekit.errors import DamagedLog, SourceError, WriteError
from featurekit.feed import forget
from featurekit.log import compaction, journal, writer
from featurekit.log import segments as segments_module
from featurekit.log.compaction import compact
from featurekit.log.relation import log_sql
from featurekit.log.segments import (
    level,
    log_folder,
    put_journal,
    read_segment,
    segments,
    write_segment,
)
from featurekit.log.writer import PushLog
from featurekit.offline.session import prepare
from featurekit.parity.compare import bits

SOURCE = EventSource(
    "events", path="events.parquet", schema={"k": int, "x": float | None}, timestamp_field="ts"
)


def row(n: int) -> dict[str, Any]:
    return {"k": n, "x": n / 3 if n % 5 else None, "__ts": n, "__created": n}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PushLog]:
    made = PushLog(tmp_path)
    yield made
    made.close()


def connection() -> Any:
    import duckdb

    con = duckdb.connect()
    prepare(con)
    return con


def logged(folder: Path, source: EventSource = SOURCE) -> Counter[Any]:
    """The rows of the log as readers see them, with how often."""
    con = connection()
    sql = log_sql(con, segments(folder, source.name), source)
    return Counter(bits(list(r)) for r in con.execute(f"SELECT * FROM {sql}").fetchall())


def wanted(*numbers: int) -> Counter[Any]:
    return Counter(bits(list(row(n).values())) for n in numbers)


def files(folder: Path) -> list[Path]:
    return sorted(log_folder(folder, "events").glob("[!.]*"))


# --- what a journal holds -------------------------------------------------------------------------


def test_small_pushes_are_in_one_file_and_read_as_they_were(tmp_path: Path, log: PushLog) -> None:
    for n in range(5):
        log.keep(SOURCE, [row(n), row(n + 100)])
    log.keep(SOURCE, pa.Table.from_pylist([row(7)]))
    (path,) = files(tmp_path)
    assert path.suffix == ".journal"
    assert segments(tmp_path, "events") == [path]
    assert logged(tmp_path) == wanted(*range(5), *range(100, 105), 7)


def test_a_large_push_is_a_segment_of_its_own(tmp_path: Path, log: PushLog) -> None:
    log.keep(SOURCE, [row(n) for n in range(1001)])
    assert [p.suffix for p in files(tmp_path)] == [".parquet"]
    assert logged(tmp_path) == wanted(*range(1001))


EVERY = EventSource(
    "every", path="every.parquet", timestamp_field="at",
    schema={
        "i": int | None, "f": float | None, "b": bool | None, "s": str | None, "y": bytes | None,
        "t": dt.datetime | None, "d": dt.date | None, "w": dt.timedelta | None,
        "l": list[int] | None, "z": list[str] | None, "v": Vector[2] | None,
        "lw": list[dt.timedelta] | None, "lf": list[float] | None,
    },
)  # fmt: skip
VALUES = {
    "i": [None, -(2**63), 2**63 - 1], "f": [None, -0.0, 0.0, float("nan"), 5e-324, float("inf")],
    "b": [None, True, False], "s": [None, "", "\0é\U0001f600"], "y": [None, b"", b"fkj1\0\xff"],
    "t": [None, dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 12, 31, tzinfo=dt.UTC)],
    "d": [None, dt.date(1, 1, 1), dt.date(9999, 12, 31)], "w": [None, -(10**15), 1],
    "l": [None, [], [1, 2**62]], "z": [None, [], ["", "a"]], "v": [None, [0.5, -0.0]],
    "lw": [None, [], [dt.timedelta(seconds=90)]], "lf": [None, [-0.0, float("nan")]],
}  # fmt: skip


def test_every_type_is_read_of_a_journal_as_of_a_segment(tmp_path: Path) -> None:
    chance = random.Random(3)
    columns = {name: pa.array([chance.choice(values) for _ in range(40)],
                              pa.int64() if name == "w" else EVERY.schema[name].arrow)
               for name, values in VALUES.items()}  # fmt: skip
    times = pa.array(range(40), pa.int64())
    rows = pa.table({**columns, "__ts": times, "__created": times})
    found = {}
    for name in ("segment", "journal"):
        folder = tmp_path / name
        if name == "segment":
            write_segment(folder, EVERY, rows)
        else:
            kept = PushLog(folder)
            for n in range(0, 40, 4):
                kept.keep(EVERY, rows.slice(n, 4))
            kept.close()
        con = connection()
        sql = log_sql(con, segments(folder, "every"), EVERY)
        described = con.execute(f"DESCRIBE SELECT * FROM {sql}").fetchall()
        values = con.execute(f"SELECT * FROM {sql} ORDER BY __ts").fetchall()
        found[name] = [column[:2] for column in described], [bits(list(r)) for r in values]
    assert found["journal"] == found["segment"]
    assert len(found["journal"][1]) == 40


def test_a_column_that_does_not_fit_is_refused_of_a_journal_too(
    tmp_path: Path, log: PushLog
) -> None:
    log.keep(SOURCE, [row(0)])  # x is None
    for type_, match in ((int, "it holds double"), (float, "1 of its values are None")):
        changed = EventSource(
            "events", path="e.parquet", schema={"k": int, "x": type_}, timestamp_field="ts"
        )
        with pytest.raises(SourceError, match=match):
            logged(tmp_path, changed)


def test_another_schema_is_another_journal(tmp_path: Path, log: PushLog) -> None:
    old = EventSource("events", path="e.parquet", schema={"k": int}, timestamp_field="ts")
    for n in range(4):
        log.keep(SOURCE, [row(n)])
        log.keep(old, [row(n + 100)])
    for path in files(tmp_path):
        assert len({tuple(r) for r in read_segment(path).to_pylist()}) == 1
    assert {read_segment(p).num_columns for p in files(tmp_path)} == {3, 4}
    found = logged(tmp_path)
    assert sum(found.values()) == 8
    assert found > wanted(0, 1, 2, 3)


# --- what is cut short or damaged -----------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path, log: PushLog) -> tuple[Path, bytes, list[int]]:
    """A journal of three pushes: its path, its bytes, and where each push ends."""
    ends = []
    for n in range(3):
        log.keep(SOURCE, [row(n)])
        (path,) = files(tmp_path)
        ends.append(path.stat().st_size)
    return path, path.read_bytes(), ends


def pushes(data: bytes) -> int:
    table = journal.Read(data, "name").table
    return 0 if table is None else table.num_rows


def test_what_is_cut_short_at_the_end_never_was(three: tuple[Path, bytes, list[int]]) -> None:
    _, data, ends = three
    for size in range(len(data) + 1):
        assert pushes(data[:size]) == sum(end <= size for end in ends)


def test_a_damaged_last_record_is_an_error(three: tuple[Path, bytes, list[int]]) -> None:
    _, data, ends = three
    for at in range(ends[1], ends[2]):
        with pytest.raises(DamagedLog, match=f"its last record, at byte {ends[1]}, is not as"):
            pushes(data[:at] + bytes((data[at] ^ 0x41,)) + data[at + 1 :])


def test_a_record_that_was_never_written_never_was(three: tuple[Path, bytes, list[int]]) -> None:
    _, data, ends = three
    assert pushes(data[: ends[1]] + bytes(ends[2] - ends[1])) == 2


def test_a_damaged_record_that_others_come_after_is_an_error(
    three: tuple[Path, bytes, list[int]], tmp_path: Path
) -> None:
    path, data, ends = three
    for at in range(ends[1]):
        with pytest.raises(SourceError, match="is damaged: what is at byte"):
            pushes(data[:at] + bytes((data[at] ^ 0x41,)) + data[at + 1 :])
    path.write_bytes(data[:300] + b"!" + data[301:])
    with pytest.raises(SourceError, match=f"log of pushed events {path.name} is damaged"):
        logged(tmp_path)
    write_segment(tmp_path, SOURCE, [row(9)])
    before = files(tmp_path)
    with pytest.raises(SourceError, match="is damaged"):
        compact(tmp_path, "events", fan=2)
    assert files(tmp_path) == before


def test_a_record_that_lies_elsewhere_is_none(three: tuple[Path, bytes, list[int]]) -> None:
    _, data, ends = three
    with pytest.raises(DamagedLog, match=f"its last record, at byte {ends[2]}, is not as"):
        pushes(data + data[ends[1] : ends[2]])


@pytest.mark.parametrize("cut", [1, 40])
def test_what_a_dead_process_left_is_joined_without_what_it_had_begun(
    three: tuple[Path, bytes, list[int]], tmp_path: Path, log: PushLog, cut: int
) -> None:
    path, data, ends = three
    path.write_bytes(data[:-cut])
    assert logged(tmp_path) == wanted(0, 1)
    write_segment(tmp_path, SOURCE, [row(4)])
    assert compact(tmp_path, "events", fan=2) == 2
    assert logged(tmp_path) == wanted(0, 1, 4)
    log.keep(SOURCE, [row(5)])  # it was not dead
    assert logged(tmp_path) == wanted(0, 1, 4, 5)
    assert path.read_bytes() == data[: ends[1]] + journal.record(b"", ends[1])


# --- writes that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize("fails", ["write", "half a write", "sync", "interrupt"])
@pytest.mark.parametrize("first", [True, False])
def test_a_write_that_fails_leaves_nothing_and_the_next_one_is_kept(
    tmp_path: Path, log: PushLog, monkeypatch: pytest.MonkeyPatch, fails: str, first: bool
) -> None:
    before = () if first else (0,)
    for n in before:
        log.keep(SOURCE, [row(n)])
    write = os.write

    def full(file: int, data: Any) -> int:
        if fails == "half a write" and len(data) > 100:
            return write(file, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "no space")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt if fails == "interrupt" else OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        if "write" in fails:
            patch.setattr(os, "write", full)
        else:
            patch.setattr(journal, "_sync", interrupted)
        with pytest.raises(KeyboardInterrupt if fails == "interrupt" else OSError):
            log.keep(SOURCE, [row(1)])
    assert logged(tmp_path) == wanted(*before)
    assert len(files(tmp_path)) == len(before)
    log.keep(SOURCE, [row(2)])
    assert logged(tmp_path) == wanted(*before, 2)
    for path in files(tmp_path):
        journal.end(path)
    assert logged(tmp_path) == wanted(*before, 2)


def test_a_push_is_synced_with_its_name_before_it_returns(
    tmp_path: Path, log: PushLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int]] = []

    def noted(sync: Callable[[int], None]) -> Callable[[int], None]:
        def work(file: int) -> None:
            path = Path(f"/proc/self/fd/{file}").readlink()
            synced.append((path.name, path.stat().st_size))
            sync(file)

        return work

    monkeypatch.setattr(journal, "_sync", noted(journal._sync))
    monkeypatch.setattr(os, "fsync", noted(os.fsync))
    for n in range(2):
        log.keep(SOURCE, [row(n)])
        (path,) = files(tmp_path)
        assert (path.name, path.stat().st_size) in synced
    assert synced[1][0] == "events"


def test_rows_last_before_they_are_online(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full: the push raises, and is on neither path; the next one is on both."""
    now = dt.datetime.now(dt.UTC)
    before = states(store)

    def full(_: int) -> None:
        assert states(store) == before
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_sync", full)
        with pytest.raises(WriteError, match="cannot be written: the disk is full"):
            store.push("events", {"k": 1, "x": 1.0, "ts": now})
    assert states(store) == before
    assert answers(store) == [(None, None)] * 2
    store.push("events", {"k": 1, "x": 2.0, "ts": now})
    assert answers(store) == [(1, (2.0).hex())] * 2


# --- others meanwhile -----------------------------------------------------------------------------


def removed(path: Path) -> None:
    path.unlink()


def rewritten(path: Path) -> None:
    put_journal(path, read_segment(path))


@pytest.mark.parametrize("work", [journal.end, rewritten, removed])
def test_nothing_is_appended_to_a_journal_that_is_over(
    tmp_path: Path, log: PushLog, work: Callable[[Path], object]
) -> None:
    log.keep(SOURCE, [row(0)])
    (path,) = files(tmp_path)
    work(path)
    log.keep(SOURCE, [row(1)])
    log.keep(SOURCE, [row(2)])
    assert logged(tmp_path) == wanted(*([] if work is removed else [0]), 1, 2)
    assert len(files(tmp_path)) == (1 if work is removed else 2)


def test_a_relation_stays_what_it_was_as_a_journal_grows(tmp_path: Path, log: PushLog) -> None:
    log.keep(SOURCE, [row(0)])
    con = connection()
    sql = log_sql(con, segments(tmp_path, "events"), SOURCE)
    log.keep(SOURCE, [row(1)])
    assert len(con.execute(f"SELECT * FROM {sql}").fetchall()) == 1
    journal.end(*files(tmp_path))
    for _ in range(2):
        compact(tmp_path, "events", grace_s=0.0)
    assert [level(p) for p in files(tmp_path)] == [1]
    assert len(con.execute(f"SELECT * FROM {sql}").fetchall()) == 1
    assert logged(tmp_path) == wanted(0, 1)


def test_a_full_journal_becomes_a_segment_that_stands_in_for_it(
    tmp_path: Path, log: PushLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PUSHES", 4)
    told = [log.keep(SOURCE, [row(n)]) for n in range(9)]
    assert told == [True, False, False, True, False, False, False, True, False]
    before = segments(tmp_path, "events")
    assert compact(tmp_path, "events") == 2
    assert [level(p) for p in segments(tmp_path, "events")] == [1, 1, 0]
    assert all(p.exists() for p in before), "readers that began before find theirs"
    assert logged(tmp_path) == wanted(*range(9))
    compact(tmp_path, "events", grace_s=0.0)
    assert files(tmp_path) == segments(tmp_path, "events")
    assert logged(tmp_path) == wanted(*range(9))


def test_journals_of_processes_that_are_gone_are_joined(tmp_path: Path) -> None:
    for n in range(8):
        gone = PushLog(tmp_path)
        gone.keep(SOURCE, [row(n)])
        gone.close()
    write_segment(tmp_path, SOURCE, [row(8)])
    assert compact(tmp_path, "events", fan=9) == 9
    assert [level(p) for p in segments(tmp_path, "events")] == [1]
    assert logged(tmp_path) == wanted(*range(9))


def test_a_crash_while_a_journal_is_joined_loses_and_doubles_nothing(
    tmp_path: Path, log: PushLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.keep(SOURCE, [row(0)])

    def lost(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    write_segment(tmp_path, SOURCE, [row(3)])
    with monkeypatch.context() as patched:
        patched.setattr(compaction, "put_segment", lost)
        with pytest.raises(KeyboardInterrupt):
            compact(tmp_path, "events", fan=2)
    log.keep(SOURCE, [row(1)])
    assert logged(tmp_path) == wanted(0, 1, 3)
    assert compact(tmp_path, "events", fan=9) == 1
    assert logged(tmp_path) == wanted(0, 1, 3)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lost)
        with pytest.raises(KeyboardInterrupt):
            compact(tmp_path, "events", fan=9, grace_s=0.0)
    log.keep(SOURCE, [row(2)])
    assert logged(tmp_path) == wanted(0, 1, 2, 3)


@pytest.mark.parametrize("size", [0, 10, 200])
def test_a_journal_that_has_not_begun_holds_nothing_and_goes_when_it_is_old(
    tmp_path: Path, log: PushLog, size: int
) -> None:
    log.keep(SOURCE, [row(0)])
    (path,) = files(tmp_path)
    begun = log_folder(tmp_path, "events") / f"{0:020d}-begun.journal"
    begun.write_bytes(path.read_bytes()[:size])
    assert logged(tmp_path) == wanted(0)
    compact(tmp_path, "events", fan=2)
    assert begun.exists()
    assert logged(tmp_path) == wanted(0)
    compact(tmp_path, "events", fan=2, grace_s=0.0)
    assert files(tmp_path) == [path]
    log.keep(SOURCE, [row(1)])
    assert logged(tmp_path) == wanted(0, 1)


def test_threads_write_to_journals_of_their_own(tmp_path: Path, log: PushLog) -> None:
    def work(first: int) -> None:
        for n in range(first, first + 50):
            log.keep(SOURCE, [row(n)])

    threads = [threading.Thread(target=work, args=(n * 50,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logged(tmp_path) == wanted(*range(300))
    assert len(files(tmp_path)) <= 6
    log.keep(SOURCE, [row(300)])
    assert logged(tmp_path) == wanted(*range(301))


def _forked(log: PushLog, first: int, n: int) -> None:
    for i in range(first, first + n):
        log.keep(SOURCE, [row(i)])


def test_a_forked_process_writes_to_a_journal_of_its_own(tmp_path: Path, log: PushLog) -> None:
    log.keep(SOURCE, [row(0)])
    (path,) = files(tmp_path)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_forked, args=(log, 80, 1))
    child.start()
    child.join(60)
    assert read_segment(path).num_rows == 1
    children = [context.Process(target=_forked, args=(log, n * 20, 20)) for n in (1, 2, 3)]
    for child in children:
        child.start()
    for n in range(1, 20):
        log.keep(SOURCE, [row(n)])
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 3
    assert len(files(tmp_path)) == 5
    assert logged(tmp_path) == wanted(*range(81))


def _pushing(folder: Path, first: int, n: int, start: Any) -> None:
    writer.PUSHES = 7  # type: ignore[misc]
    mine = PushLog(folder)
    start.wait(30)
    for i in range(first, first + n):
        if mine.keep(SOURCE, [row(i)]):
            compact(folder, "events", fan=3)


def test_readers_see_each_event_once_while_processes_push_end_and_join(tmp_path: Path) -> None:
    """Every row that was seen stays to be seen, and none twice; in the end all are there."""
    context = multiprocessing.get_context("spawn")
    writers, each = 3, 60
    start = context.Barrier(writers + 1)
    children = [
        context.Process(target=_pushing, args=(tmp_path, n * each, each, start))
        for n in range(writers)
    ]
    for child in children:
        child.start()
    start.wait(60)
    seen: Counter[Any] = Counter()
    looks = 0
    while any(child.is_alive() for child in children):
        for path in files(tmp_path):
            if path.suffix == ".journal" and looks % 3 == 0:
                journal.end(path)
        found = logged(tmp_path)
        assert max(found.values(), default=1) == 1
        assert not seen - found
        seen = found
        looks += 1
    assert [child.exitcode for child in children] == [0] * writers
    assert logged(tmp_path) == wanted(*range(writers * each))


# --- in a store -----------------------------------------------------------------------------------

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


@pytest.fixture
def store(make_repo: Any, redis_url: str) -> Iterator[FeatureStore]:
    empty = pa.table({
        "k": pa.array([], pa.int64()), "x": pa.array([], pa.float64()),
        "ts": pa.array([], pa.timestamp("us", tz="UTC")),
    })  # fmt: skip
    with FeatureStore(make_repo(MODULE, {"events": empty}), redis_url=redis_url) as opened:
        opened.online.client.flushall()  # type: ignore[attr-defined]
        opened.apply()
        opened.materialize()
        yield opened


# --- what the machine does to it ------------------------------------------------------------------


def test_a_log_that_is_moved_aside_is_gone_on_with_in_its_place(
    tmp_path: Path, log: PushLog
) -> None:
    log.keep(SOURCE, [row(1)])
    folder = log_folder(tmp_path, "events")
    folder.rename(tmp_path / "aside")
    shutil.copytree(tmp_path / "aside", folder)
    log.keep(SOURCE, [row(2)])
    assert logged(tmp_path) == wanted(1, 2)


def test_what_a_join_left_half_written_stops_no_other(tmp_path: Path, log: PushLog) -> None:
    log.keep(SOURCE, [row(1)])
    left = log_folder(tmp_path, "events") / "00000000000000000001-ab-L1.writing"
    left.write_bytes(b"")
    compact(tmp_path, "events")
    assert left.exists()
    compact(tmp_path, "events", grace_s=-1)
    assert not left.exists()
    assert logged(tmp_path) == wanted(1)


def test_a_segment_that_cannot_be_written_leaves_no_file(
    tmp_path: Path, log: PushLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    log.keep(SOURCE, [row(1)])
    before = files(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="cannot be written: the disk is full"):
        log.keep(SOURCE, [row(n) for n in range(1001)])
    assert files(tmp_path) == before


def test_a_push_of_few_large_rows_is_a_segment(
    tmp_path: Path, log: PushLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (segments_module, writer):
        monkeypatch.setattr(module, "BYTES", 500)
    log.keep(SOURCE, [row(n) for n in range(100)])
    log.keep(SOURCE, pa.Table.from_pylist([row(n) for n in range(100, 200)]))
    assert [p.suffix for p in files(tmp_path)] == [".parquet"] * 2
    assert logged(tmp_path) == wanted(*range(200))


def test_a_push_waits_for_no_process_that_was_stopped_with_a_journal_s_lock(
    tmp_path: Path, log: PushLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurekit.log.journal._PATIENCE_S", 0.05)
    log.keep(SOURCE, [row(1)])
    (first,) = files(tmp_path)
    with locked(first) as mine:
        assert mine is not None
        log.keep(SOURCE, [row(2)])
        assert len(files(tmp_path)) == 2
    log.keep(SOURCE, [row(3)])
    assert len(files(tmp_path)) == 2
    assert logged(tmp_path) == wanted(1, 2, 3)


def test_where_files_cannot_be_locked_every_push_is_a_segment(
    tmp_path: Path, log: PushLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", none)
    log.keep(SOURCE, [row(1)])
    log.keep(SOURCE, [row(2)])
    assert [p.suffix for p in files(tmp_path)] == [".parquet"] * 2
    assert logged(tmp_path) == wanted(1, 2)


def test_a_journal_that_is_taken_is_not_closed_by_another_thread(
    tmp_path: Path, log: PushLog
) -> None:
    log.keep(SOURCE, [row(1)])
    ((_, mine),) = log._idle["events"]
    idle = log._idle["events"]
    idle.pop()  # as a thread does that has found the list, but not the journal
    log.close()
    assert mine.append(segments_module.columns_of(SOURCE).batch([row(2)]))
    mine.close()
    assert logged(tmp_path) == wanted(1, 2)


def test_a_process_keeps_few_journals_open(
    tmp_path: Path, log: PushLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_OPEN", 3)
    many = [
        EventSource(f"s{i}", path="e.parquet", schema=SOURCE.schema, timestamp_field="ts")
        for i in range(8)
    ]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for source in many:
        log.keep(source, [row(1)])
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 3
    assert all(logged(tmp_path, source) == wanted(1) for source in many)


def test_each_source_has_its_own_time_to_be_joined(tmp_path: Path, log: PushLog) -> None:
    other = EventSource("b", path="e.parquet", schema=SOURCE.schema, timestamp_field="ts")
    assert log.keep(SOURCE, [row(1)])
    assert log.keep(other, [row(1)])
    assert not log.keep(other, [row(2)])


def test_a_source_that_is_defined_anew_goes_on_with_its_journal(
    tmp_path: Path, log: PushLog
) -> None:
    log.keep(SOURCE, [row(1)])
    log.keep(
        EventSource("events", path="e.parquet", schema=SOURCE.schema, timestamp_field="ts"),
        [row(2)],
    )
    assert len(files(tmp_path)) == 1
    assert logged(tmp_path) == wanted(1, 2)


def test_a_journal_that_cannot_be_made_says_just_that(
    tmp_path: Path, log: PushLog, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        log.keep(SOURCE, [row(1)])
    gc.collect()
    assert "Exception ignored" not in capfd.readouterr().err


def states(store: FeatureStore) -> dict[bytes, Any]:
    keys = list(store.online.keys(b"fk:tests:state"))
    return dict(zip(keys, store.online.read(keys), strict=True))


def answers(store: FeatureStore, key: int = 1) -> list[Any]:
    """What both paths say of an entity now."""
    later = dt.datetime.now(dt.UTC)
    offline = store.get_historical_features(
        [{"k": key, "event_timestamp": later}], "service"
    ).to_arrow()
    online = store.get_online_features("service", [{"k": key}], as_of=later)
    both = []
    for columns in (offline.to_pydict(), online.columns):
        n, total = columns["n"][0], columns["sum"][0]
        both.append((n or None, None if total is None else total.hex()))
    return both


def test_what_was_forgotten_goes_from_an_open_journal_and_later_pushes_stay(
    store: FeatureStore,
) -> None:
    now = dt.datetime.now(dt.UTC)
    for key in (1, 2, 1):
        store.push("events", {"k": key, "x": 0.5, "ts": now})
    with FeatureStore(store.path, redis_url=store.parts.redis_url) as other:
        assert other.forget("entity", {"k": 1}).log_rows == 2
    for path in files(store.state_dir):
        assert set(read_segment(path)["k"].to_pylist()) == {2}
    assert answers(store) == [(None, None)] * 2
    store.push("events", {"k": 1, "x": 4.0, "ts": now})
    assert answers(store) == [(1, (4.0).hex())] * 2
    assert answers(store, 2) == [(1, (0.5).hex())] * 2
    store.materialize()
    assert answers(store) == [(1, (4.0).hex())] * 2


def test_what_is_pushed_as_a_journal_is_rewritten_is_kept(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = dt.datetime.now(dt.UTC)
    for key in (1, 2):
        store.push("events", {"k": key, "x": 0.5, "ts": now})
    put = forget.put_journal

    def slowly(path: Path, table: Any) -> None:
        store.push("events", {"k": 2, "x": 0.25, "ts": now})
        put(path, table)

    with (
        FeatureStore(store.path, redis_url=store.parts.redis_url) as other,
        monkeypatch.context() as p,
    ):
        p.setattr(forget, "put_journal", slowly)
        assert other.forget("entity", {"k": 1}).log_rows == 1
    assert answers(store, 2) == [(2, (0.75).hex())] * 2
