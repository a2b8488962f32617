"""The clients of docs/how_to/clients.md, as they stand there: against a server with every type of
value, and against one that is overloaded, slow or gone. Node runs the one in TypeScript, without
its types where this Node reads none; the one in Go needs go on PATH."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from serving import NOW, Served, World, asked_rows

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "clients.md"
AS_OF = (NOW + dt.timedelta(minutes=10)).isoformat()
US = dt.timedelta(microseconds=1)


def block(kind: str, first: str) -> str:
    """The page's block of code that begins with a line."""
    found = re.findall(rf"^```{kind}\n({re.escape(first)}\n.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(found) == 1
    return str(found[0])


# --- Node -----------------------------------------------------------------------------------------

_NAMES = "string|number|boolean|unknown|Json|Value|Row|Columns|Status|Answer|Types|FeaturekitError"
_TYPE = (
    rf"(?:Map<string, Promise<Types>>|Record<string, string>|Promise<\w+>|(?:{_NAMES}|Uint8Array)"
    r"(?:\[\])*)(?: \| undefined)?"
)


def without_types(text: str) -> str:
    """The block of TypeScript as JavaScript: its types are all of a few forms. Node refuses what is
    left of another one."""
    text = re.sub(r"^(?:export )?type [^;]*(?:;[^;\n]*)*;\n", "", text, flags=re.M)
    text = re.sub(rf"\bas {_TYPE}(?=\W)", "", text)
    return re.sub(rf"(?<=[\w\]}})]): {_TYPE}(?=[\s,)=;{{])", "", text)


DRIVER_JS = """
import { readFileSync } from "node:fs";
import { Client, parse, write } from "./CLIENT";

const told = parse(readFileSync(0, "utf8"));
function sent(value) {
  if (value !== null && typeof value === "object" && "$float" in value) return Number(value.$float);
  return value;
}
function bits(value) {
  if (value === null) return null;
  if (typeof value === "bigint") return ["int", String(value)];
  if (typeof value === "boolean") return ["bool", value];
  if (typeof value === "number") {
    if (Number.isNaN(value)) return ["float", "NaN"];
    const view = new DataView(new ArrayBuffer(8));
    view.setFloat64(0, value);
    return ["float", view.getBigUint64(0).toString(16).padStart(16, "0")];
  }
  if (value instanceof Uint8Array) return ["bytes", Buffer.from(value).toString("hex")];
  if (value instanceof Map) return ["dict", [...value].map((pair) => pair.map(bits))];
  if (Array.isArray(value)) return ["list", value.map(bits)];
  return ["text", value];
}
const client = new Client(told.url, told.token, Number(told.timeout_ms), 2);
const rows = told.rows.map((row) =>
  Object.fromEntries(Object.entries(row).map(([name, value]) => [name, sent(value)])));
try {
  const answer = await client.getOnlineFeatures(told.service, rows, told.as_of);
  const columns = Object.entries(answer.columns).map(([name, values]) => [name, values.map(bits)]);
  console.log(JSON.stringify({ ...answer, columns: Object.fromEntries(columns) }));
} catch (error) {
  console.log(JSON.stringify({ error: error.message, status: error.status, kind: error.kind }));
}
"""

DRIVER_GO = """
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"example/features"
)

func sent(value any) any {
	switch v := value.(type) {
	case map[string]any:
		found, _ := strconv.ParseFloat(v["$float"].(string), 64)
		return found
	case json.Number:
		found, _ := v.Int64()
		return found
	}
	return value
}

func bits(value any) any {
	switch v := value.(type) {
	case int64:
		return []any{"int", strconv.FormatInt(v, 10)}
	case bool:
		return []any{"bool", v}
	case float64:
		if math.IsNaN(v) {
			return []any{"float", "NaN"}
		}
		return []any{"float", fmt.Sprintf("%016x", math.Float64bits(v))}
	case []byte:
		return []any{"bytes", hex.EncodeToString(v)}
	case time.Time:
		return []any{"time", strconv.FormatInt(v.UnixMicro(), 10)}
	case []features.Pair:
		pairs := []any{}
		for _, pair := range v {
			pairs = append(pairs, []any{bits(pair.Key), bits(pair.Count)})
		}
		return []any{"dict", pairs}
	case []any:
		made := []any{}
		for _, one := range v {
			made = append(made, bits(one))
		}
		return []any{"list", made}
	case string:
		return []any{"text", v}
	}
	return nil
}

func main() {
	var told struct {
		URL, Token, Service, As_of string
		Timeout_ms                 int64
		Rows                       []map[string]any
	}
	decoder := json.NewDecoder(os.Stdin)
	decoder.UseNumber()
	if err := decoder.Decode(&told); err != nil {
		panic(err)
	}
	rows := []features.Row{}
	for _, row := range told.Rows {
		made := features.Row{}
		for name, value := range row {
			made[name] = sent(value)
		}
		rows = append(rows, made)
	}
	limit := time.Duration(told.Timeout_ms) * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	client := &features.Client{URL: told.URL, Token: told.Token, Retries: 2}
	answer, err := client.GetOnlineFeatures(ctx, told.Service, rows, told.As_of)
	out := map[string]any{}
	if err != nil {
		out["error"] = err.Error()
		if one, own := err.(*features.Error); own {
			out["status"], out["kind"] = one.Status, one.Kind
		}
	} else {
		columns := map[string]any{}
		for name, values := range answer.Columns {
			columns[name] = bits(values).([]any)[1]
		}
		out = map[string]any{"columns": columns, "status": answer.Status, "version": answer.Version,
			"asOf": answer.AsOf.UnixMicro()}
	}
	json.NewEncoder(os.Stdout).Encode(out)
}
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not on PATH")
    folder = tmp_path_factory.mktemp("node")
    text = block("ts", "// client.ts")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    version = tuple(map(int, done.stdout.strip().lstrip("v").split(".")[:2]))
    if version < (20, 0):
        pytest.skip(f"node {done.stdout.strip()} is older than 20")
    name, options = "client.mjs", ["--no-warnings"]
    if version >= (22, 6):
        name, options = "client.ts", ["--no-warnings", "--experimental-strip-types"]
    else:
        text = without_types(text)
    (folder / name).write_text(text)
    (folder / "driver.mjs").write_text(DRIVER_JS.replace("CLIENT", name))
    return [program, *options, str(folder / "driver.mjs")]


def test_the_types_of_typescript_hold(tmp_path: Path) -> None:
    program = shutil.which("tsc")
    if program is None:
        pytest.skip("tsc is not on PATH (npm install -g typescript)")
    (tmp_path / "client.ts").write_text(block("ts", "// client.ts"))
    command = [program, "--strict", "--noEmit", "--target", "es2022", "--types", "",
               "--lib", "es2022,dom,dom.iterable", "client.ts"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    program = shutil.which("go")
    if program is None:
        pytest.skip("go is not on PATH (Debian's package golang-go)")
    folder = tmp_path_factory.mktemp("go")
    (folder / "features").mkdir()
    (folder / "go.mod").write_text("module example\n\ngo 1.19\n")
    (folder / "features" / "features.go").write_text(block("go", "// features.go"))
    (folder / "main.go").write_text(DRIVER_GO)
    for words in (["vet", "-composites=false", "./..."], ["build", "-o", "driver", "."]):
        done = subprocess.run([program, *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return [str(folder / "driver")]


@pytest.fixture(params=["node", "go"])
def language(request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    return request.param, request.getfixturevalue(request.param)


def ask(
    command: list[str], url: str, rows: list[dict[str, Any]], *, timeout_ms: int = 60_000,
    service: str = "every", as_of: str = AS_OF, token: str = "",
) -> Any:  # fmt: skip
    told = {"url": url, "service": service, "rows": rows, "as_of": as_of, "token": token,
            "timeout_ms": timeout_ms}  # fmt: skip
    done = subprocess.run(
        command, input=json.dumps(told), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- every type of value --------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A value of a row, as the drivers are told it."""
    match value:
        case bytes():
            return value.hex()
        case dt.datetime() | dt.date():
            return value.isoformat()
        case dt.timedelta():
            return f"{value // US}us"
        case float():
            return {"$float": {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), str(value))}
        case _:
            return value


