"""Objects of Azure's Blob Storage are read as files are, from Microsoft's own Azurite on loopback.

`azurite-blob` comes from the package `azurite` of npm. It is looked for on the PATH.
"""

from __future__ import annotations

import datetime as dt
import io
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import EventSource
from featurekit.core import tables
from featurekit.core.types import INT
from featurekit.errors import SourceError
from featurekit.sources import read_events

pytest.importorskip("adlfs", reason="adlfs is not installed: nothing reads az://")
AZURITE = shutil.which("azurite-blob")
if AZURITE is None:
    pytest.skip("azurite-blob is not on the PATH: nothing answers az://", allow_module_level=True)
AT = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and the key that every Azurite has."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What connects to a server of its own, with an empty container `shop`."""
    from azure.storage.blob import ContainerClient

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("azurite")
    log = folder / "azurite.log"
    asked = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(AZURITE), *asked, "--skipApiVersionCheck"],
            cwd=folder,
            stdout=out,
            stderr=out,
        )
    try:
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
        )
        with ContainerClient.from_connection_string(connection, "shop") as container:
            container.create_container()
        yield connection
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server, which the environment names."""
    import adlfs

    adlfs.AzureBlobFileSystem.clear_instance_cache()
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", server)
    return server


def put(url: str, name: str, *values: float) -> None:
    from azure.storage.blob import BlobClient

    at = pa.array([AT] * len(values), pa.timestamp("us", "UTC"))
    rows = pa.table({"k": list(range(len(values))), "x": pa.array(values), "at": at})
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    with BlobClient.from_connection_string(url, "shop", name) as blob:
        blob.upload_blob(sink.getvalue(), overwrite=True)


def read(path: str, state: Path, **schema: Any) -> list[tuple[Any, ...]]:
    source = EventSource("events", path=path, schema={"k": int, "x": float, **schema},
                         timestamp_field="at")  # fmt: skip
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'").fetchall()
        relation = read_events(con, source, base=Path(), state_dir=state).relation
        found = tables.rows(con, relation, {**source.schema, "__ts": INT, "__created": INT})
    return sorted(tuple(map(repr, row.values()))[: 2 + len(schema)] for row in found)


def test_a_blob_is_read_as_a_file_is(url: str, tmp_path: Path) -> None:
    put(url, "a/x.parquet", 0.5, float("nan"), -0.0)
    wanted = [("0", "0.5"), ("1", "nan"), ("2", "-0.0")]
    for path in ("az://shop/a/x.parquet", "az://shop/a/*.parquet", "abfs://shop/a/*.parquet"):
        assert read(path, tmp_path) == wanted


def test_names_of_folders_of_blobs_are_columns(url: str, tmp_path: Path) -> None:
    put(url, "h/day=2026-01-01/x.parquet", 1.0)
    put(url, "h/day=__HIVE_DEFAULT_PARTITION__/x.parquet", 2.0)
    found = read("az://shop/h/*/*.parquet", tmp_path, day=str | None)
    assert found == [("0", "1.0", "'2026-01-01'"), ("0", "2.0", "None")]


def test_a_blob_that_was_written_again_is_another_one(url: str, tmp_path: Path) -> None:
    put(url, "w/x.parquet", 1.0)
    assert read("az://shop/w/x.parquet", tmp_path) == [("0", "1.0")]
    put(url, "w/x.parquet", 9.0)
    assert read("az://shop/w/x.parquet", tmp_path) == [("0", "9.0")]


def test_a_blob_that_is_not_there_is_told_without_a_key(url: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is nothing at az://shop/none\.parquet") as one:
        read("az://shop/none.parquet", tmp_path)
    with pytest.raises(SourceError, match=r"az://shop/none/\*\.parquet|there is nothing") as other:
        read("az://shop/none/*.parquet", tmp_path)
    for error in (one, other):
        assert KEY not in str(error.value)
