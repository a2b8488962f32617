"""A training set as versions of a Delta Lake table: every bit is read back, each version has its
manifest, and what the table cannot hold is refused before anything is written."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, Vector
from featurekit.aggregates import Count, Last, Sum, ValueCounts
from featurekit.errors import DataError
from featurekit.offline.delta_table import content_hash

deltalake = pytest.importorskip("deltalake", reason="featurekit[delta] is not installed")
AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
FLOATS = [0.1, -0.0, math.nan, 5e-324, math.inf, -math.inf, 1e308, 0.1 + 0.2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    n = len(FLOATS)
    pq.write_table(
        pa.table({
            "k": list(range(n)),
            "x": FLOATS,
            "s": [None, "", "a\x00b", "é", "\U0001f600", "\n", "'", "text"],
            "b": [bytes([i]) * i for i in range(n)],
            "v": pa.array([[f, -0.0] for f in FLOATS], pa.list_(pa.float32(), 2)),
            "span": pa.array([dt.timedelta(seconds=i) for i in range(n)], pa.duration("us")),
            "at": pa.array([AT] * n, pa.timestamp("us", "UTC")),
        }),
        tmp_path / "events.parquet",
    )  # fmt: skip
    source = EventSource(
        "events", path=str(tmp_path / "events.parquet"), timestamp_field="at",
        schema={"k": int, "x": float, "s": str | None, "b": bytes, "v": Vector[2],
                "span": dt.timedelta},
    )  # fmt: skip
    customer = Entity("customer", {"k": int})
    view = FeatureView("view", entities=[customer], source=source, features={
        "x": Last("x", window="9d"), "s": Last("s", window="9d"), "b": Last("b", window="9d"),
        "v": Last("v", window="9d"), "n": Count(window="9d"), "total": Sum("x", window="9d"),
        "counts": ValueCounts("s", window="9d"),
    })  # fmt: skip
    spans = FeatureView("spans", entities=[customer], source=source,
                        features={"span": Last("span", window="9d")})  # fmt: skip
    services = [FeatureService("held", features=[view]), FeatureService("spans", features=[spans])]
    with FeatureStore(definitions=services) as made:
        yield made


def frame(rows: int = len(FLOATS)) -> pa.Table:
    return pa.table({
        "k": pa.array(range(rows), pa.int64()),
        "note": pa.array(["a", None] * (rows // 2), pa.large_string()),
        "event_timestamp": pa.array([AT + dt.timedelta(days=1)] * rows, pa.timestamp("us", "UTC")),
    })  # fmt: skip


def training(store: FeatureStore, service: str = "held", rows: int = len(FLOATS)) -> Any:
    return store.get_historical_features(frame(rows), service, statuses=True)


def read(folder: Path, version: int) -> pa.Table:
    (file,) = deltalake.DeltaTable(folder, version=version).file_uris()
    return pq.read_table(file)


def test_a_version_is_read_back_with_the_same_content_hash(
    store: FeatureStore, tmp_path: Path
) -> None:
    made = training(store)
    told = made.to_delta(tmp_path / "churn")
    assert told["delta"]["version"] == 0
    assert told["content_hash"] == made.manifest["content_hash"]
    back = read(tmp_path / "churn", 0)
    whole_table = made.to_arrow()
    assert back.column_names == whole_table.column_names
    again = tmp_path / "again.parquet"
    pq.write_table(back, again)
    assert content_hash(again, whole_table.schema) == told["content_hash"]
    changed = back.set_column(3, "x", pa.array([0.0, *FLOATS[1:]]))
    pq.write_table(changed, again)
    assert content_hash(again, whole_table.schema) != told["content_hash"]


def test_each_write_is_a_version_with_a_manifest_and_labels_of_its_own(
    store: FeatureStore, tmp_path: Path
) -> None:
    told = [training(store, rows=rows).to_delta(tmp_path / "churn") for rows in (8, 4)]
    assert [one["delta"]["version"] for one in told] == [0, 1]
    for number, (one, rows) in enumerate(zip(told, (8, 4), strict=True)):
        beside = tmp_path / f"churn.v{number}.manifest.json"
        assert json.loads(beside.read_text()) == one
        assert read(tmp_path / "churn", number).num_rows == one["rows"] == rows
        again = store.remake(beside)
        assert again.manifest["content_hash"] == one["content_hash"]
    table = deltalake.DeltaTable(tmp_path / "churn")
    hashes = [one["featurekit.content_hash"] for one in table.history()]
    assert hashes == [one["content_hash"] for one in reversed(told)]
    names = {path.name for path in tmp_path.iterdir()}
    beside = {f"churn.v{i}.{kind}" for i in (0, 1) for kind in ("manifest.json", "labels.arrow")}
    assert names == {"churn", "events.parquet", *beside}


def test_a_column_that_delta_does_not_hold_is_refused_by_name(
    store: FeatureStore, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"'span' \(duration\[us\]\)"):
        training(store, "spans").to_delta(tmp_path / "spans")
    odd = frame().append_column("odd", pa.array(range(8), pa.uint64()))
    with pytest.raises(DataError, match=r"'odd' \(uint64\)"):
        store.get_historical_features(odd, "held").to_delta(tmp_path / "odd")
    assert [path.name for path in tmp_path.iterdir()] == ["events.parquet"]


def test_what_is_there_already_is_not_overwritten(store: FeatureStore, tmp_path: Path) -> None:
    made = training(store)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    deltalake.write_deltalake(str(tmp_path / "other"), pa.table({"a": [1]}))
    for name, said in (
        ("full", "is no Delta Lake table"),
        ("events.parquet", "is no Delta Lake table"),
        ("other", "to_delta did not make"),
        ("none/churn", "does not exist"),
    ):
        with pytest.raises(DataError, match=said):
            made.to_delta(tmp_path / name)
    assert deltalake.DeltaTable(tmp_path / "other").version() == 0


def test_a_version_that_reads_back_otherwise_is_told(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = training(store)

    class Careless(pq.ParquetWriter):  # type: ignore[misc]
        def write_batch(self, batch: Any, *words: Any) -> None:
            place = batch.schema.get_field_index("x")
            plain = pa.array([0.0 if v == 0.0 else v for v in batch.column(place).to_pylist()])
            columns = [plain if i == place else c for i, c in enumerate(batch.columns)]
            super().write_batch(pa.RecordBatch.from_arrays(columns, schema=batch.schema))

    monkeypatch.setattr(pq, "ParquetWriter", Careless)
    with pytest.raises(DataError, match="read back with other rows"):
        made.to_delta(tmp_path / "churn")
    assert not [*tmp_path.glob("*.manifest.json")]
