"""A feature repo with a column of every type, and real processes that serve it."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit import FeatureStore
from featurekit.online.lookup.result import OnlineResult

MODULE = """
import datetime as dt
from featurekit import Entity, EventSource, FeatureService, FeatureView, Vector, feature
from featurekit.aggregates import Count, Sum, ValueCounts

one = Entity("one", {"key": int})
two = Entity("two", {"key": int, "name": str})
days = Entity("days", {"day": dt.date})
raws = Entity("raws", {"raw": bytes})
instants = Entity("instants", {"moment": dt.datetime})
events = EventSource(
    "events", path="data/events.parquet", timestamp_field="at",
    created_timestamp_column="known",
    schema={"key": int, "name": str, "day": dt.date, "raw": bytes, "moment": dt.datetime,
            "i": int | None, "f": float | None, "s": str | None, "b": bytes | None,
            "t": bool | None, "d": dt.date | None, "m": dt.datetime | None,
            "td": dt.timedelta | None, "li": list[int | None] | None, "lf": list[float] | None,
            "ls": list[str] | None, "lb": list[bytes] | None, "lm": list[dt.datetime] | None,
            "v": Vector[3]},
)
COLUMNS = ("i", "f", "s", "b", "t", "d", "m", "td", "li", "lf", "ls", "lb", "lm", "v")
latest = FeatureView("latest", entities=[one], source=events, features={c: c for c in COLUMNS})
numbers = FeatureView("numbers", entities=[one], source=events,
                      features={"i_last": "i", "f_last": "f"})
counted = FeatureView("counted", entities=[two], source=events, features={
    "n": Count(window="WINDOW"), "sum": Sum("f", window="WINDOW"),
    **{f"c_{c}": ValueCounts(c, window="WINDOW") for c in ("i", "s", "b", "t", "d", "m", "td")}})
by_day = FeatureView("by_day", entities=[days], source=events, features={"of_day": "i"})
by_raw = FeatureView("by_raw", entities=[raws], source=events, features={"of_raw": "i"})
by_moment = FeatureView("by_moment", entities=[instants], source=events,
                        features={"of_moment": "i"})

@feature
def asked(f: float | None, basket: float) -> float:
    return basket if f is None else f * basket

@feature
def given(
    wait: dt.timedelta | None, since: dt.datetime | None, word: str | None
) -> dt.timedelta | None:
    return wait

every = FeatureService("every", features=[latest, counted, by_day, by_raw, by_moment, asked, given],
                       request={"basket": float, "wait": dt.timedelta | None,
                                "since": dt.datetime | None, "word": str | None})
plain = FeatureService("plain", features=[numbers])
"""
CONFIG = """
project: tests
online_store:
  type: redis
featurekit:
  redis_url: {url}
"""
SCHEMA = pa.schema(
    [
        ("key", pa.int64()), ("name", pa.string()), ("day", pa.date32()), ("raw", pa.binary()),
        ("moment", pa.timestamp("us", "UTC")), ("i", pa.int64()), ("f", pa.float64()),
        ("s", pa.string()), ("b", pa.binary()), ("t", pa.bool_()), ("d", pa.date32()),
        ("m", pa.timestamp("us", "UTC")), ("td", pa.duration("us")),
        ("li", pa.list_(pa.int64())), ("lf", pa.list_(pa.float64())),
        ("ls", pa.list_(pa.string())), ("lb", pa.list_(pa.binary())),
        ("lm", pa.list_(pa.timestamp("us", "UTC"))), ("v", pa.list_(pa.float32(), 3)),
        ("at", pa.timestamp("us", "UTC")), ("known", pa.timestamp("us", "UTC")),
    ]
)  # fmt: skip
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=1)
FIRST, LAST = dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)
US = dt.timedelta(microseconds=1)
NAN, INF = float("nan"), float("inf")
ROWS: list[dict[str, Any]] = [
    {"i": 2**63 - 1, "f": -0.0, "s": "é\u2028\x00\"\\", "b": b"\x00\xff", "t": True,
     "d": dt.date.min, "m": FIRST, "td": -US, "li": [-(2**63), None, 2**63 - 1],
     "lf": [NAN, -0.0, INF, -INF],
     "ls": ["", "NaN"], "lb": [b"", b"\xff"], "lm": [FIRST, LAST], "v": [0.1, -0.0, 1e30]},
    {"i": -(2**63), "f": NAN, "s": "", "b": b"", "t": False, "d": dt.date.max, "m": LAST,
     "td": dt.timedelta(days=106_751), "li": [], "lf": [], "ls": [], "lb": [], "lm": [],
     "v": [1.0, 2.0, 3.0]},
    {"i": 2**53 + 1, "f": 5e-324, "s": "\U0001f600", "b": b"x" * 300, "t": True,
     "d": dt.date(1970, 1, 1), "m": NOW + US, "td": dt.timedelta(0), "li": [0],
     "lf": [5e-324, 1.7976931348623157e308], "ls": ["x"], "lb": [b"a"], "lm": [NOW + US],
     "v": [0.0, 0.0, 1e-45]},
    {"i": 0, "f": INF, "s": "Infinity", "b": b"NaN", "t": None, "d": None, "m": NOW, "td": US,
     "li": None, "lf": None, "ls": None, "lb": None, "lm": None, "v": [1.0, 1.0, 1.0]},
    {"i": None, "f": -INF, "s": None, "b": None, "t": None, "d": None, "m": None, "td": None,
     "li": None, "lf": None, "ls": None, "lb": None, "lm": None, "v": [1.0, 1.0, 1.0]},
    {"i": 7, "f": 0.1 + 0.2, "s": "a", "b": b"a", "t": False, "d": dt.date(2024, 2, 29), "m": NOW,
     "td": dt.timedelta(hours=1), "li": [1, 2], "lf": [0.1], "ls": ["b", "a"], "lb": [b"b"],
     "lm": [NOW], "v": [0.5, 0.25, 0.125]},
]  # fmt: skip
"""Values of every type, each row an entity's; the last one is again one of entity 0."""


