"""The serving log keeps what was served, bit for bit, and never holds serving up."""

from __future__ import annotations

import copy
import datetime as dt
import math
import os
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit.core.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    FLOAT,
    INT,
    STR,
    TIMEDELTA,
    Type,
    dict_of,
    list_of,
    micros,
)
from featurekit.errors import ConfigError, DataError
from featurekit.log.served import log as log_module
from featurekit.log.served.block import ServedBlock, ServedHead, decode, encode
from featurekit.log.served.log import ServingLog
from featurekit.online.store.redis import RedisStore
from featurekit.parity.compare import bits
from featurekit.project.served_log import read_log
from featurekit.store import FeatureStore

MODULE = """
import datetime as dt
from featurekit import Entity, EventSource, FeatureService, FeatureView, Vector, feature
from featurekit.aggregates import Count, LastN, Sum, ValueCounts

user = Entity("user", {"user": int, "region": str})
seen = EventSource(
    "seen", path="data/seen.parquet", timestamp_field="at", created_timestamp_column="known",
    schema={"user": int, "region": str, "x": float, "n": int | None, "word": str, "raw": bytes,
            "when": dt.datetime, "day": dt.date, "took": dt.timedelta, "yes": bool,
            "many": list[float], "point": Vector[2]},
)

@feature
def tenth(n: int | None) -> float | None:
    if n is None:
        return None
    return 10 / n

last = FeatureView("last", entities=[user], source=seen, ttl="30d", features={
    "x": "x", "n": "n", "word": "word", "raw": "raw", "when": "when", "day": "day", "took": "took",
    "yes": "yes", "many": "many", "point": "point", "tenth": tenth})
sums = FeatureView("sums", entities=[user], source=seen, features={
    "total": Sum("x", window="7d"), "rows": Count(window="7d"),
    "words": ValueCounts("word", window="7d"), "xs": LastN("x", n=3, window="7d")})

@feature
def more(offer: float, tags: list[str], total: float | None) -> float | None:
    return None if total is None else total + offer

service = FeatureService("service", features=[last, sums, more],
                         request={"offer": float, "tags": list[str]})
"""
CONFIG = """
project: tests
online_store:
  type: redis
featurekit:
  redis_url: {url}
  serving_log: {log}
"""
NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
LOGS = {"parquet": "{to: parquet}", "stream": "{to: stream}"}


def rows() -> pa.Table:
    xs = [0.0, -0.0, math.nan, 0.1, math.inf, 1e-308]
    made: list[dict[str, Any]] = []
    for i in range(24):
        at = NOW - dt.timedelta(days=40 if i < 3 else 1, minutes=i)
        x = xs[i % 6]
        made.append({
            "user": 100 if i < 3 else i % 6, "region": "é" if i % 2 and i > 2 else "",
            "x": x, "n": [3, 0, None][i % 3],
            "word": ["a", "", "ß😀"][i % 3], "raw": bytes(range(i)), "when": at, "day": at.date(),
            "took": dt.timedelta(microseconds=-i), "yes": i % 2 == 0, "many": [x] * (i % 3),
            "point": [0.5, x if abs(x) < 1 else 1.0], "at": at, "known": at,
        })  # fmt: skip
    schema = {
        "user": pa.int64(), "region": pa.string(), "x": pa.float64(), "n": pa.int64(),
        "word": pa.string(), "raw": pa.binary(), "when": pa.timestamp("us", "UTC"),
        "day": pa.date32(), "took": pa.duration("us"), "yes": pa.bool_(),
        "many": pa.list_(pa.float64()), "point": pa.list_(pa.float32(), 2),
        "at": pa.timestamp("us", "UTC"), "known": pa.timestamp("us", "UTC"),
    }  # fmt: skip
    return pa.Table.from_pylist(made, schema=pa.schema(schema))


@pytest.fixture
def open_store(make_repo, redis_store: RedisStore):
    opened = []

    def made(log: str) -> FeatureStore:
        config = CONFIG.format(url=redis_store.url, log=log)
        store = FeatureStore(make_repo(MODULE, {"seen": rows()}, config=config))
        store.apply()
        store.materialize(NOW)
        opened.append(store)
        return store

    yield made
    for store in opened:
        store.close()


def ask(store: FeatureStore, users: list[Any], as_of: dt.datetime | None = NOW) -> Any:
    asked = [
        {"user": u, "region": "é" if (u or 0) % 2 else "", "offer": -0.0, "tags": ["t", "é"]}
        for u in users
    ]
    return store.get_online_features("service", asked, as_of)


def logged(store: FeatureStore, log: str | None = None) -> list[ServedBlock]:
    config = store.config.featurekit.serving_log
    return list(
        read_log(config, store.online, store.project, folder=store.path,
                 state_dir=store.state_dir, log=log)
    )  # fmt: skip


