"""Objects of Google Cloud Storage are read as files are, from a server with its API on loopback."""

from __future__ import annotations

import datetime as dt
import io
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import EventSource
from featurekit.core import tables
from featurekit.core.types import INT
from featurekit.errors import SourceError
from featurekit.sources import read_events

pytest.importorskip("gcsfs", reason="gcsfs is not installed: nothing reads gs://")
pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator is not installed")
AT = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
SERVER = """
import sys
from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="shop").run()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("gcs") / "gcs.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(port)], stdout=out, stderr=out
        )
    try:
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server, which the environment names."""
    import gcsfs

    gcsfs.GCSFileSystem.clear_instance_cache()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    return server


def put(url: str, name: str, *values: float) -> None:
    at = pa.array([AT] * len(values), pa.timestamp("us", "UTC"))
    rows = pa.table({"k": list(range(len(values))), "x": pa.array(values), "at": at})
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    to = f"{url}/upload/storage/v1/b/shop/o?uploadType=media&name={quote(name, safe='')}"
    asked = urllib.request.Request(to, data=sink.getvalue(), method="POST")
    with urllib.request.urlopen(asked, timeout=10) as reply:
        assert reply.status == 200


def read(path: str, state: Path, **schema: Any) -> list[tuple[Any, ...]]:
    source = EventSource("events", path=path, schema={"k": int, "x": float, **schema},
                         timestamp_field="at")  # fmt: skip
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'").fetchall()
        relation = read_events(con, source, base=Path(), state_dir=state).relation
        found = tables.rows(con, relation, {**source.schema, "__ts": INT, "__created": INT})
    return sorted(tuple(map(repr, row.values()))[: 2 + len(schema)] for row in found)


def test_an_object_is_read_as_a_file_is(url: str, tmp_path: Path) -> None:
    put(url, "a/x.parquet", 0.5, float("nan"), -0.0)
    wanted = [("0", "0.5"), ("1", "nan"), ("2", "-0.0")]
    for path in ("gs://shop/a/x.parquet", "gs://shop/a/*.parquet"):
        assert read(path, tmp_path) == wanted


def test_names_of_folders_are_columns(url: str, tmp_path: Path) -> None:
    put(url, "h/day=2026-01-01/x.parquet", 1.0)
    put(url, "h/day=__HIVE_DEFAULT_PARTITION__/x.parquet", 2.0)
    found = read("gs://shop/h/*/*.parquet", tmp_path, day=str | None)
    assert found == [("0", "1.0", "'2026-01-01'"), ("0", "2.0", "None")]


def test_an_object_that_was_written_again_is_another_one(url: str, tmp_path: Path) -> None:
    put(url, "w/x.parquet", 1.0)
    assert read("gs://shop/w/x.parquet", tmp_path) == [("0", "1.0")]
    put(url, "w/x.parquet", 9.0)
    assert read("gs://shop/w/x.parquet", tmp_path) == [("0", "9.0")]


def test_what_is_not_there_is_told(url: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is nothing at gs://shop/none\.parquet"):
        read("gs://shop/none.parquet", tmp_path)
    with pytest.raises(SourceError, match=r"there is nothing at gs://shop/none/\*\.parquet"):
        read("gs://shop/none/*.parquet", tmp_path)
