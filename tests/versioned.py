"""A feature repo that is written again and again, as versions."""

from __future__ import annotations

import datetime as dt
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit import FeatureStore

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Sum

entity = Entity("entity", join_keys={"k": int})
source = EventSource(
    "events", path="events.parquet", schema=SCHEMA,
    timestamp_field="ts", created_timestamp_column="arrived",
)
latest = FeatureView(
    "latest", entities=[entity], source=source, features={"x": "x"}, history="1000d"
)
window = FeatureView(
    "window", entities=[entity], source=source,
    features={"sum": Sum("x", window="WINDOW")}, history="1000d",
)
service = FeatureService("service", features=[latest, window])
"""
SETTINGS = "project: versions\nprovider: local\nonline_store:\n  type: redis\n"


def at(second: int) -> dt.datetime:
    return dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=second)


class Repo:
    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        (folder / "feature_store.yaml").write_text(SETTINGS)
        self.define()

    def define(self, *, window: str = "30d", schema: str = '{"k": int, "x": int}') -> None:
        text = MODULE.replace("WINDOW", window).replace("SCHEMA", schema)
        (self.folder / "definitions.py").write_text(textwrap.dedent(text))

    def files(self, *rows: tuple[int, int, int]) -> None:
        """Rows of key, value and second; each arrived when it happened."""
        times = pa.array([at(s) for *_, s in rows], type=pa.timestamp("us", tz="UTC"))
        columns = {"k": [k for k, *_ in rows], "x": [x for _, x, _ in rows]}
        table = pa.table({**columns, "ts": times, "arrived": times})
        pq.write_table(table, self.folder / "events.parquet")

    def store(self) -> FeatureStore:
        return FeatureStore(self.folder, redis_url=self.url)

    def both(self, key: int, when: dt.datetime) -> tuple[Any, Any]:
        """Values and statuses, offline and online."""
        store = self.store()
        frame = [{"k": key, "event_timestamp": when}]
        row = store.get_historical_features(frame, "service", statuses=True).to_arrow().to_pylist()
        offline = {n: (row[0][n], row[0][f"{n}__status"]) for n in ("x", "sum")}
        result = store.get_online_features("service", [{"k": key}], as_of=when)
        online = {n: (result.columns[n][0], result.status[n][0]) for n in ("x", "sum")}
        store.close()
        return offline, online

    def push(self, **row: Any) -> None:
        with self.store() as store:
            store.push("events", row)

    def deploy(self) -> None:
        with self.store() as store:
            store.apply()
            store.materialize()


DAY_US = 86_400_000_000


def deploy(repo: Repo, *windows: str) -> list[str]:
    """Apply and materialise a version for each window; their fingerprints."""
    found = []
    for window in windows:
        repo.define(window=window)
        repo.deploy()
        with repo.store() as store:
            found.append(store.repo.compiled_services["service"].fingerprint)
    return found


def live_days(repo: Repo) -> int:
    with repo.store() as store:
        return store.live()["service"].views[1].retain_us // DAY_US
