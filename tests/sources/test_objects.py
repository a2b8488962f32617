"""Objects of S3 are read as files are, and what is not as it was is named."""

from __future__ import annotations

import datetime as dt
import gzip
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pytest
from s3_server import KEY, SECRET, S3Server

from featurekit import (
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    Modified,
)
from featurekit.aggregates import Count, Last, Sum
from featurekit.core import tables
from featurekit.core.types import INT
from featurekit.errors import BadRowError, DataError, DefinitionError, SourceError
from featurekit.sources import object_store, read_events

AT = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
LABELS = [{"k": k, "event_timestamp": AT} for k in range(4)]
customer = Entity("customer", {"k": int})


def table(*values: float, **more: Any) -> pa.Table:
    at = [AT - dt.timedelta(minutes=n) for n in range(len(values))]
    columns = {"k": [n % 3 for n in range(len(values))], "x": pa.array(values, pa.float64())}
    return pa.table({**columns, "at": pa.array(at, pa.timestamp("us", "UTC")), **more})


def source(path: str, **options: Any) -> EventSource:
    schema = options.pop("schema", {"k": int, "x": float})
    return EventSource("events", path=path, schema=schema, timestamp_field="at", **options)


def read(made: EventSource, state: Path | None = None) -> list[dict[str, Any]]:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'").fetchall()
        relation = read_events(con, made, base=Path(), state_dir=state).relation
        return tables.rows(con, relation, {**made.schema, "__ts": INT, "__created": INT})


def refused(made: EventSource, kind: type[Exception] = SourceError, **how: Any) -> str:
    with pytest.raises(kind) as error:
        read(made, **how)
    assert SECRET not in str(error.value)
    return str(error.value)


def service(path: str, **options: Any) -> FeatureService:
    features = {"n": Count(window="1d"), "x": Sum("x", window="1d"), "l": Last("x", window="1d")}
    made = source(path, **options)
    view = FeatureView("view", entities=[customer], source=made, features=features)
    return FeatureService("service", features=[view])


def wide(rows: int = 40_000) -> pa.Table:
    """A table that is mostly a column that nobody declares."""
    text = pa.array([f"{n * 2654435761 % 2**32:x}" * 4 for n in range(rows)])
    return table(*range(rows), other=text)


@pytest.mark.parametrize("glob", ["x/one.parquet", "x/*.parquet", "x/**/*.parquet"])
def test_an_object_is_read_as_a_file(s3: S3Server, tmp_path: Path, glob: str) -> None:
    s3.put_table("x/one.parquet", table(0.5, float("nan")))
    rows = read(source(f"s3://shop/{glob}"), tmp_path)
    assert [row["k"] for row in rows] == [0, 1]


def test_a_packed_csv_is_read(s3: S3Server, tmp_path: Path) -> None:
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table(0.5, 1.5), sink)
    path = s3.put("c/x.csv.gz", gzip.compress(sink.getvalue().to_pybytes()))
    assert [row["x"] for row in read(source(path), tmp_path)] == [0.5, 1.5]


def test_names_of_folders_are_columns(s3: S3Server) -> None:
    s3.put_table("h/day=2026-01-01/x.parquet", table(1.0))
    s3.put_table("h/day=__HIVE_DEFAULT_PARTITION__/x.parquet", table(2.0))
    made = source("s3://shop/h/*/*.parquet", schema={"x": float, "day": dt.date | None})
    found = sorted((row["x"], row["day"]) for row in read(made))
    assert found == [(1.0, dt.date(2026, 1, 1)), (2.0, None)]


def test_what_is_unchanged_is_not_fetched_again(s3: S3Server, tmp_path: Path) -> None:
    path = s3.put_table("u/x.parquet", table(1.0))
    made = source(path)
    assert len(read(made, tmp_path)) == 1
    asked = len(s3.asked())
    assert len(read(made, tmp_path)) == 1
    assert len(s3.asked()) == asked
    (copy,) = (tmp_path / "objects").glob("*.parquet")
    copy.write_bytes(copy.read_bytes()[:-1])  # it was damaged, and is fetched anew
    assert len(read(made, tmp_path)) == 1
    s3.put_table("u/x.parquet", table(1.0, 2.0))
    assert len(read(made, tmp_path)) == 2


