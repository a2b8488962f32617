"""What runs tell over OpenLineage: to a server on loopback or a file, by the official client; and
that a run neither fails nor waits because of it."""

from __future__ import annotations

import datetime as dt
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_repos import CONFIG

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.errors import ConfigError, DefinitionError
from featurekit.project.lineage import teller as telling
from featurekit.project.lineage.teller import Teller

pytest.importorskip("openlineage.client", reason="openlineage-python is of featurekit[lineage]")
AT = dt.datetime(2026, 1, 10, tzinfo=dt.UTC)
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Sum

lines = EventSource("lines", path="data/lines.parquet", schema={"k": int, "x": float, "kind": str},
                    timestamp_field="at", owner="tills", description="What was sold.")

@feature
def is_dear(x: float) -> bool:
    return x > 3.0

@feature
def tripled(x: float) -> float:
    return x * 3.0

view = FeatureView("v", entities=[Entity("customer", {"k": int})], source=lines, features={
    "spend": Sum(tripled, window="5d", default=0.0),
    "dear": Count(window="5d", where=is_dear),
    "kind": Last("kind", window="5d"),
}, owner="growth")
service = FeatureService("s", features=[view])
"""


class Backend:
    """A server that takes events, or answers with an error, or not at all."""

    def __init__(self) -> None:
        backend = self
        self.events: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.paths: list[str] = []
        self.status, self.waits = 201, threading.Event()
        self.waits.set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                backend.waits.wait(20)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                backend.events.append(json.loads(body))
                backend.headers.append(self.headers)
                backend.paths.append(self.path)
                self.send_response(backend.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.waits.set()
    made.server.shutdown()
    made.server.server_close()


def write_repo(folder: Path, redis_url: str, settings: str) -> Path:
    folder.mkdir()
    own = f"featurekit:\n  redis_url: {redis_url}\n  openlineage: {settings}\n"
    (folder / "feature_store.yaml").write_text(CONFIG + own, encoding="utf-8")
    (folder / "features.py").write_text(MODULE, encoding="utf-8")
    (folder / "data").mkdir()
    at = pa.array([AT - dt.timedelta(hours=i) for i in range(20)], pa.timestamp("us", "UTC"))
    columns = {"k": [i % 4 for i in range(20)], "x": [float(i) for i in range(20)],
               "kind": [f"k{i}" for i in range(20)], "at": at}  # fmt: skip
    pq.write_table(pa.table(columns), folder / "data" / "lines.parquet")
    return folder


def everything(folder: Path) -> None:
    """Apply, materialise and make a training set."""
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize(AT)
        labels = [{"k": k, "event_timestamp": AT} for k in range(4)]
        store.get_historical_features(labels, "s").to_parquet(folder / "train.parquet")


def test_the_runs_are_told_to_a_server(
    tmp_path: Path, redis_url: str, redis_store: Any, backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("LINEAGE_KEY", "geheim")
    settings = f"{{url: {backend.url}, namespace: shop, api_key_env: LINEAGE_KEY}}"
    everything(write_repo(tmp_path / "repo", redis_url, settings))
    jobs = [(e["job"]["name"], e["eventType"]) for e in backend.events]
    assert jobs == [
        ("apply", "START"), ("apply", "COMPLETE"),
        ("materialize", "START"), ("materialize", "COMPLETE"),
        ("training_set.s", "START"), ("training_set.s", "COMPLETE"),
    ]  # fmt: skip
    assert {*backend.paths} == {"/api/v1/lineage"}
    assert {h["Authorization"] for h in backend.headers} == {"Bearer geheim"}
    runs = [e["run"]["runId"] for e in backend.events]
    assert runs[::2] == runs[1::2]
    assert len({*runs}) == 3
    for event in backend.events:
        assert event["job"]["namespace"] == "shop"
        assert event["schemaURL"].endswith("RunEvent")
        assert dt.datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    applied, filled, trained = backend.events[1::2]
    view, service = applied["outputs"]
    assert (view["name"], service["name"]) == ("view.v", "service.s")
    assert applied["inputs"][0]["name"] == "source.lines"
    assert applied["inputs"][0]["facets"]["ownership"]["owners"][0]["name"] == "tills"
    assert applied["inputs"][0]["facets"]["dataSource"]["uri"] == "data/lines.parquet"
    (states,) = filled["outputs"]
    assert (states["name"], states["outputFacets"]["outputStatistics"]["rowCount"]) == ("view.v", 4)
    (made,) = trained["outputs"]
    manifest = json.loads((tmp_path / "repo/train.parquet.manifest.json").read_text())
    assert made["facets"]["version"]["datasetVersion"] == manifest["content_hash"]
    assert made["facets"]["dataSource"]["uri"] == (tmp_path / "repo/train.parquet").as_uri()
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 4
    for dataset in (view, service, states, made):
        fields = dataset["facets"]["columnLineage"]["fields"]
        ways = {
            name: {
                i["field"]: (i["transformations"][0]["type"], i["transformations"][0]["subtype"])
                for i in field["inputFields"]
            }
            for name, field in fields.items()
        }
        shared = {"k": ("INDIRECT", "GROUP_BY"), "at": ("INDIRECT", "WINDOW")}
        assert ways == {
            "spend": {"x": ("DIRECT", "TRANSFORMATION")} | shared,
            "dear": {"x": ("INDIRECT", "FILTER")} | shared,
            "kind": {"kind": ("DIRECT", "TRANSFORMATION")} | shared,
        }


def test_events_read_back_as_the_official_client_s_own(
    tmp_path: Path, redis_url: str, redis_store: Any
) -> None:
    """What is in the file goes through the constructors and validators of the client again."""
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.serde import Serde

    folder = write_repo(tmp_path / "repo", redis_url, "{file: lineage.jsonl}")
    everything(folder)
    lines = (folder / "lineage.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6
    for line in lines:
        told = json.loads(line)
        made = RunEvent(
            eventTime=told["eventTime"], producer=told["producer"],
            run=Run(told["run"]["runId"]), job=Job(told["job"]["namespace"], told["job"]["name"]),
            eventType=RunState[told["eventType"]],
        )  # fmt: skip
        again = Serde.to_dict(made)
        assert {k: again[k] for k in ("eventTime", "eventType", "producer", "schemaURL")} == {
            k: told[k] for k in ("eventTime", "eventType", "producer", "schemaURL")
        }
        assert told["job"]["namespace"] == "tests"


def test_a_run_that_fails_says_so_without_values(
    tmp_path: Path, redis_url: str, redis_store: Any, backend: Backend
) -> None:
    folder = write_repo(tmp_path / "repo", redis_url, f"{{url: {backend.url}}}")
    secret = MODULE.replace('"kind": str}', '"kind": str, "passw0rd": str}')
    (folder / "features.py").write_text(secret, encoding="utf-8")
    with FeatureStore(folder) as store:
        labels = [{"k": 1, "event_timestamp": AT}]
        with pytest.raises(Exception, match="passw0rd"):
            store.get_historical_features(labels, "s").to_arrow()
    start, fail = backend.events
    assert (start["eventType"], fail["eventType"]) == ("START", "FAIL")
    assert fail["run"]["facets"]["errorMessage"]["message"] == "SourceError"
    assert "passw0rd" not in json.dumps(backend.events)


# --- a backend that is not there, is slow, or refuses ---------------------------------------------


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_server_that_is_not_there_stops_nothing_and_is_said_once(
    tmp_path: Path, redis_url: str, redis_store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    folder = write_repo(tmp_path / "repo", redis_url, f"{{url: '{url}'}}")
    with caplog.at_level(logging.WARNING, logger="featurekit.lineage"):
        everything(folder)
    assert (folder / "train.parquet").is_file()
    said = [r.getMessage() for r in caplog.records if r.name == "featurekit.lineage"]
    assert len(said) == 1
    assert "an event of lineage was not sent: ConnectionError" in said[0]


def test_a_server_that_does_not_answer_is_waited_for_at_most_once(
    tmp_path: Path, redis_url: str, redis_store: Any, backend: Backend
) -> None:
    backend.waits.clear()
    settings = f"{{url: {backend.url}, timeout_s: 0.5}}"
    folder = write_repo(tmp_path / "repo", redis_url, settings)
    with FeatureStore(folder) as store:
        store.apply()
        for _ in range(30):
            store.get_historical_features([{"k": 1, "event_timestamp": AT}], "s").to_arrow()
        teller = store.parts.teller
        assert teller is not None
        begun = time.monotonic()
    assert time.monotonic() - begun < 5.0, "62 events of half a second each are not waited for"
    assert teller.lost >= 1


def test_a_server_that_refuses_is_said_once(
    tmp_path: Path, redis_url: str, redis_store: Any, backend: Backend,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    backend.status = 500
    url = backend.url.replace("http://", "http://shop:geheim@")
    everything(write_repo(tmp_path / "repo", redis_url, f"{{url: '{url}'}}"))
    assert len(backend.events) == 6, "nothing is sent twice"
    said = [r.getMessage() for r in caplog.records if r.name == "featurekit.lineage"]
    assert len(said) == 1
    assert "500" in said[0]
    assert "geheim" not in said[0]


def test_a_teller_never_holds_more_than_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "MOST", 5)
    hold, sent = threading.Event(), []

    def opened() -> Any:
        hold.wait(20)
        return sent.append

    made = Teller(opened, 5.0)
    for n in range(50):
        made.tell(lambda n=n: n)
    assert made.lost >= 44
    hold.set()
    made.close()
    assert sent == list(range(len(sent)))
    assert len(sent) + made.lost == 50
    made.tell(lambda: "again")
    made.close()
    assert sent[-1] == "again"


def test_what_is_told_last_is_sent_by_a_process_that_closes_nothing(
    tmp_path: Path, redis_url: str, redis_store: Any, backend: Backend
) -> None:
    folder = write_repo(tmp_path / "repo", redis_url, f"{{url: {backend.url}, timeout_s: 20}}")
    code = f"from featurekit import FeatureStore; FeatureStore({str(folder)!r}).apply()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    assert [e["eventType"] for e in backend.events] == ["START", "COMPLETE"]


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("{}", "takes either url or file"),
        ("{url: 'http://x', file: y}", "takes either url or file"),
        ("{url: 'ftp://user:geheim@x'}", "is a URL of http or https"),
        ("{file: y, timeout_s: 0}", "timeout_s"),
        ("{file: y, uri: z}", "no such setting"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, redis_url: str, settings: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        FeatureStore(write_repo(tmp_path / "repo", redis_url, settings))
    assert "geheim" not in str(caught.value)


def test_without_settings_nothing_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom featurekit import FeatureStore\n"
        "with FeatureStore(definitions=[]) as store:\n    assert store.parts.teller is None\n"
        "assert not [m for m in sys.modules if m.startswith('openlineage')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_present_definitions_are_sent_by_the_command(
    tmp_path: Path, redis_url: str, backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_repo(tmp_path / "repo", redis_url, "{file: never.jsonl}")
    repo = ["--repo", str(folder)]
    assert main([*repo, "lineage", "--openlineage", backend.url]) == 0
    (told,) = backend.events
    assert told["schemaURL"].endswith("JobEvent")
    assert [o["name"] for o in told["outputs"]] == ["view.v", "service.s"]
    out = tmp_path / "events.jsonl"
    assert main([*repo, "lineage", "--openlineage", str(out)]) == 0
    (line,) = out.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["job"] == {"facets": {}, "name": "definitions", "namespace": "tests"}
    capsys.readouterr()
    gone = f"http://127.0.0.1:{closed_port()}"
    assert main([*repo, "lineage", "--openlineage", gone]) == 2
    assert "--openlineage" in capsys.readouterr().err
    assert not (folder / "never.jsonl").exists()


def test_the_definitions_of_a_faulty_repo_are_not_told(
    tmp_path: Path, redis_url: str, redis_store: Any, backend: Backend
) -> None:
    folder = write_repo(tmp_path / "repo", redis_url, f"{{url: {backend.url}}}")
    (folder / "features.py").write_text("1 / 0", encoding="utf-8")
    with FeatureStore(folder) as store, pytest.raises(DefinitionError):
        store.apply()
    assert [e["eventType"] for e in backend.events] == ["START", "FAIL"]
