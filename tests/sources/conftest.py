"""What tests of origins share: a PostgreSQL of their own, and a way to write events anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import origins
import pyarrow as pa
import pytest
import s3_server
from origins import PostgresServer, server_binaries
from s3_server import S3Server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of its own, where this machine has a server."""
    binaries = server_binaries()
    if binaries is None:
        pytest.skip("no server of PostgreSQL in /usr/lib/postgresql or on PATH: nothing to read")
    # Not tmp_path, whose folders nobody else may enter.
    with TemporaryDirectory(prefix="pg-") as folder, PostgresServer(Path(folder), binaries) as made:
        yield made


@pytest.fixture
def write(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Writes a table into an origin of a kind; gives the options of a source that reads it."""
    for name, value in origins.environment().items():
        monkeypatch.setenv(name, value)

    def to(kind: str, table: pa.Table) -> dict[str, Any]:
        if kind == "postgres":
            found: dict[str, Any] = request.getfixturevalue("postgres").write(table, tmp_path)
            return found
        if kind == "s3":
            server = request.getfixturevalue("s3")
            return {"path": server.put_table(f"{tmp_path.name}/events.parquet", table)}
        return origins.FILES[kind](table, tmp_path)

    return to


@pytest.fixture(scope="session")
def _s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    pytest.importorskip("s3fs", reason="s3fs is not installed (locks/lakes.txt): nothing reads S3")
    pytest.importorskip("moto", reason="moto is not installed (locks/lakes.txt): no server of S3")
    with S3Server(tmp_path_factory.mktemp("s3")) as made:
        yield made


@pytest.fixture
def s3(_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A server of S3, which the environment names."""
    for name, value in s3_server.environment(_s3).items():
        monkeypatch.setenv(name, value)
    return _s3
