"""`parity sample --url` compares what a server answers over HTTP with offline, bit for bit, and
finds one wrong value of it."""

from __future__ import annotations

import http.client
import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from serving import Served, World, exact

from featurekit.cli import main
from featurekit.core.types import micros
from featurekit.errors import AsOfTooOld, OnlineError, RequestRefused, TransformError
from featurekit.parity.modes.remote import told_by

Change = Callable[[pa.Table], pa.Table]


@contextmanager
def between(server: Served, change: Change) -> Iterator[tuple[str, list[str | None]]]:
    """A server that passes on what another one answers, changed; the tokens that it was shown."""
    tokens: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            tokens.append(self.headers["authorization"])
            body = self.rfile.read(int(self.headers["content-length"]))
            asked = http.client.HTTPConnection(server.host, server.port, timeout=20)
            try:
                asked.request("POST", self.path, body, dict(self.headers))
                reply = asked.getresponse()
                data, headers = reply.read(), dict(reply.getheaders())
            finally:
                asked.close()
            if reply.status == 200:
                data = changed(data, change)
            self.send_response(reply.status)
            for name in ("featurekit-as-of", "featurekit-version", "content-type"):
                if name in headers:
                    self.send_header(name, headers[name])
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_address[1]}", tokens
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def changed(data: bytes, change: Change) -> bytes:
    table = change(pa.ipc.open_stream(data).read_all())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table.combine_chunks())
    found: bytes = sink.getvalue().to_pybytes()
    return found


def with_column(table: pa.Table, name: str, make: Callable[[Any], Any]) -> pa.Table:
    """The table with the first value of a column that is there and finite changed."""
    place = table.schema.get_field_index(name)
    values = table[name].to_pylist()
    for i, value in enumerate(values):
        if value is not None and (not isinstance(value, float) or math.isfinite(value)):
            values[i] = make(value)
            break
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array(values, field.type))


def one_ulp(table: pa.Table) -> pa.Table:
    return with_column(table, "latest__f", lambda x: math.nextafter(x, math.inf))


def one_more(table: pa.Table) -> pa.Table:
    return with_column(table, "latest__i", lambda x: x - 1 if x > 0 else x + 1)


def one_status(table: pa.Table) -> pa.Table:
    said = json.loads(table.schema.metadata[b"featurekit"])
    status = said.setdefault("status", {})
    found = status.get("latest__f", "PRESENT")
    rows = [found] * table.num_rows if isinstance(found, str) else found
    status["latest__f"] = ["NULL_VALUE" if s == "PRESENT" else s for s in rows]
    return table.replace_schema_metadata({b"featurekit": json.dumps(said)})


def sample(world: World, url: str, *words: str, service: str = "every", values: int = 1_000) -> int:
    command = ["parity", "sample", service, "--repo", str(world.folder), "--url", url]
    return main(["--json", *command, "--values", str(values), *words])


def report(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)["services"][0]


@pytest.mark.parametrize("service", ["every", "plain"])
def test_a_server_answers_every_type_as_offline_does(
    world: World, server: Served, service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(world, server.url, service=service) == 0
    found = report(capsys)
    assert found["differing"] == 0
    assert found["rows"] >= 5
    assert {f["compared"] for f in found["features"].values()} == {found["rows"]}
    assert not found["unchecked"]


@pytest.mark.parametrize(
    ("change", "feature"),
    [(one_ulp, "latest__f"), (one_more, "latest__i"), (one_status, "latest__f")],
)
def test_one_wrong_answer_of_a_server_is_found(
    world: World,
    server: Served,
    change: Change,
    feature: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    junit = tmp_path / "parity.xml"
    with between(server, change) as (url, _):
        assert sample(world, url, "--junit", str(junit), values=400) == 1
    found = report(capsys)
    differing = {n for n, f in found["features"].items() if f["differing"]}
    assert differing == {feature}
    assert any("in the server or on the way" in note for note in found["notes"])
    failed = [c.get("name") for c in ElementTree.parse(junit).iter("testcase") if len(c)]
    assert failed == [feature]


def test_what_is_asked_is_the_server_and_not_the_store(
    world: World, server: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    with between(server, one_ulp) as (url, tokens):
        assert sample(world, url, values=400) == 1
    assert tokens
    capsys.readouterr()
    command = ["--json", "parity", "sample", "every", "--repo", str(world.folder)]
    assert main([*command, "--values", "100"]) == 0


def test_a_token_comes_from_the_environment_or_a_file(
    world: World,
    server: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FEATUREKIT_TOKEN", "of-the-environment")
    file = tmp_path / "token"
    file.write_text("of-a-file\n")
    file.chmod(0o600)
    with between(server, lambda table: table) as (url, tokens):
        assert sample(world, url, service="plain", values=10) == 0
        assert {*tokens} == {"Bearer of-the-environment"}
        tokens.clear()
        assert sample(world, url, "--token-file", str(file), service="plain", values=10) == 0
        assert {*tokens} == {"Bearer of-a-file"}
        file.chmod(0o644)
        capsys.readouterr()
        assert sample(world, url, "--token-file", str(file), service="plain", values=10) == 2
    assert "chmod 640" in capsys.readouterr().err


def test_a_token_file_without_a_server_is_refused(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["parity", "sample", "--repo", str(world.folder), "--token-file", "x"]
    assert main(words) == 64
    assert "--token-file is for --url" in capsys.readouterr().err


def test_a_server_that_is_gone_is_an_error(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(world, "http://127.0.0.1:9", service="plain", values=10) == 2
    assert "cannot be asked" in capsys.readouterr().err


def test_a_server_of_other_columns_is_no_agreement(
    world: World, server: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(table: pa.Table) -> pa.Table:
        said = json.loads(table.schema.metadata[b"featurekit"])
        del said["types"]["numbers__f_last"]
        made = table.drop_columns(["numbers__f_last"])
        return made.replace_schema_metadata({b"featurekit": json.dumps(said)})

    with between(server, without) as (url, _):
        assert sample(world, url, service="plain", values=10) == 2
    assert "answers by another one" in capsys.readouterr().err


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_refused_rows_are_told_from_those_that_were_sent_with_them(world: World, most: int) -> None:
    online = world.store.parts.online_service("plain")
    service = online.current().service

    def ask(name: str, rows: Any, as_of: Any, **options: Any) -> Any:
        assert (name, options.pop("service_version")) == ("plain", service.fingerprint)
        if len(rows) > most:
            raise RequestRefused("too many", status=413)
        keys = {row["key"] for row in rows}
        if 3 in keys:
            raise AsOfTooOld("moved")
        if 4 in keys:
            raise TransformError("erred")
        return online.get(rows, as_of, **options)

    rows = [{"key": key} for key in (0, 3, 1, 2, 4, 9)]
    at = online.get([{"key": 0}]).as_of
    told = told_by(ask, service, rows, micros(at))
    assert (told.kept, told.late, [*told.failed]) == ([0, 2, 3, 5], [1], [4])
    wanted = online.get([rows[i] for i in told.kept], at)
    found = told.answers(service)
    assert exact([[*column] for column in found.values]) == exact([*wanted.columns.values()])
    assert [[*column] for column in found.statuses] == [*wanted.status.values()]


def test_another_version_of_a_server_is_no_difference_but_an_error(world: World) -> None:
    service = world.store.parts.online_service("plain").current().service

    def ask(*_: Any, **__: Any) -> Any:
        raise RequestRefused("live in version x", status=409)

    with pytest.raises(OnlineError, match="another version went live, or the server reads another"):
        told_by(ask, service, [{"key": 0}], 0)
