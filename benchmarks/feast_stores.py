"""featurekit's stores for a Feast repo beside Feast's DuckDB and Redis, through Feast's own calls.

Both repos have the same file and the same views, with a ttl of a year. A Redis of each keeps what
is materialised. Peak memory is that of a process of its own, which also loads Feast.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.feast_peer import NAME, installed
from benchmarks.measure import OURS, Result, interleaved, latencies, peak_memory
from featurekit.online.store.server import scratch_redis

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
WIDE, NARROW = 50, 10
SETTLED_S = 3
"""Until then a file that was just written is hashed each time."""
HISTORICAL = {
    "smoke": [(2_000, 20_000)],
    "medium": [(100_000, 1_000_000)],
    "full": [(100_000, 1_000_000), (1_000_000, 10_000_000)],
}
MATERIALISED = {"smoke": 20_000, "medium": 1_000_000, "full": 1_000_000}
APPLIED = {"smoke": 20, "medium": 500, "full": 500}


def results(size: str, runs: int) -> Iterator[Result]:
    """Historical features, materialisation, online features, and an apply; nothing where Feast is
    absent."""
    if not installed():
        return
    with tempfile.TemporaryDirectory() as name, ExitStack() as servers:
        folder = Path(name)
        for labels, events in HISTORICAL[size]:
            yield from _historical(folder / f"historical_{events}", labels, events, runs)
        yield from _materialized(folder / "materialised", MATERIALISED[size], runs, servers)
        yield from _online(folder / "online", runs, servers)
        yield from _applied(folder / "applied", APPLIED[size], servers)


class Repo:
    """A Feast repo over one file, on featurekit's stores or on Feast's own."""

    def __init__(
        self, folder: Path, rows: Path, features: int, url: str | None, *, ours: bool
    ) -> None:
        os.environ.setdefault("FEAST_USAGE", "False")
        folder.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
            from feast.types import Float64, Int64
            from feast.value_type import ValueType

            stores = _ours(url) if ours else _own(url)
            config = RepoConfig(
                project="bench", provider="local", registry=str(folder / "registry.db"),
                repo_path=folder, entity_key_serialization_version=3, **stores,
            )  # fmt: skip
            self.store = FeatureStore(config=config)
            key = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
            source = FileSource(name="rows", path=str(rows), timestamp_field="at")
            names = [f"f{i}" for i in range(features)]
            schema = [Field(name="key", dtype=Int64)]
            schema += [Field(name=one, dtype=Float64) for one in names]
            view = FeatureView(
                name="v", entities=[key], ttl=365 * DAY, source=source, schema=schema
            )
            self.store.apply([key, view])
        self.refs = [f"v:{one}" for one in names]

    def historical(self, frame: pd.DataFrame) -> pa.Table:
        """The features of each row of a frame."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.store.get_historical_features(frame, self.refs).to_arrow()

    def materialize(self) -> None:
        """Fill the online store, without what Feast prints of it."""
        quiet = io.StringIO()
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            self.store.materialize(NOW - 400 * DAY, dt.datetime.now(dt.UTC))

    def online(self, keys: list[int]) -> dict[str, list[Any]]:
        """The features of keys as of now."""
        rows = [{"key": key} for key in keys]
        return dict(self.store.get_online_features(self.refs, rows).to_dict())


def _ours(url: str | None) -> dict[str, Any]:
    plugin = "featurekit.plugins.feast."
    return {
        "offline_store": {"type": f"{plugin}FeaturekitOfflineStore"},
        "online_store": {"type": f"{plugin}FeaturekitOnlineStore", "redis_url": url},
        "batch_engine": {"type": f"{plugin}FeaturekitEngine"},
    }


def _own(url: str | None) -> dict[str, Any]:
    path = unquote(urlsplit(url or "").path)  # its client takes whatever redis-py takes
    at = f"localhost:0,unix_socket_path={path}"
    return {
        "offline_store": {"type": "duckdb"},
        "online_store": {"type": "redis", "connection_string": at},
    }


