"""A server with the API of S3 on loopback, and what tests ask of it beside reading."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

KEY, SECRET = "AKIAOWNEROFTHESHOP00", "a secret/of+the shop"
BUCKET = "shop"


class S3Server:
    """A server of S3 in a process of its own, with a bucket that keeps versions."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "s3.log"

    def __enter__(self) -> S3Server:
        told = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(told, stdout=out, stderr=subprocess.STDOUT)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                self._ask("GET", "/moto-api/data.json")
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise AssertionError(self.log.read_text())
        self.client = _client(self.url)
        self.client.create_bucket(Bucket=BUCKET)
        status = {"Status": "Enabled"}
        self.client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=status)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        kind = {"Content-Type": "text/plain"}
        asked = urllib.request.Request(f"{self.url}{path}", data=body, headers=kind, method=method)
        with urllib.request.urlopen(asked, timeout=10) as reply:
            found: bytes = reply.read()
            return found

    def put(self, key: str, data: bytes) -> str:
        """Write an object; gives its URL."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)
        return f"s3://{BUCKET}/{key}"

    def put_table(self, key: str, table: pa.Table, **how: Any) -> str:
        """Write a table as an object of Parquet."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **how)
        return self.put(key, sink.getvalue().to_pybytes())

    def delete(self, key: str) -> None:
        """Delete an object; its versions stay."""
        self.client.delete_object(Bucket=BUCKET, Key=key)

    def check_credentials(self, on: bool) -> None:
        """Let the server refuse credentials that it does not know, or take all."""
        self._ask("POST", "/moto-api/reset-auth", b"0" if on else b"1000000")

    def asked(self) -> list[str]:
        """The requests for objects so far, each as method, path and status."""
        lines = self.log.read_text().splitlines()
        return [line.split('"')[1].rsplit(" ", 1)[0] for line in lines if '"GET /shop/' in line]


def environment(server: S3Server) -> dict[str, str]:
    """What a reader of the server needs; nothing of it stands in a definition."""
    return {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _client(url: str) -> Any:
    import boto3

    region, names = "us-east-1", ("aws_access_key_id", "aws_secret_access_key")
    return boto3.client(
        "s3", endpoint_url=url, region_name=region, **dict(zip(names, (KEY, SECRET), strict=True))
    )
