"""Snapshots of Iceberg tables are read as the library reads them, in place or through a copy."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import origins
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, Iceberg
from featurekit.aggregates import Count, Sum
from featurekit.core import tables
from featurekit.core.types import INT
from featurekit.errors import DataError, DefinitionError, SourceError
from featurekit.sources import read_events

pytest.importorskip("pyiceberg", reason="pyiceberg is not installed (locks/lakes.txt)")

AT = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
LABELS = [{"k": k, "event_timestamp": AT} for k in range(4)]
KX: dict[str, Any] = {"k": int, "x": float | None}
customer = Entity("customer", {"k": int})


def table(*values: float | None, first: int = 0, **types: pa.DataType) -> pa.Table:
    rows = range(first, first + len(values))
    columns = {
        "k": pa.array(rows, types.get("k", pa.int64())),
        "x": pa.array(values, types.get("x", pa.float64())),
        "at": pa.array([AT] * len(values), pa.timestamp("us", "UTC")),
    }
    return pa.table(columns)


@pytest.fixture
def lake(tmp_path: Path) -> Callable[..., Any]:
    return lambda schema, **how: origins.iceberg_table(tmp_path, schema, **how)


def origin(folder: Path, **how: Any) -> Iceberg:
    return Iceberg("shop.events", catalog=origins.iceberg_catalog(folder), **how)


def source(of: Iceberg, schema: dict[str, Any] | None = None, **options: Any) -> EventSource:
    options = {"timestamp_field": "at", "schema": schema or KX, **options}
    return EventSource("events", origin=of, **options)


def read(made: EventSource, state: Path | None = None) -> list[tuple[Any, ...]]:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'").fetchall()
        found = read_events(con, made, base=Path(), state_dir=state)
        rows = tables.rows(con, found.relation, {**made.schema, "__ts": INT})
        assert found.rows == len(rows)
    return sorted((tuple(row[name] for name in made.schema) for row in rows), key=repr)


def refused(made: EventSource) -> str:
    with pytest.raises(SourceError) as error:
        read(made)
    return str(error.value)


def copied(state: Path) -> int:
    return len([*state.glob("copies/*.parquet")])


def service(of: Iceberg, schema: dict[str, Any] | None = None) -> FeatureService:
    made = source(of, schema)
    amount = next(name for name in made.schema if name != "k")
    features = {"n": Count(window="1d"), "x": Sum(amount, window="1d")}
    view = FeatureView("view", entities=[customer], source=made, features=features)
    return FeatureService("service", features=[view])


def test_files_of_a_snapshot_are_read_where_they_lie(tmp_path: Path, lake: Any) -> None:
    made = lake(table().schema)
    made.append(table(0.5, float("nan")))
    made.append(table(None, first=2))
    found = read(source(origin(tmp_path)), tmp_path / "state")
    assert repr(found) == "[(0, 0.5), (1, nan), (2, None)]"
    assert copied(tmp_path / "state") == 0
    by_file = Iceberg(metadata=made.metadata_location.removeprefix("file://"))
    assert repr(read(source(by_file))) == repr(found)


def test_a_snapshot_is_pinned_by_number_or_instant(tmp_path: Path, lake: Any) -> None:
    made = lake(table().schema)
    for n in range(3):
        made.append(table(0.5, first=n))
        time.sleep(0.002)
    snapshots = sorted(made.snapshots(), key=lambda s: s.timestamp_ms)
    for n, one in enumerate(snapshots, 1):
        assert len(read(source(origin(tmp_path, snapshot_id=one.snapshot_id)))) == n
        at = dt.datetime.fromtimestamp(one.timestamp_ms / 1000, dt.UTC)
        assert len(read(source(origin(tmp_path, as_of=at)))) == n
    early = refused(source(origin(tmp_path, as_of="2020-01-01T00:00:00+00:00")))
    assert "its first snapshot that is kept is a later one" in early
    assert "it keeps no snapshot 7 any more" in refused(source(origin(tmp_path, snapshot_id=7)))


def test_a_table_without_a_snapshot_has_no_rows(tmp_path: Path, lake: Any) -> None:
    lake(table().schema)
    assert read(source(origin(tmp_path)), tmp_path / "state") == []


def test_columns_that_were_renamed_added_and_widened_are_found_by_their_ids(
    tmp_path: Path, lake: Any
) -> None:
    from pyiceberg.types import DoubleType, LongType, StringType

    narrow = table(0.5, 1.5, k=pa.int32(), x=pa.float32())
    made = lake(narrow.schema)
    made.append(narrow)
    first = made.current_snapshot().snapshot_id
    with made.update_schema() as change:
        change.update_column("k", LongType())
        change.update_column("x", DoubleType())
        change.add_column("note", StringType())
    state = tmp_path / "state"
    schema = {"k": int, "x": float, "note": str | None}
    assert read(source(origin(tmp_path), schema), state) == [(0, 0.5, None), (1, 1.5, None)]
    assert copied(state) == 0  # they are what they are, whatever the width
    with made.update_schema() as change:
        change.rename_column("x", "price")
        change.rename_column("note", "x")  # a name that means another column now
    made.append(pa.table({"k": [2**40], "price": [0.25], "at": [AT], "x": ["new"]}))
    schema = {"k": int, "price": float, "x": str | None}
    rows = [(0, 0.5, None), (1, 1.5, None), (2**40, 0.25, "new")]
    assert read(source(origin(tmp_path), schema), state) == rows
    assert copied(state) == 1
    then = source(origin(tmp_path, snapshot_id=first), {"k": int, "x": float})
    assert read(then) == [(0, 0.5), (1, 1.5)]
    assert "there is no column 'prize'; did you mean 'price'?" in refused(
        source(origin(tmp_path), {"prize": float})
    )


def test_columns_that_changed_their_names_keep_their_values(tmp_path: Path, lake: Any) -> None:
    both = table(0.5, 1.5).append_column("y", pa.array([2.5, 3.5]))
    made = lake(both.schema)
    made.append(both)
    for old, new in (("x", "z"), ("y", "x"), ("z", "y")):
        with made.update_schema() as change:
            change.rename_column(old, new)
    schema = {"k": int, "x": float, "y": float}
    assert read(source(origin(tmp_path), schema)) == [(0, 2.5, 0.5), (1, 3.5, 1.5)]


def test_a_column_that_was_dropped_and_came_again_is_another_one(tmp_path: Path, lake: Any) -> None:
    from pyiceberg.types import DoubleType

    made = lake(table().schema)
    made.append(table(0.5))
    with made.update_schema() as change:
        change.delete_column("x")
    with made.update_schema() as change:
        change.add_column("x", DoubleType())
    made.append(table(1.5, first=1))
    assert read(source(origin(tmp_path))) == [(0, None), (1, 1.5)]


def test_partitions_are_read(tmp_path: Path, lake: Any) -> None:
    from pyiceberg.transforms import IdentityTransform

    made = lake(table().schema)
    made.append(table(0.5, 1.5))
    with made.update_spec() as change:
        change.add_field("k", IdentityTransform())
        change.add_field("x", IdentityTransform())
    made.append(table(2.5, 3.5, first=2))
    assert read(source(origin(tmp_path))) == [(0, 0.5), (1, 1.5), (2, 2.5), (3, 3.5)]


def delete_rows(made: Any, *rows: int) -> None:
    """Commit a snapshot with a file that deletes rows of the only data file by their places, as
    engines with merge-on-read do."""
    from pyiceberg import manifest
    from pyiceberg.table import snapshots, update
    from pyiceberg.typedef import Record

    (task,) = made.scan().plan_files()
    before = made.current_snapshot()
    fields = [
        pa.field("file_path", pa.string(), False, {"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), False, {"PARQUET:field_id": "2147483545"}),
    ]
    given = [[task.file.file_path] * len(rows), list(rows)]
    folder = Path(made.location().removeprefix("file://"))
    path = folder / "data" / "deletes.parquet"
    pq.write_table(pa.table(given, schema=pa.schema(fields)), path)
    deleted = manifest.DataFile.from_args(
        content=manifest.DataFileContent.POSITION_DELETES,
        file_path=f"file://{path}",
        file_format=manifest.FileFormat.PARQUET,
        partition=Record(),
        record_count=len(rows),
        file_size_in_bytes=path.stat().st_size,
        column_sizes={},
        value_counts={},
        null_value_counts={},
        nan_value_counts={},
        lower_bounds={},
        upper_bounds={},
        split_offsets=[],
        spec_id=0,
    )

    class Deletes(manifest.ManifestWriterV2):
        def content(self) -> Any:
            return manifest.ManifestContent.DELETES

    number = before.snapshot_id + 1
    out = made.io.new_output(f"file://{folder}/metadata/deletes.avro")
    writer = Deletes(made.spec(), made.schema(), out, number, "gzip")
    with writer:
        added = manifest.ManifestEntryStatus.ADDED
        entry = manifest.ManifestEntry.from_args(
            status=added, snapshot_id=number, data_file=deleted
        )
        writer.add_entry(entry)
    listed = f"file://{folder}/metadata/list.avro"
    sequence = made.metadata.last_sequence_number + 1
    how = (2, made.io.new_output(listed), number, before.snapshot_id, sequence, "gzip")
    with manifest.write_manifest_list(*how) as lists:
        lists.add_manifests([writer.to_manifest_file(), *before.manifests(made.io)])
    snapshot = snapshots.Snapshot(
        snapshot_id=number,
        parent_snapshot_id=before.snapshot_id,
        sequence_number=sequence,
        timestamp_ms=before.timestamp_ms + 1,
        manifest_list=listed,
        summary=snapshots.Summary(snapshots.Operation.DELETE),
        schema_id=made.schema().schema_id,
    )
    ref = update.SetSnapshotRefUpdate(
        snapshot_id=number, parent_snapshot_id=before.snapshot_id, ref_name="main", type="branch"
    )
    changes = (update.AddSnapshotUpdate(snapshot=snapshot), ref)
    made.catalog.commit_table(made, (), changes)
    made.refresh()


def test_rows_that_are_deleted_on_read_are_not_read(tmp_path: Path, lake: Any) -> None:
    made = lake(table().schema)
    made.append(table(0.5, 1.5, 2.5, 3.5))
    first = made.current_snapshot().snapshot_id
    delete_rows(made, 1, 3)
    state = tmp_path / "state"
    assert read(source(origin(tmp_path)), state) == [(0, 0.5), (2, 2.5)]
    assert copied(state) == 1
    assert len(read(source(origin(tmp_path, snapshot_id=first)))) == 4
    with FeatureStore(definitions=[service(origin(tmp_path))]) as store:
        trained = store.get_historical_features(LABELS, "service")
        assert [row["n"] for row in trained.to_pylist()] == [1, 0, 1, 0]
        assert store.check_parity("service", budget=100).ok


def test_a_training_set_is_made_again_after_the_table_moved_on(tmp_path: Path, lake: Any) -> None:
    """Renames are no snapshots: the schema is a part of what was read."""
    made = lake(table().schema)
    made.append(table(0.1, -0.0, 0.2))
    with made.update_schema() as change:
        change.rename_column("x", "price")
    schema = {"k": int, "price": float | None}
    manifest = tmp_path / "t.parquet.manifest.json"
    folder = {"state_folder": tmp_path / "state"}
    with FeatureStore(definitions=[service(origin(tmp_path), schema)], **folder) as store:
        told = store.get_historical_features(LABELS, "service").to_parquet(tmp_path / "t.parquet")
        about = told["sources"]["events"]["files"][0]
        assert about["snapshot_id"] == made.current_snapshot().snapshot_id
        assert about["schema_id"] == 1
        made.append(pa.table({"k": [0], "price": [7.0], "at": [AT]}))
        made.delete("k == 1")
        with made.update_schema() as change:
            change.rename_column("price", "cost")
        for kept in (tmp_path / "state").rglob("copies/*"):
            kept.unlink()
        assert store.remake(manifest).manifest["content_hash"] == told["content_hash"]
        made.maintenance.expire_snapshots().by_id(about["snapshot_id"]).commit()
        with pytest.raises(DataError, match=f"it keeps no snapshot {about['snapshot_id']} any"):
            store.remake(manifest)


# --- what is not there ----------------------------------------------------------------------------


def test_what_is_not_there_is_named(tmp_path: Path, lake: Any) -> None:
    lake(table().schema)
    catalog = origins.iceberg_catalog(tmp_path)
    for of, said in {
        Iceberg("shop.none", catalog=catalog): "Table does not exist: shop.none",
        Iceberg("shop.none", catalog="nowhere"): "it cannot be read (URI missing",
        Iceberg("a.b", catalog={"type": "sql", "uri": "sqlite:////none/x"}): "unable to open",
        Iceberg(metadata="none.metadata.json"): "there is no file 'none.metadata.json'",
        Iceberg("a.b", catalog={"type": "none"}): "it cannot be read (",
    }.items():
        assert said in refused(source(of))


def test_secrets_of_a_catalogue_come_from_the_environment(
    tmp_path: Path, lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake(table().schema).append(table(0.5))
    catalog = {**origins.iceberg_catalog(tmp_path), "s3.secret-access-key": "${LAKE_KEY}"}
    made = source(Iceberg("shop.events", catalog=catalog))
    assert "the environment has no variable 'LAKE_KEY'; set it" in refused(made)
    monkeypatch.setenv("LAKE_KEY", "hunter2 of the lake")
    assert len(read(made, tmp_path / "state")) == 1
    kept = b"".join(p.read_bytes() for p in (tmp_path / "state").rglob("*") if p.is_file())
    assert b"hunter2" not in kept
    monkeypatch.setenv("LAKE_KEY", "none")
    broken = {"type": "sql", "uri": "sqlite:////${LAKE_KEY}/x"}
    said = refused(source(Iceberg("a.b", catalog=broken)))
    assert "unable to open" in said
    with pytest.raises(DefinitionError, match="a secret stands in 's3"):
        Iceberg("a.b", catalog={"s3.secret-access-key": "hunter2"})
    with pytest.raises(DefinitionError, match="a secret stands in 'uri'") as error:
        Iceberg("a.b", catalog={"uri": "postgresql://a:hunter2@b/c"})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Iceberg(), "write a table and its catalog"),
        (lambda: Iceberg("orders", catalog="lake"), "write a table and its catalog"),
        (lambda: Iceberg("shop.orders"), "write a table and its catalog"),
        (lambda: Iceberg("a.b", catalog="c", metadata="x.json"), "its metadata file, alone"),
        (lambda: Iceberg("a.b", catalog={"uri": 3}), "catalog is the name of a catalogue, or"),
        (lambda: Iceberg("a.b", catalog="c", snapshot_id="7"), "snapshot_id is a number, found"),
        (lambda: Iceberg("a.b", catalog="c", as_of="2026-01-01"), "as_of is an instant with its"),
        (
            lambda: Iceberg("a.b", catalog="c", snapshot_id=1, as_of=AT),
            "snapshot_id and as_of both say",
        ),
    ],
)
def test_what_is_no_table_is_refused(make: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        make()


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg", None)
    said = refused(source(Iceberg("a.b", catalog="c")))
    assert "pip install 'featurekit[iceberg]'" in said
