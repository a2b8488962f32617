"""A repo whose sources take pushes, and what is sent to them in every form."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import serving
from serving import Served

from featurekit import FeatureStore
from featurekit.online.wire import msgpack

MODULE = """
from featurekit import Between, Entity, EventSource, FeatureService, FeatureView, Unique
from featurekit.aggregates import Count, Sum

user = Entity("user", {"key": int})
clicks = EventSource("clicks", path="data/clicks.parquet", timestamp_field="at",
                     schema={"key": int, "n": int | None})
orders = EventSource("orders", path="data/orders.parquet", timestamp_field="at", event_id="n",
                     dedupe_within="10d", schema={"key": int, "n": int})
lenient = EventSource("lenient", path="data/lenient.parquet", timestamp_field="at",
                      on_bad_row="quarantine", schema={"key": int, "n": int})
ruled = EventSource("ruled", path="data/ruled.parquet", timestamp_field="at",
                    schema={"key": int, "n": int}, expect=[
                        Between("n", 0, 100),
                        Between("n", 0, 50, severity="quarantine", name="big"),
                        Between("n", 0, 20, severity="warn", name="odd"),
                        Unique("key", severity="warn")])
WEEK = {"sum": Sum("n", window="7d"), "rows": Count(window="7d")}
def said(who, **more):
    return {"owner": f"{who}@example.com", **more}

clicked = FeatureView("clicks", entities=[user], source=clicks, features=WEEK, **said("data"))
services = [FeatureService("clicks", features=[clicked],
                           **said("web", description="What was clicked."))]
services += [FeatureService(s.name, features=[FeatureView(s.name, entities=[user], source=s,
                                                          features=WEEK)])
             for s in (orders, lenient, ruled)]
"""
AT = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=1)
JSON = {"content-type": "application/json"}
PACKED = {"content-type": "application/msgpack"}
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}
PARQUET = {"content-type": "application/vnd.apache.parquet"}


def write(folder: Path, url: str) -> None:
    """The repo, applied and filled."""
    serving.write(folder, url)
    (folder / "pushed.py").write_text(textwrap.dedent(MODULE))
    at = pa.array([AT], pa.timestamp("us", "UTC"))
    for name in ("clicks", "orders", "lenient", "ruled"):
        table = pa.table({"key": pa.array([0]), "n": pa.array([0]), "at": at})
        pq.write_table(table, folder / "data" / f"{name}.parquet")
    serving.fill(folder)


def row(key: int, n: int = 1) -> dict[str, Any]:
    return {"key": key, "n": n, "at": AT.isoformat()}


def counts(store: FeatureStore, source: str, keys: Sequence[int]) -> list[int]:
    """The rows of each key, as both paths count them alike."""
    asked = [{"key": key} for key in keys]
    found = store.get_online_features(source, asked)
    frame = [{**one, "event_timestamp": found.as_of} for one in asked]
    offline = store.get_historical_features(frame, source).to_arrow()
    for name in ("rows", "sum"):
        both = found.columns[name], offline[name].to_pylist()
        assert both[0] == both[1], (name, both)
    return [count or 0 for count in found.columns["rows"]]


def pusher(server: Served) -> int:
    """The process that pushes for a server."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pid = server.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(OSError):  # it has just died
                if b"push" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                    return int(child)
        time.sleep(0.01)
    raise AssertionError("nobody pushes")


def kill(server: Served, number: int) -> None:
    os.kill(pusher(server), number)


@contextmanager
def taking(folder: Path, *words: str, **named: Any) -> Iterator[Served]:
    """A server of the repo that takes pushes, once it does."""
    with serving.serving("--repo", str(folder), "--log", *words, **named) as server:
        end = time.monotonic() + 30
        token = named.get("env", {}).get("TOKEN")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        while server.ask("POST", "/v1/sources/clicks/events", {"rows": []}, headers)[0] == 503:
            assert time.monotonic() < end
        yield server


# --- forms ----------------------------------------------------------------------------------------


def in_json(value: Any) -> Any:
    """A value as JSON writes it."""
    match value:
        case float():
            if value != value:
                return "NaN"
            return value if abs(value) != float("inf") else f"{'-' * (value < 0)}Infinity"
        case bytes():
            return value.hex()
        case dt.datetime() | dt.date():
            return value.isoformat()
        case dt.timedelta():
            return f"{value // serving.US}us"
        case list():
            return [in_json(one) for one in value]
        case _:
            return value


def table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([dict(r) for r in rows], schema=schema)


def arrow_bytes(given: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, given.schema) as stream:
        stream.write_table(given)
    return bytes(sink.getvalue().to_pybytes())


def parquet_bytes(given: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(given, sink)
    return bytes(sink.getvalue().to_pybytes())


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [r[name] for r in rows] for name in rows[0]}


def bodies(
    source: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema
) -> dict[str, tuple[str, bytes, dict[str, str]]]:
    """Rows in every form: the path, the body and its headers."""
    own = f"/v1/sources/{source}/events"
    shown = [{k: in_json(v) for k, v in r.items()} for r in rows]
    of = table(rows, schema)
    feast = {"push_source_name": source, "df": columns(shown), "to": "online_and_offline",
             "allow_registry_cache": True, "transform_on_write": True}  # fmt: skip
    return {
        "json rows": (own, json.dumps({"rows": shown}).encode(), JSON),
        "json columns": (own, json.dumps({"columns": columns(shown)}).encode(), {}),
        "msgpack rows": (own, msgpack.pack({"rows": list(rows)}), PACKED),
        "msgpack columns": (own, msgpack.pack({"columns": columns(rows)}), PACKED),
        "arrow": (own, arrow_bytes(of), ARROW),
        "parquet": (own, parquet_bytes(of), PARQUET),
        "feast": ("/push", json.dumps(feast).encode(), JSON),
    }


def noise(seed: int, size: int) -> bytes:
    return base64.b64encode(bytes((seed * 7919 + i * 104729) % 256 for i in range(size)))