def bits(value: Any, language: str) -> Any:
    """A value as the drivers print it."""
    match value:
        case None:
            return None
        case bool():
            return ["bool", value]
        case int():
            return ["int", str(value)]
        case float():
            return ["float", "NaN" if value != value else struct.pack(">d", value).hex()]
        case bytes():
            return ["bytes", value.hex()]
        case dt.datetime() if language == "go":
            return ["time", str((value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // US)]
        case dt.datetime() | dt.date():
            return ["text", value.isoformat()]
        case dt.timedelta():
            return ["int", str(value // US)]
        case dict():
            return ["dict", [[bits(k, language), bits(n, language)] for k, n in value.items()]]
        case list():
            return ["list", [bits(one, language) for one in value]]
        case _:
            return ["text", value]


def test_every_value_comes_with_its_bits(
    world: World, server: Served, language: tuple[str, list[str]]
) -> None:
    name, command = language
    asked = asked_rows()
    asked.append({**asked[-2], "key": 77, "basket": -0.0})  # unknown, so it comes back
    found = ask(command, server.url, [{n: plain(v) for n, v in row.items()} for row in asked])
    wanted = world.store.get_online_features("every", asked, AS_OF)
    assert "error" not in found, found
    for column, values in wanted.to_dict().items():
        assert found["columns"][column] == [bits(v, name) for v in values], column
    assert found["status"] == wanted.status
    assert found["version"] == world.store.live()["every"].fingerprint
    seen = json.dumps(found["columns"])
    for number in (2**63 - 1, -(2**63), 2**53 + 1):
        assert f'["int", "{number}"]' in seen
    for number in ("NaN", "7ff0000000000000", "8000000000000000", "0000000000000001"):
        assert f'["float", "{number}"]' in seen


def test_an_error_of_the_server_is_told_with_what_to_write(
    server: Served, language: tuple[str, list[str]]
) -> None:
    found = ask(language[1], server.url, [{"key": "x"}], service="plain")
    assert (found["status"], found["kind"]) == (422, "EntityFrameError")
    assert "'key'" in found["error"]
    found = ask(language[1], server.url, [{"key": 1}], service="plane")
    assert (found["status"], found["kind"]) == (404, "NotServed")


# --- overloaded, slow, gone -----------------------------------------------------------------------

SCHEMA = {"join_keys": [{"name": "key", "type": "int"}], "request": [],
          "features": [{"name": "x", "type": "int"}]}  # fmt: skip
FINE = b'{"as_of": "2026-01-01T00:00:00+00:00", "service_version": "v", "columns": {"key": [1], ' \
       b'"x": [-9223372036854775808]}, "status": {"x": "PRESENT"}}'  # fmt: skip


class Scripted:
    """A server that gives the answers that it is told, one after the other, and then fine ones."""

    def __init__(self, *answers: tuple[int, str | None, float]) -> None:
        self.answers, self.asked = list(answers), list[tuple[float, int, str | None]]()
        self.lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[str]:
        this = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(200, None, json.dumps(SCHEMA).encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                with this.lock:
                    limit = int(self.headers["featurekit-timeout-ms"])
                    this.asked.append((time.monotonic(), limit, self.headers["authorization"]))
                    status, after, wait_s = this.answers.pop(0) if this.answers else (200, None, 0)
                if wait_s:
                    time.sleep(wait_s)
                body = FINE if status == 200 else b'{"error": {"type": "StoreUnavailable", ' \
                    b'"where": "x", "what": "Redis is gone", "write": null}}'  # fmt: skip
                self.answer(status, after, body)

            def answer(self, status: int, after: str | None, body: bytes) -> None:
                try:
                    self.send_response(status)
                    if after is not None:
                        self.send_header("Retry-After", after)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True  # the caller waited no longer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        made.daemon_threads = True
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_address[1]}"
        finally:
            made.shutdown()
            thread.join()
            made.server_close()


def test_a_503_is_asked_again_after_what_it_says(language: tuple[str, list[str]]) -> None:
    scripted = Scripted((503, "0", 0), (503, "1", 0))
    with scripted.running() as url:
        found = ask(language[1], url, [{"key": 1}], token="t0ken")
    assert found["columns"]["x"] == [["int", "-9223372036854775808"]]
    (first, one, token), (second, _, _), (third, three, _) = scripted.asked
    assert third - second >= 1.0
    assert 0 < three < one <= 60_000  # the server is told what is left
    assert one - three >= (third - first) * 1000 - 50
    assert token == "Bearer t0ken"


def test_retries_end(language: tuple[str, list[str]]) -> None:
    scripted = Scripted(*[(503, "0", 0)] * 9)
    with scripted.running() as url:
        found = ask(language[1], url, [{"key": 1}])
    assert (found["status"], found["kind"], len(scripted.asked)) == (503, "StoreUnavailable", 3)


@pytest.mark.parametrize("answer", [(503, None, 0), (500, None, 0), (422, None, 0)])
def test_what_has_no_use_is_asked_once(
    language: tuple[str, list[str]], answer: tuple[int, str | None, float]
) -> None:
    scripted = Scripted(answer)
    with scripted.running() as url:
        found = ask(language[1], url, [{"key": 1}])
    assert (found["status"], len(scripted.asked)) == (answer[0], 1)


def test_no_wait_goes_beyond_the_deadline(language: tuple[str, list[str]]) -> None:
    scripted = Scripted((503, "30", 0))
    with scripted.running() as url:
        began = time.monotonic()
        found = ask(language[1], url, [{"key": 1}], timeout_ms=10_000)
        assert time.monotonic() - began < 10
    assert (found["status"], len(scripted.asked)) == (503, 1)


def test_a_slow_server_is_given_up_at_the_deadline(language: tuple[str, list[str]]) -> None:
    scripted = Scripted((200, None, 20.0))
    with scripted.running() as url:
        began = time.monotonic()
        found = ask(language[1], url, [{"key": 1}], timeout_ms=700)
        assert time.monotonic() - began < 15
    assert (found["status"], found["kind"]) == (0, "Unreachable")


def test_a_server_that_is_gone_is_said_so(language: tuple[str, list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = ask(language[1], f"http://127.0.0.1:{port}", [{"key": 1}])
    assert (found["status"], found["kind"]) == (0, "Unreachable")