def of(block: ServedBlock, name: str) -> list[Any]:
    return list(block.values[list(block.head.outputs).index(name)])


@pytest.mark.parametrize("to", LOGS)
def test_what_was_served_is_read_back_bit_for_bit(open_store, to):
    store = open_store(LOGS[to])
    served = [ask(store, [0, 1, 2, 3, 4, 5, 100, None]), ask(store, [77]), ask(store, [])]
    store.close()
    blocks = logged(store)
    assert [block.rows for block in blocks] == [9]
    (block,) = blocks
    for result, at in ((served[0], 0), (served[1], 8)):
        n = len(result.entities["user"])
        for name, values, statuses in zip(
            block.head.outputs, block.values, block.statuses, strict=True
        ):
            short = name.split("__")[-1]
            want = (result.columns[short], result.status[short])
            got = (list(values[at : at + n]), list(statuses[at : at + n]))
            assert bits(got[0]) == bits(want[0]), name
            assert got[1] == want[1], name
        assert list(block.keys[0][at : at + n]) == result.entities["user"]
        assert block.as_of[at : at + n] == [micros(result.as_of)] * n
    statuses = Counter(s for column in block.statuses for s in column)
    assert set(statuses) == {"PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "ERROR"}
    assert [bits(v) for v in block.fields[0]] == [bits(-0.0)] * 9
    assert list(block.fields[1]) == [["t", "é"]] * 9
    assert list(block.request) == [0] * 8 + [1]
    assert all(abs(t - time.time_ns() // 1000) < 600_000_000 for t in block.served_at)
    assert block.head.fingerprint == store.repo.compiled_services["service"].fingerprint
    assert block.until == [(micros(NOW), micros(NOW))] * 2
    newest = [None if a is None else a // 60_000_000 for a in block.arrivals[0]]
    assert newest[-2:] == [None, None], "an unknown entity has no state"
    assert newest[5] is not None
    assert newest[5] == (micros(NOW) - 86_400_000_000) // 60_000_000 - 5


def test_files_whose_rows_were_all_served_before_are_left_out(open_store):
    store = open_store("{to: parquet}")
    for users in ([1], [2, 3], [4]):
        ask(store, users)
        store.serving_log.flush()
    blocks = list(store.served())
    assert [b.rows for b in blocks] == [1, 2, 1]

    def since(us: int) -> list[int]:
        return [b.rows for b in store.parts.served(since_us=us)]

    for i, block in enumerate(blocks):
        last = max(block.served_at)
        assert since(last) == [b.rows for b in blocks[i:]]
        assert since(last + 1) == [b.rows for b in blocks[i + 1 :]]


def test_parquet_files_are_typed_and_appear_whole(open_store, monkeypatch):
    monkeypatch.setattr(log_module, "_POLL_S", 3600.0)
    store = open_store("{to: parquet, rotate_rows: 5, folder: served_here}")
    log = store.serving_log
    for _ in range(4):
        ask(store, [0, 1, 2])
        log._write(log.sink.flush)
    folder = store.path / "served_here"
    assert len(list(folder.iterdir())) == 2, "six rows are a file of at least five"
    store.close()
    assert [p.suffix for p in folder.iterdir()] == [".parquet"] * 2
    table = pa.parquet.read_table(next(iter(folder.iterdir())))
    value = table.schema.field("value").type
    assert value.field("sums__total").type == pa.float64()
    assert value.field("last__point").type == pa.list_(pa.float32(), 2)
    assert pa.types.is_map(value.field("sums__words").type)
    assert table.schema.field("as_of").type == pa.timestamp("us", "UTC")
    assert sum(block.rows for block in logged(store)) == 12


TYPES: dict[Type, list[Any]] = {
    INT: [0, -(2**63), 2**63 - 1],
    FLOAT: [0.0, -0.0, math.nan],
    BOOL: [True, False, True],
    STR: ["", "ß😀", "a\0b"],
    BYTES: [b"", b"\xff\0", b"x"],
    DATETIME: [NOW, dt.datetime(1, 1, 1, tzinfo=dt.UTC), NOW],
    DATE: [dt.date(1, 1, 1), dt.date.max, dt.date(1970, 1, 1)],
    TIMEDELTA: [dt.timedelta(0), dt.timedelta(microseconds=-1), dt.timedelta(days=400)],
    list_of(STR): [[], ["", "é"], ["x"]],
    list_of(list_of(FLOAT)): [[[]], [[-0.0, math.nan], []], []],
    Type("list", item=FLOAT, size=3): [[0.5, -0.0, math.nan], [1.0, 2.0, 3.0], [0.0] * 3],
    dict_of(STR): [{}, {"b": 1, "a": 2}, {"é": 2**62}],
    dict_of(DATE): [{dt.date(2020, 1, 1): 1}, {}, {}],
}


@pytest.mark.parametrize("type_", TYPES, ids=str)
@pytest.mark.parametrize("absent", [(), (1,), (0, 1, 2)])
def test_every_type_keeps_its_bits_both_ways(type_, absent):
    from featurekit.log.served.arrow import batch

    values = [None if i in absent else v for i, v in enumerate(TYPES[type_])]
    head = ServedHead("p", "s", "f", {"libm": "1"}, ("v",), {"k": INT}, {}, {"o": type_.or_none()})
    assert ServedHead.from_json(head.to_json()) == head
    statuses = ["NULL_VALUE" if v is None else "PRESENT" for v in values]
    block = ServedBlock(head, [1] * 3, [2] * 3, [3] * 3, [[4, None, 5]], [[1, 2, None]], [],
                        [values], [statuses], [None], "p", 7)  # fmt: skip
    data = b"".join(encode(block))
    read = decode(head, data, block.about())
    assert bits(list(read.values[0])) == bits(values)
    assert list(read.statuses[0]) == statuses
    assert list(read.arrivals[0]) == [4, None, 5]
    made = batch(head, data)
    made.validate(full=True)
    column = made.column("value").field("o")
    assert column.type == type_.arrow
    assert bits(column.to_pylist(maps_as_pydicts="strict")) == bits(values)
    for cut in (1, 6, len(data) // 2, len(data) - 1):
        with pytest.raises(DataError, match="no block"):
            decode(head, data[:cut], block.about())


def test_every_nan_is_one():
    odd = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_1234))[0]
    head = ServedHead("p", "s", "f", {}, (), {}, {}, {"o": FLOAT.or_none()})
    data = [
        b"".join(encode(ServedBlock(head, [1], [1], [1], [], [], [], [[x]], [["PRESENT"]], [])))
        for x in (odd, math.nan)
    ]
    assert data[0] == data[1]


@pytest.mark.parametrize("sample", [0.1, 0.5, 1.0])
def test_a_share_of_the_requests_is_taken_and_the_same_each_time(sample):
    def taken() -> list[int | None]:
        log = ServingLog(Quiet(), "p", sample=sample)
        found = [log.wants() for _ in range(1000)]
        log.close()
        return found

    first = taken()
    assert abs(sum(n is not None for n in first) - 1000 * sample) <= 2
    assert first == taken()


class Quiet:
    """A sink that keeps blocks, after failing as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.blocks = failures, []  # type: ignore[var-annotated]
        self.finished: list[str] = []

    def take(self, block: ServedBlock, data: bytes) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        self.blocks.append(block)

    def flush(self) -> None:
        self.finished.append("flush")

    def close(self) -> None:
        self.finished.append("close")


@pytest.fixture
def log_of(open_store, monkeypatch):
    """A store whose log goes to a given sink, and is written only where the test says so."""
    monkeypatch.setattr(log_module, "_POLL_S", 3600.0)

    def made(sink: Any, **options: Any) -> tuple[FeatureStore, ServingLog]:
        store = open_store("{to: stream}")
        store.parts._serving_log = ServingLog(sink, "tests", **options)
        return store, store.parts._serving_log

    return made


def test_where_the_queue_is_full_rows_are_dropped_and_counted(log_of):
    sink = Quiet()
    store, log = log_of(sink, queue_rows=5)
    for _ in range(4):
        ask(store, [0, 1])
    assert (log.done.waiting, log.done.dropped) == (4, 4)
    log._write(sink.flush)
    ask(store, [0])
    log.close()
    assert [b.rows for b in sink.blocks] == [4, 1]
    assert [b.dropped for b in sink.blocks] == [4, 4], "the log itself says so"
    assert log.done.written == 5


def test_what_a_sink_refuses_waits_is_tried_again_and_bounded(log_of):
    sink = Quiet(failures=1)
    store, log = log_of(sink, queue_rows=3)
    ask(store, [0, 1])
    with pytest.warns(UserWarning, match="No space left"):
        log._write(sink.flush)
    assert (log.done.waiting, log.done.failure) == (2, "[Errno 28] No space left on device")
    ask(store, [0, 1])
    assert log.done.dropped == 2, "what waits for its sink counts, too"
    log._write(sink.flush)
    assert (log.done.waiting, log.done.written, log.done.failure) == (0, 2, "")
    log.close()


def test_what_is_lost_at_the_end_is_counted_and_said(log_of):
    sink = Quiet(failures=10**6)
    store, log = log_of(sink)
    ask(store, [0, 1])
    with pytest.warns(UserWarning, match=r"cannot be written|lost 2 rows") as told:
        log.close()
    assert "lost 2 rows" in str(told[-1].message)
    assert (log.done.dropped, log.done.waiting) == (2, 0)


def test_a_lookup_never_waits_for_its_log(log_of):
    held = threading.Event()

    class Slow(Quiet):
        def take(self, block: ServedBlock, data: bytes) -> None:
            held.wait(60)

    store, log = log_of(Slow(), queue_rows=10)
    ask(store, [0])
    writer = threading.Thread(target=log._write, args=(log.sink.flush,))
    writer.start()
    for _ in range(20):
        ask(store, [0])
    assert log.done.dropped == 11
    held.set()
    writer.join()
    log.close()


def test_what_a_caller_does_to_its_result_does_not_reach_the_log(log_of):
    sink = Quiet()
    store, log = log_of(sink)
    result = ask(store, [3, 99])
    want = bits(copy.deepcopy(result.columns["many"]))
    for column in (*result.columns.values(), *result.entities.values()):
        for value in column:
            if isinstance(value, list):
                value.append("changed")
            if isinstance(value, dict):
                value["changed"] = 1
        column[0] = "changed"
    log.close()
    (block,) = sink.blocks
    assert bits(of(block, "last__many")) == want
    assert list(block.keys[0]) == [3, 99]
    assert "changed" not in str(block.values)


def test_a_forked_process_writes_what_it_served_itself(open_store):
    store = open_store("{to: parquet}")
    ask(store, [0])
    child = os.fork()
    if not child:
        try:
            store.parts._online = None
            store.parts._services = {}
            ask(store, [1, 2])
            store.serving_log.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    store.close()
    found = sorted(tuple(b.keys[0]) for b in logged(store))
    assert found == [(0,), (1, 2)]
    assert len({b.process for b in logged(store)}) == 2


def test_a_stream_is_capped(open_store, redis_store, monkeypatch):
    monkeypatch.setattr(log_module, "_POLL_S", 3600.0)
    store = open_store("{to: stream, stream: capped, stream_entries: 100}")
    log = store.serving_log
    for _ in range(400):
        ask(store, [0])
        log._write(log.sink.flush)
    assert 100 <= redis_store.client.xlen("capped") < 220
    assert all(block.rows == 1 for block in logged(store, "stream:capped"))


def test_settings_that_are_none_are_refused(make_repo):
    for log, reason in {
        "{to: kafka}": "'parquet' or 'stream'",
        "{to: parquet, sample: 0}": "greater than 0",
        "{to: parquet, rows: 3}": "no such setting; there are to, sample",
        "{}": "is missing",
    }.items():
        config = CONFIG.format(url="redis://localhost:1", log=log)
        with pytest.raises(ConfigError, match=reason):
            FeatureStore(make_repo(MODULE, {}, config=config))


def test_what_is_no_log_is_refused(open_store, tmp_path, redis_store):
    store = open_store("{to: parquet}")
    with pytest.raises(DataError, match="there is no serving log"):
        logged(store)
    folder = store.state_dir / "served"
    folder.mkdir()
    (folder / "1.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"1\.parquet cannot be read"):
        logged(store)
    pa.parquet.write_table(pa.table({"x": [1]}), folder / "1.parquet")
    with pytest.raises(DataError, match="is no file of a serving log"):
        logged(store)
    redis_store.client.xadd("other", {"x": "1"})
    with pytest.raises(DataError, match="no block of a serving log"):
        logged(store, "stream:other")


SERVE = """
import sys, datetime as dt
from featurekit.project.config import ServingLogConfig
from featurekit.online.store.redis import RedisStore
from featurekit.online.lookup.service import OnlineService
from featurekit.project.served_log import open_log
store = RedisStore(sys.argv[1])
log = open_log(ServingLogConfig(to="stream"), store, "tests")
online = OnlineService(store, "tests", "service", log=log)
row = {"user": 3, "region": "é", "offer": 1.5, "tags": []}
online.get([row], dt.datetime(2026, 3, 1, tzinfo=dt.UTC))
print([m for m in ("pyarrow", "duckdb", "pandas", "polars") if m in sys.modules])
"""


def test_a_process_without_the_repo_logs_to_a_stream_and_loads_nothing_heavy(
    open_store, redis_store
):
    store = open_store("{to: stream}")
    done = subprocess.run(
        [sys.executable, "-c", SERVE, redis_store.url],
        capture_output=True, text=True, check=True, cwd=Path(log_module.__file__).parents[3],
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stdout
    (block,) = logged(store)  # written at the exit
    assert (list(block.keys[0]), list(block.fields[0])) == ([3], [1.5])