@pytest.mark.parametrize("dictionaries", [False, True])
def test_columns_that_nobody_declares_are_not_fetched(
    s3: S3Server, tmp_path: Path, dictionaries: bool
) -> None:
    how = {"use_dictionary": dictionaries, "compression": "NONE"}
    path = s3.put_table("w/x.parquet", wide(), **how)
    rows = read(source(path), tmp_path)
    assert [row["x"] for row in rows] == [float(n) for n in range(40_000)]
    (copy,) = (tmp_path / "objects").glob("*.parquet")
    about = copy.stat()
    assert about.st_size > 2_000_000
    assert 512 * about.st_blocks < about.st_size / 2
    kept = read(source(path, schema={"k": int, "other": str}), tmp_path)
    assert kept[1]["other"] == "9e3779b1" * 4
    aside = source(path, on_bad_row="quarantine")
    assert len(read(aside, tmp_path)) == 40_000
    whole = max((tmp_path / "objects").glob("*.parquet"), key=lambda p: p.stat().st_blocks)
    assert 512 * whole.stat().st_blocks >= about.st_size


def test_a_bad_row_is_named_by_its_object(s3: S3Server, tmp_path: Path) -> None:
    path = s3.put_table("b/x.parquet", table(1.0, None, 2.0))
    said = refused(source(path), BadRowError)
    assert f"EventSource 'events', {path}, row 1 (the first is 0), column 'x': null" in said
    aside = source(path, on_bad_row="quarantine")
    assert len(read(aside, tmp_path)) == 2
    kept = pa.parquet.read_table(tmp_path / "quarantine" / "events.parquet").to_pylist()
    assert [row["__source_file"] for row in kept] == [path]


def test_a_text_that_stops_the_scan_is_named_where_columns_are_left_out(s3: S3Server) -> None:
    bad = pa.array([b"a", b"\xff"] * 20_000, pa.binary()).view(pa.string())
    made = wide().append_column("s", bad)
    path = s3.put_table("t/x.parquet", made, use_dictionary=False, compression="NONE")
    said = refused(source(path, schema={"k": int, "s": str}), BadRowError)
    assert f"{path}, row 1 (the first is 0), column 's': text that is not UTF-8" in said


def test_no_parquet_is_said_of_the_object(s3: S3Server) -> None:
    path = s3.put("n/x.parquet", b"no parquet" * 100_000)
    assert f"{path}: not a Parquet file that can be read" in refused(source(path))


# --- what is not there ----------------------------------------------------------------------------


def test_what_is_not_there_is_named(s3: S3Server) -> None:
    for path, said in {
        "s3://nobucket/x.parquet": "there is nothing at s3://nobucket/x.parquet",
        "s3://nobucket/*.parquet": "bucket does not exist",
        "s3://shop/none.parquet": "there is nothing at s3://shop/none.parquet",
        "s3://shop/none/*.parquet": "there is nothing at s3://shop/none/*.parquet",
    }.items():
        assert said in refused(source(path)), path
    s3.put("f/x.txt", b"")
    assert "no object matches 's3://shop/f/*.parquet'" in refused(source("s3://shop/f/*.parquet"))


