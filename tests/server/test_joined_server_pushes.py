"""What is pushed over HTTP to either side of a join is what both paths answer (T11)."""

from __future__ import annotations

import datetime as dt
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pushing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import serving
from pushing import JSON, taking

from featurekit import FeatureStore
from featurekit.online.store.server import scratch_redis
from featurekit.parity.compare import bits

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, LastN

person = Entity("person", {"person": int})
item = Entity("item", {"item": int})
ids = {"timestamp_field": "at", "created_timestamp_column": "arrived", "event_id": "id",
       "dedupe_within": "10d"}
listed = EventSource("listed", path="data/listed.parquet",
                     schema={"id": int, "item": int, "price": float}, **ids)
bought = EventSource("bought", path="data/bought.parquet",
                     schema={"id": int, "person": int, "item": int}, **ids)
products = FeatureView("products", entities=[item], source=listed, features={"price": "price"})
joined = FeatureService("joined", features=[FeatureView(
    "spent", entities=[person], source=bought.join(products, on="item"),
    features={"prices": LastN("price", n=99, window="7d"), "lines": Count(window="7d")})])
"""
AT = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=1)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with scratch_redis() as url:
        (tmp_path / "data").mkdir()
        at = pa.array([AT], pa.timestamp("us", "UTC"))
        more = {"item": pa.array([1]), "at": at, "arrived": at, "id": pa.array([0])}
        pq.write_table(pa.table({**more, "price": [2.0]}), tmp_path / "data" / "listed.parquet")
        pq.write_table(pa.table({**more, "person": [7]}), tmp_path / "data" / "bought.parquet")
        serving.write(tmp_path, url)
        (tmp_path / "joined.py").write_text(textwrap.dedent(MODULE))
        (tmp_path / "pushed.py").write_text(textwrap.dedent(pushing.MODULE))
        for name in ("clicks", "orders", "lenient", "ruled"):
            table = pa.table({"key": pa.array([0]), "n": pa.array([0]), "at": at})
            pq.write_table(table, tmp_path / "data" / f"{name}.parquet")
        serving.fill(tmp_path)
        yield tmp_path


def test_pushes_over_http_to_either_side_are_what_both_paths_say(folder: Path) -> None:
    def at(minutes: float) -> str:
        return (AT + dt.timedelta(minutes=minutes)).isoformat()

    with taking(folder) as server, FeatureStore(folder) as store:

        def push(source: str, *rows: dict[str, object]) -> dict[str, object]:
            path = f"/v1/sources/{source}/events"
            status, _, told = server.ask("POST", path, {"rows": list(rows)}, JSON)
            assert status == 200, told
            return dict(json.loads(told))

        push("bought", {"id": 1, "person": 7, "item": 1, "at": at(1)})
        push("listed", {"id": 1, "item": 1, "price": 5.0, "at": at(2)})
        late = {"id": 2, "person": 7, "item": 1, "at": at(1.5)}
        push("bought", late, {"id": 3, "person": 7, "item": 1, "at": at(3)})
        assert push("bought", late)["repeated"] == 1
        found = store.get_online_features("joined", [{"person": 7}])
        frame = [{"person": 7, "event_timestamp": found.as_of}]
        (offline,) = store.get_historical_features(frame, "joined").to_pylist()
        (online,) = found.to_pylist()
        assert online == {"person": 7, "prices": [2.0, 2.0, 2.0, 5.0], "lines": 4}
        assert all(bits(online[name]) == bits(offline[name]) for name in online)
        path = "/v1/sources/listed/events"
        early = {"id": 9, "item": 1, "price": 1.0, "at": at(0), "arrived": at(0)}
        status, _, told = server.ask("POST", path, {"rows": [early]}, JSON)
        assert status >= 400
        assert "nothing was written" in str(told)