def write_rows(path: Path, rows: int, keys: int, features: int) -> None:
    """A file of `rows` events of `keys` entities within the last 300 days."""
    rng = np.random.default_rng(rows)
    happened = _us(NOW) - rng.integers(0, 300 * 86_400 * 10**6, rows)
    key = np.arange(rows) % keys
    columns = {"key": key, "at": pa.array(happened, pa.timestamp("us", tz="UTC"))}
    columns |= {f"f{i}": rng.random(rows) for i in range(features)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def frame_of(rows: int, keys: int) -> pd.DataFrame:
    """An entity frame of `rows` questions about the last 100 days."""
    rng = np.random.default_rng(rows + 1)
    at = pd.to_datetime(_us(NOW) - rng.integers(0, 100 * 86_400 * 10**6, rows), unit="us", utc=True)
    return pd.DataFrame({"key": rng.integers(0, keys, rows), "event_timestamp": at})


def _us(at: dt.datetime) -> int:
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def _historical(folder: Path, labels: int, events: int, runs: int) -> Iterator[Result]:
    keys = max(1, labels // 10)
    write_rows(folder / "rows.parquet", events, keys, NARROW)
    frame = frame_of(labels, keys)
    frame.to_parquet(folder / "frame.parquet")
    time.sleep(SETTLED_S)
    size = f"{labels:,} labels × {events:,} events, {NARROW} features"
    many = labels > 100_000
    alone = {name: alone_in(folder, name) for name in (OURS, NAME)}
    assert alone[OURS]["sum"] == alone[NAME]["sum"]  # the same values, whatever their order
    if many:
        wall = {name: told["wall"] for name, told in alone.items()}
    else:
        works: dict[str, Callable[[], object]] = {}
        for name in (OURS, NAME):
            repo = Repo(folder / name, folder / "rows.parquet", NARROW, None, ours=name == OURS)
            works[name] = partial(repo.historical, frame)
        wall = interleaved(works, runs)
    goal = 1 / 8 if labels >= 100_000 else None
    yield Result("Feast: get_historical_features", size, "s", wall, NAME, goal)
    cpu = {name: told["cpu"] for name, told in alone.items()}
    yield Result("the same, CPU of one call", size, "s", cpu, NAME)
    peak = {name: told["peak"] for name, told in alone.items()}
    yield Result("the same, peak memory", size, "B", peak, NAME, 1 / 4 if many else None)


def alone_in(folder: Path, name: str) -> dict[str, float]:
    """One call of `get_historical_features` in a process of its own: wall and CPU seconds, the
    bytes by which memory grew at most during it, and the sum of all values."""
    asked = [sys.executable, "-m", "benchmarks.feast_stores", str(folder), name]
    told = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


def _alone(folder: Path, name: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as made:
        repo = Repo(Path(made) / "repo", folder / "rows.parquet", NARROW, None, ours=name == OURS)
        frame = pd.read_parquet(folder / "frame.parquet")
        repo.historical(frame[:10])  # what is loaded once is loaded
        before = _peak_from_now()
        began, spent = time.perf_counter(), time.process_time()
        table = repo.historical(frame)
        wall, cpu = time.perf_counter() - began, time.process_time() - spent
        peak = peak_memory() - before
    values = (v for ref in repo.refs for v in table[ref.split(":")[1]].to_numpy() if v == v)
    return {"wall": wall, "cpu": cpu, "peak": peak, "sum": math.fsum(values)}


def _peak_from_now() -> int:
    """The resident bytes now, which are then the peak: an earlier one would hide what is taken."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def _materialized(folder: Path, rows: int, runs: int, servers: ExitStack) -> Iterator[Result]:
    write_rows(folder / "rows.parquet", rows, rows, NARROW)
    wall, cpu = {}, {}
    for name in (OURS, NAME):
        url = servers.enter_context(scratch_redis())
        repo = Repo(folder / name, folder / "rows.parquet", NARROW, url, ours=name == OURS)
        began, spent = time.perf_counter(), time.process_time()
        repo.materialize()  # once: Feast takes minutes
        wall[name], cpu[name] = time.perf_counter() - began, time.process_time() - spent
        found = repo.online([0, rows - 1])
        assert None not in found["f0"]
    size = f"{rows:,} rows, {NARROW} features"
    yield Result("Feast: materialize", size, "s", wall, NAME, 1 / 8 if rows >= 1_000_000 else None)
    yield Result("the same, CPU of the process", size, "s", cpu, NAME)


def _online(folder: Path, runs: int, servers: ExitStack) -> Iterator[Result]:
    keys = 2_000
    write_rows(folder / "rows.parquet", keys, keys, WIDE)
    repos = {}
    for name in (OURS, NAME):
        url = servers.enter_context(scratch_redis())
        repos[name] = Repo(folder / name, folder / "rows.parquet", WIDE, url, ours=name == OURS)
        repos[name].materialize()
    rng = np.random.default_rng(0)
    for entities, goal in ((1, 1 / 2), (100, 1 / 8)):
        asked = rng.integers(0, keys, entities).tolist()
        assert repos[OURS].online(asked) == repos[NAME].online(asked)
        works = {name: partial(repo.online, asked) for name, repo in repos.items()}
        taken = latencies(works, 40 if entities > 1 else 400, stretches=runs)
        size = f"{entities} × {WIDE} features"
        for what, number, claimed in (("", "p50", goal), (", p99", "p99", None)):
            shown = {name: getattr(found, number) for name, found in taken.items()}
            yield Result(f"Feast: get_online_features{what}", size, "s", shown, NAME, claimed)


def _applied(folder: Path, views: int, servers: ExitStack) -> Iterator[Result]:
    """`apply` of a repo that publishes its views to a new registry, from its modules on; and
    Feast's own, of as many views in memory."""
    url = servers.enter_context(scratch_redis())
    wall, cpu = {}, {}
    for name, work in ((OURS, partial(_publish, folder / "ours", views, url)),
                       (NAME, partial(_apply_to_feast, folder / "feast", views, url))):  # fmt: skip
        made = work()
        began, spent = time.perf_counter(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store = made()
        wall[name], cpu[name] = time.perf_counter() - began, time.process_time() - spent
        assert len(store.list_feature_views()) >= views
    size = f"{views} views of {NARROW} features, SQLite"
    yield Result("Feast: apply", size, "s", wall, NAME, 1 if views >= 500 else None)
    yield Result("the same, CPU of the process", size, "s", cpu, NAME)


def _settings_of(folder: Path, stores: dict[str, Any]) -> dict[str, Any]:
    registry = {"registry_type": "sql", "path": f"sqlite:///{folder / 'registry.sqlite'}"}
    return {
        "project": "bench", "provider": "local", "registry": registry,
        "entity_key_serialization_version": 3, **stores,
    }  # fmt: skip


def _publish(folder: Path, views: int, url: str) -> Callable[[], Any]:
    from feast import FeatureStore as Feast

    from featurekit import FeatureStore

    folder.mkdir(parents=True)
    settings = _settings_of(folder, _ours(url)) | {"featurekit": {"publish": "feast"}}
    (folder / "feature_store.yaml").write_text(json.dumps(settings), encoding="utf-8")
    columns = ", ".join(f'"f{i}": float' for i in range(NARROW))
    sums = ", ".join(f'"sum_{i}": Sum("f{i}", window="7d")' for i in range(NARROW))
    lines = ["from featurekit import Entity, EventSource, FeatureView"]
    lines += [
        "from featurekit.aggregates import Sum",
        'key = Entity("key", join_keys={"key": int})',
    ]
    for i in range(views):
        lines += [
            f'source_{i} = EventSource("rows_{i}", path="rows_{i}.parquet", timestamp_field="at",',
            f'    schema={{"key": int, {columns}}})',
            f'view_{i} = FeatureView("view_{i}", entities=[key], source=source_{i},',
            f"    features={{{sums}}})",
        ]
    (folder / "features.py").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def apply() -> Any:
        with FeatureStore(folder) as store:
            store.apply()
        return Feast(repo_path=str(folder))

    return apply


def _apply_to_feast(folder: Path, views: int, url: str) -> Callable[[], Any]:
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
    from feast.types import Float64, Int64
    from feast.value_type import ValueType

    folder.mkdir(parents=True)
    key = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
    schema = [Field(name="key", dtype=Int64)]
    schema += [Field(name=f"f{i}", dtype=Float64) for i in range(NARROW)]
    made: list[Any] = [key]
    for i in range(views):
        source = FileSource(name=f"rows_{i}", path=f"rows_{i}.parquet", timestamp_field="at")
        made.append(
            FeatureView(
                name=f"view_{i}", entities=[key], ttl=365 * DAY, source=source, schema=schema
            )
        )
    config = RepoConfig(repo_path=folder, **_settings_of(folder, _own(url)))

    def apply() -> Any:
        store = FeatureStore(config=config)
        store.apply(made)
        return store

    return apply


if __name__ == "__main__":
    place, contender = sys.argv[1:]
    print(json.dumps(_alone(Path(place), contender)))