def test_wrong_credentials_are_refused_without_showing_them(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = s3.put_table("p/x.parquet", table(1.0))
    made = source(path)
    s3.check_credentials(True)
    try:
        for one in (path, "s3://shop/p/*.parquet"):
            said = refused(source(one))
            assert f"{one} may not be read with the credentials of this environment" in said
            assert KEY not in said
    finally:
        s3.check_credentials(False)
    assert len(read(made)) == 1


def test_no_credentials_and_no_server_are_told_apart(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import s3fs

    path = s3.put_table("p/x.parquet", table(1.0))
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "cannot be read (Unable to locate credentials)" in refused(source(path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    assert "Could not connect to the endpoint URL" in refused(source(path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/hunter2secret")  # which is repeated
    s3fs.S3FileSystem.clear_instance_cache()
    said = refused(source(path))
    assert "127.0.0.1:1/***/" in said
    assert "hunter2" not in said
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("rows", [2, 40_000])
def test_an_object_that_is_replaced_while_it_is_read_is_an_error(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: int
) -> None:
    how = {"use_dictionary": False, "compression": "NONE"}
    path = s3.put_table("r/x.parquet", wide(rows), **how)
    asked = object_store.Store._needed

    def needed(self: Any, *told: Any) -> Any:
        found = asked(self, *told)
        s3.put_table("r/x.parquet", wide(rows).slice(1), **how)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(object_store.Store, "_needed", needed)
        said = refused(source(path), state=tmp_path)
    assert f"{path} changed while it was read; read it again" in said
    assert not [*(tmp_path / "objects").iterdir()]
    assert len(read(source(path), tmp_path)) == rows - 1


def test_an_object_that_vanishes_while_it_is_read_is_an_error(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = s3.put_table("v/x.parquet", table(1.0))
    listed = object_store.Store.listed

    def gone(self: Any) -> Any:
        found = listed(self)
        s3.delete("v/x.parquet")
        return found

    monkeypatch.setattr(object_store.Store, "listed", gone)
    assert f"there is nothing at {path}" in refused(source(path), state=tmp_path)
    assert not [*(tmp_path / "objects").iterdir()]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://key:hunter2@shop/x.parquet", "a password or a signature stands in the URL of s3://"),
        ("https://shop.example/x.parquet?sig=hunter2", "a password or a signature stands"),
        ("https://shop.example/*.parquet", "does not list its files; name one file"),
        ("s3:///x.parquet", r'as in "s3://bucket/orders/\*\.parquet"'),
        ("ftp://shop/x.parquet", "ftp:// is not read, but s3://, gs://"),
    ],
)
def test_a_path_that_names_no_object_is_refused_without_its_secret(path: str, said: str) -> None:
    with pytest.raises(DefinitionError, match=said) as error:
        source(path)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "module", "install"),
    [
        ("s3://shop/x.parquet", "s3fs", "featurekit[s3]"),
        ("gs://shop/x.parquet", "gcsfs", "gcsfs"),
        ("az://shop/x.parquet", "adlfs", "adlfs"),
        ("https://shop.example/x.parquet", "fsspec", "fsspec[http]"),
    ],
)
def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, path: str, module: str, install: str
) -> None:
    loaded = sys.modules.get("fsspec.registry")
    if loaded is not None:
        monkeypatch.setattr(loaded, "_registry", {})
        monkeypatch.setattr(loaded, "registry", {})
    monkeypatch.setitem(sys.modules, module, None)
    assert f"which is not installed; pip install '{install}'" in refused(source(path))


def test_an_object_arrives_when_it_was_last_modified(s3: S3Server, tmp_path: Path) -> None:
    """The same object with other columns is the same; one that was written anew is refused."""
    path = s3.put_table("t/x.parquet", wide(), compression="NONE")
    told = s3.client.head_object(Bucket="shop", Key="t/x.parquet")["LastModified"]
    us = (told - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    for schema in ({"k": int}, {"k": int, "other": str}):
        made = source(path, schema=schema, arrives=Modified())
        assert {row["__created"] for row in read(made, tmp_path)} == {us}
    kept = json.loads((tmp_path / "arrivals" / "events.json").read_text())
    assert [*kept["files"]] == [path]
    s3.put_table("t/x.parquet", table(1.0))
    said = refused(source(path, arrives=Modified()), state=tmp_path)
    assert f"{path} has another content than when it was first read" in said


# --- a store over them ----------------------------------------------------------------------------


def test_a_training_set_of_objects_is_made_again(s3: S3Server, tmp_path: Path) -> None:
    """From what is kept, from the bucket's versions, or not at all, and then it is named."""
    path, state = "s3://shop/m/*.parquet", tmp_path / "state"
    s3.put_table("m/a.parquet", table(0.1, 0.2, -0.0))
    s3.put_table("m/b.parquet", table(float("inf")))
    with FeatureStore(definitions=[service(path)], state_folder=state) as store:
        told = store.get_historical_features(LABELS, "service").to_parquet(tmp_path / "t.parquet")
        manifest = tmp_path / "t.parquet.manifest.json"
        files = told["sources"]["events"]["files"]
        assert [file["object"] for file in files] == [f"s3://shop/m/{n}.parquet" for n in "ab"]
        assert {"bytes", "etag", "version_id", "sha256"} <= files[0].keys()
        s3.put_table("m/a.parquet", table(7.0))
        s3.put_table("m/c.parquet", table(8.0))
        assert store.remake(manifest).manifest["content_hash"] == told["content_hash"]
        assert store.get_historical_features(LABELS, "service").to_pylist()[0]["n"] == 3
        for kept in state.rglob("objects/*"):
            kept.unlink()
        assert store.remake(manifest).manifest["content_hash"] == told["content_hash"]
        for kept in state.rglob("objects/*"):
            kept.unlink()
        s3.client.delete_object(Bucket="shop", Key="m/a.parquet", VersionId=files[0]["version_id"])
        with pytest.raises(DataError, match=r"m/a\.parquet") as error:
            store.remake(manifest)
        assert "b.parquet" not in str(error.value)


def test_no_secret_stands_in_what_is_written(s3: S3Server, tmp_path: Path) -> None:
    path = s3.put_table("z/x.parquet", table(1.0, 2.0))
    with FeatureStore(definitions=[service(path)], state_folder=tmp_path / "state") as store:
        store.apply()
        store.materialize(AT)
        assert store.check_parity("service", budget=200).ok
        store.get_historical_features(LABELS, "service").to_parquet(tmp_path / "t.parquet")
        kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
        assert path.encode() in kept
        for secret in (SECRET, KEY):
            assert secret.encode() not in kept
        with pytest.raises(SourceError, match=r"z/x\.parquet are not rewritten"):
            store.forget("customer", {"k": 1}, rewrite_files=True)
        s3.put_table("z/x.parquet", table(1.0, 2.0, 3.0))
        store.get_historical_features(LABELS, "service").to_arrow()
        folder = next((tmp_path / "state").rglob("objects"))
        assert len([*folder.glob("*.parquet")]) == 2
        forgot = store.forget("customer", {"k": 0})
        assert [file.path for file in forgot.files] == [path]
        assert len([*folder.glob("*.parquet")]) == 1  # the older one has the entity's rows, too
        store.gc()
        assert len([*folder.iterdir()]) == 2


def test_a_plan_fetches_two_objects_and_keeps_none(s3: S3Server, tmp_path: Path) -> None:
    for n in range(5):
        s3.put_table(f"many/{n}.parquet", table(1.0))
    made = service("s3://shop/many/*.parquet")
    with FeatureStore(definitions=[made], state_folder=tmp_path / "state") as store:
        before = len(s3.asked())
        (checked,) = store.check_sources()
        assert (checked.files, checked.faults, checked.missing) == (5, (), None)
        assert len(s3.asked()) == before + 2
        assert not [*(tmp_path / "state").rglob("objects/*")]
    made = service("s3://shop/none.parquet")
    with FeatureStore(definitions=[made], state_folder=tmp_path / "state") as store:
        (checked,) = store.check_sources()
        assert "there is nothing at s3://shop/none.parquet" in str(checked.faults[0])


# --- a web server ---------------------------------------------------------------------------------


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    (tmp_path / "web").mkdir()
    handler = partial(_Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", tmp_path / "web"
        server.shutdown()


def test_a_file_of_a_web_server_is_read_each_time(web: tuple[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: nothing reads http://")
    url, folder = web
    for n in range(1, 4):  # it tells no version of a file
        pa.parquet.write_table(table(*range(n)), folder / "x.parquet")
        assert len(read(source(f"{url}/x.parquet"), tmp_path / "state")) == n
    (note,) = {json.loads(p.read_text())["about"]["object"] for p in tmp_path.rglob("*.json")
               if "about" in p.read_text()}  # fmt: skip
    assert note == f"{url}/x.parquet"
    timed = read(source(f"{url}/x.parquet", arrives=Modified()), tmp_path / "state")
    told = int((folder / "x.parquet").stat().st_mtime) * 1_000_000  # a header has whole seconds
    assert {row["__created"] for row in timed} == {told}
    assert f"there is nothing at {url}/y.parquet" in refused(source(f"{url}/y.parquet"))