def events() -> pa.Table:
    made = []
    for i, row in enumerate(ROWS):
        at = NOW - dt.timedelta(minutes=len(ROWS) - i)
        made.append({
            "key": i % 5, "name": "ab"[i % 2], "day": dt.date(2024, 1, 1 + i),
            "raw": bytes([i, 255]), "moment": NOW - i * US, **row, "at": at, "known": at,
        })  # fmt: skip
    return pa.Table.from_pylist(made, schema=SCHEMA)


def asked_rows() -> list[dict[str, Any]]:
    """A row for each entity, one that is unknown, and one without keys."""
    rows = []
    for i in range(7):
        rows.append({
            "key": i, "name": "ab"[i % 2], "day": dt.date(2024, 1, 1 + i), "raw": bytes([i, 255]),
            "moment": NOW - i * US, "basket": (0.1, NAN, INF, -0.0, 5e-324, -INF, 1e300)[i],
            "wait": None if i == 2 else i * US, "since": NOW if i % 2 else None,
            "word": ("", None, "é")[i % 3],
        })  # fmt: skip
    nothing = dict.fromkeys(("key", "name", "day", "raw", "moment", "wait", "since", "word"))
    return [*rows, {**nothing, "basket": 1.0}]


def write(folder: Path, url: str, *, window: str = "30d") -> None:
    """The repo, whose windows have this length."""
    (folder / "data").mkdir(exist_ok=True)
    (folder / "feature_store.yaml").write_text(CONFIG.format(url=json.dumps(url)))
    (folder / "definitions.py").write_text(textwrap.dedent(MODULE.replace("WINDOW", window)))
    pq.write_table(events(), folder / "data" / "events.parquet")


def fill(folder: Path) -> None:
    """Apply and materialise."""
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()


@dataclass(frozen=True, slots=True)
class World:
    """The repo's folder, its Redis, and the store in this process."""

    folder: Path
    url: str
    store: FeatureStore


class Served:
    """A running `featurekit serve`."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self.host, _, port = url.removeprefix("http://").rpartition(":")
        self.port = int(port)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=20)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of one request on a connection of its own."""
        data = body if isinstance(body, (bytes, str)) or body is None else json.dumps(body)
        connection = self.connect()
        try:
            connection.request(method, path, data, dict(headers or {}))
            found = connection.getresponse()
            named = {k.lower(): v for k, v in found.getheaders()}
            return found.status, named, found.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Status and document of a request."""
        status, _, data = self.ask("POST", path, body, headers)
        return status, json.loads(data)

    def wait(self) -> None:
        """Until it is ready."""
        end = time.monotonic() + 30
        while True:
            try:
                status, _, data = self.ask("GET", "/ready")
                if status == 200:
                    return
            except OSError as error:
                data = str(error).encode()
            assert self.process.poll() is None, "it has ended"
            assert time.monotonic() < end, data
            time.sleep(0.05)

    def stop(self) -> int:
        """End it in good order; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def serving(*words: str, env: Mapping[str, str] | None = None) -> Iterator[Served]:
    """A `featurekit serve` with these words, on a free port, once it is ready."""
    with started(*words, env=env) as made:
        made.wait()
        yield made


@contextmanager
def started(*words: str, env: Mapping[str, str] | None = None) -> Iterator[Served]:
    """A `featurekit serve` with these words, on a free port."""
    command = [sys.executable, "-m", "featurekit.cli", "--json", "serve", "--port", "0", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield Served(process, json.loads(line)["url"])
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()


def exact(value: Any) -> Any:
    """A value with its class, and a float by its bits; every NaN is one."""
    match value:
        case float():
            return "float", "NaN" if value != value else struct.pack("<d", value)
        case list():
            return [exact(one) for one in value]
        case dict():
            return [(exact(k), exact(v)) for k, v in value.items()]
        case dt.datetime():
            return "datetime", value.astimezone(dt.UTC).isoformat()
        case _:
            return type(value).__name__, value


def same(found: OnlineResult, wanted: OnlineResult) -> None:
    """The results are the same in every way in which they can be looked at."""
    assert found.to_arrow().schema.equals(wanted.to_arrow().schema, check_metadata=True)
    assert found.types == wanted.types
    assert exact(found.to_pylist()) == exact(wanted.to_pylist())
    assert exact(list(found.columns.values())) == exact(list(wanted.columns.values()))
    assert (found.status, found.entities.keys()) == (wanted.status, wanted.entities.keys())
    assert (found.as_of, len(found)) == (wanted.as_of, len(wanted))
    assert found.statuses() == wanted.statuses()
    assert found.statistics == wanted.statistics
    assert str(found.to_pandas().dtypes) == str(wanted.to_pandas().dtypes)
    for name, array in wanted.to_numpy().items():
        assert found.to_numpy()[name].dtype == array.dtype
        assert exact(found.to_numpy()[name].tolist()) == exact(array.tolist())
