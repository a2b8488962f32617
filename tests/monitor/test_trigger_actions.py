"""What actions send and run: to real receivers over HTTP, and as real processes."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from featurekit.monitor.triggers import actions as acting
from featurekit.monitor.triggers import payloads
from featurekit.monitor.triggers.actions import (
    ActionFailed,
    Ending,
    Where,
    check_environment,
    perform,
    shown,
)
from featurekit.monitor.triggers.payloads import Told
from featurekit.project.trigger_settings import ActionConfig, TriggerConfig

AT = dt.datetime(2026, 12, 2, 3, 0, 0, 123456, tzinfo=dt.UTC)
TOLD = Told("shop", "churn_fell", "churn_fell-7", "auc is 0.61 <0.58 & more>", "performance", AT)
LONG = replace(TOLD, reason="ü" * 5000, trigger="x" * 64)

TEXT = {"type": "string", "minLength": 1}
SLACK = {
    "type": "object",
    "required": ["text"],
    "additionalProperties": False,
    "properties": {
        "text": {**TEXT, "maxLength": 40_000},
        "blocks": {
            "type": "array",
            "maxItems": 50,
            "items": {
                "oneOf": [
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["type", "text"],
                        "properties": {
                            "type": {"const": "header"},
                            "text": {
                                "type": "object",
                                "required": ["type", "text"],
                                "properties": {
                                    "type": {"const": "plain_text"},
                                    "text": {**TEXT, "maxLength": 150},
                                },
                            },
                        },
                    },
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["type", "text"],
                        "properties": {
                            "type": {"const": "section"},
                            "text": {
                                "type": "object",
                                "required": ["type", "text"],
                                "properties": {
                                    "type": {"enum": ["mrkdwn", "plain_text"]},
                                    "text": {**TEXT, "maxLength": 3000},
                                },
                            },
                        },
                    },
                ]
            },
        },
    },
}
PAGERDUTY = {
    "type": "object",
    "required": ["routing_key", "event_action"],
    "additionalProperties": False,
    "properties": {
        "routing_key": {**TEXT, "minLength": 32, "maxLength": 32},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {**TEXT, "maxLength": 255},
        "client": TEXT,
        "client_url": TEXT,
        "links": {"type": "array"},
        "images": {"type": "array"},
        "payload": {
            "type": "object",
            "required": ["summary", "severity", "source"],
            "additionalProperties": False,
            "properties": {
                "summary": {**TEXT, "maxLength": 1024},
                "timestamp": {"type": "string", "format": "date-time"},
                "severity": {"enum": ["critical", "warning", "error", "info"]},
                "source": TEXT,
                "component": TEXT,
                "group": TEXT,
                "class": TEXT,
                "custom_details": {"type": "object"},
            },
        },
    },
}
LABELS = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
    "additionalProperties": TEXT,
}
ALERTMANAGER = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["labels"],
        "additionalProperties": False,
        "properties": {
            "labels": {**LABELS, "required": ["alertname"]},
            "annotations": LABELS,
            "startsAt": {"type": "string", "format": "date-time"},
            "endsAt": {"type": "string", "format": "date-time"},
            "generatorURL": {"type": "string", "format": "uri"},
        },
    },
}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def check(value: Any, schema: Any) -> None:
    """The value must be as the schema says, instants in RFC 3339 among it."""
    checker = jsonschema.FormatChecker(formats=())
    checker.checks("date-time")(lambda text: bool(INSTANT.fullmatch(text)))
    jsonschema.validate(json.loads(json.dumps(value)), schema, format_checker=checker)


@pytest.mark.parametrize("told", [TOLD, LONG])
def test_slack_takes_the_message(told: Told) -> None:
    """Slack's reference of incoming webhooks and of Block Kit: a text of up to 40,000 characters, a
    header of up to 150 and a section of up to 3,000."""
    check(payloads.slack(told), SLACK)


@pytest.mark.parametrize("told", [TOLD, LONG])
def test_pagerduty_takes_the_event(told: Told) -> None:
    """PagerDuty's OpenAPI document of Events API v2 (api-schema, reference/events-v2), and its
    guide's limits: a routing key of 32 characters, a summary of up to 1,024."""
    check(payloads.pagerduty(told, "e" * 32, "warning"), PAGERDUTY)


@pytest.mark.parametrize("told", [TOLD, LONG])
def test_alertmanager_takes_the_alerts(told: Told) -> None:
    """Alertmanager's api/v2/openapi.yaml: postableAlerts, and Prometheus's rule of labels."""
    check(payloads.alertmanager(told, "warning"), ALERTMANAGER)


def test_a_wrong_payload_is_refused_by_the_schemas() -> None:
    event = payloads.pagerduty(TOLD, "short", "warning")
    with pytest.raises(jsonschema.ValidationError):
        check(event, PAGERDUTY)
    alerts = payloads.alertmanager(TOLD, "warning")
    with pytest.raises(jsonschema.ValidationError):
        check([{**alerts[0], "startsAt": "2026-12-02 03:00"}], ALERTMANAGER)


def test_slack_reads_no_link_or_mention_in_a_reason() -> None:
    told = replace(TOLD, reason="<!channel> & <http://a|b>")
    text = json.dumps(payloads.slack(told))
    assert "<" not in text
    assert "&lt;!channel&gt; &amp; " in text


# --- over HTTP ------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """A server, what it was asked, and what it is to answer, by turns."""

    url: str = ""
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    answers: list[tuple[int, Any]] = field(default_factory=list)
    wait_s: float = 0.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            made.raw.append(data)
            made.asked.append((self.path, dict(self.headers), json.loads(data)))
            time.sleep(made.wait_s)
            status, body = made.answers.pop(0) if made.answers else (200, {"ok": True})
            data = json.dumps(body).encode()
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries come soon after one another."""
    monkeypatch.setattr(acting, "_BACK_OFF_S", 0.01)


def do(
    action: dict[str, Any],
    folder: Path,
    told: Told = TOLD,
    ending: Ending | None = None,
    **more: Any,
) -> str:
    config = TriggerConfig.model_validate({"event": "go", "actions": [action], **more})
    where = Where(folder, folder / "outputs")
    return perform(config, config.actions[0], told, where, ending or Ending())


def test_a_plain_webhook_is_signed_and_names_its_occasion(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", f"{receiver.url}/secret-path")
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    monkeypatch.setenv("HOOK_TOKEN", "t0ken")
    said = do({"webhook": {"url_env": "HOOK", "secret_env": "HOOK_SECRET",
                           "token_env": "HOOK_TOKEN"}}, tmp_path)  # fmt: skip
    ((path, headers, body),) = receiver.asked
    assert (path, said) == ("/secret-path", "127.0.0.1 answered 200")
    assert body == TOLD.to_dict()
    assert headers["Idempotency-Key"] == "churn_fell-7"
    assert headers["Authorization"] == "Bearer t0ken"
    wanted = hmac.new(b"s3cret", receiver.raw[0], hashlib.sha256).hexdigest()
    assert headers["X-Featurekit-Signature"] == f"sha256={wanted}"


@pytest.mark.parametrize(
    ("format_", "schema"),
    [("slack", SLACK), ("pagerduty", PAGERDUTY), ("alertmanager", ALERTMANAGER)],
)
def test_each_format_is_sent_as_it_is_published(
    receiver: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format_: str,
    schema: Any,
) -> None:
    monkeypatch.setenv("KEY", "k" * 32)
    key = {"key_env": "KEY"} if format_ == "pagerduty" else {}
    do({"webhook": {"url": f"{receiver.url}/x", "format": format_, **key}}, tmp_path)
    ((_, headers, body),) = receiver.asked
    check(body, schema)
    assert headers["Content-Type"] == "application/json"


def test_what_may_pass_is_tried_again_as_often_as_the_settings_say(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answers = [(503, "no"), (429, "no")]
    said = do({"webhook": {"url": receiver.url}}, tmp_path, retries=2)
    assert said == "127.0.0.1 answered 200, at try 3"
    receiver.answers = [(500, "no"), (500, "still no")]
    with pytest.raises(ActionFailed, match=r'127\.0\.0\.1 answered 500: "still no", 2 times'):
        do({"webhook": {"url": receiver.url}}, tmp_path, retries=1)
    assert len(receiver.asked) == 5


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_what_does_not_pass_is_not_tried_again(
    receiver: Receiver, tmp_path: Path, status: int
) -> None:
    receiver.answers = [(status, "no")]
    with pytest.raises(ActionFailed, match=f"127.0.0.1 answered {status}"):
        do({"webhook": {"url": receiver.url}}, tmp_path, retries=5)
    assert len(receiver.asked) == 1


def test_no_failure_shows_the_path_of_a_webhook(tmp_path: Path) -> None:
    action = {"webhook": {"url": "http://127.0.0.1:9/T000/B000/secret"}}
    with pytest.raises(ActionFailed, match=r"127\.0\.0\.1 cannot be reached") as raised:
        do(action, tmp_path)
    assert "secret" not in str(raised.value)
    assert shown(ActionConfig.model_validate(action)) == "webhook 127.0.0.1 (plain)"


def test_a_receiver_that_is_silent_is_left_after_the_time_out(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.wait_s = 1.0
    with pytest.raises(ActionFailed, match="cannot be reached: timed out"):
        do({"webhook": {"url": receiver.url}}, tmp_path, timeout="200ms")


def test_a_variable_that_is_not_there_is_named(tmp_path: Path) -> None:
    action = {"webhook": {"format": "pagerduty", "key_env": "NO_SUCH_KEY"}}
    assert check_environment(ActionConfig.model_validate(action)) == ["NO_SUCH_KEY"]
    with pytest.raises(ActionFailed, match="the environment has no NO_SUCH_KEY"):
        do(action, tmp_path, retries=3)


# --- Airflow --------------------------------------------------------------------------------------


def test_a_run_of_airflow_3_is_asked_for_with_a_token(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 3: POST /auth/token, and POST /api/v2/dags/DAG/dagRuns; a logical_date is wanted."""
    monkeypatch.setenv("PASSWORD", "p")
    receiver.answers = [(201, {"access_token": "jwt"}), (200, {"state": "queued"})]
    airflow = {"url": f"{receiver.url}/", "dag_id": "retrain", "conf": {"model": "churn"},
               "username": "u", "password_env": "PASSWORD"}  # fmt: skip
    said = do({"airflow": airflow}, tmp_path)
    (login, run) = receiver.asked
    assert (login[0], login[2]) == ("/auth/token", {"username": "u", "password": "p"})
    assert (run[0], run[1]["Authorization"]) == ("/api/v2/dags/retrain/dagRuns", "Bearer jwt")
    assert run[2] == {
        "dag_run_id": "featurekit__shop__churn_fell-7",
        "logical_date": None,
        "conf": {"model": "churn", "featurekit": TOLD.to_dict()},
    }
    assert said == "run featurekit__shop__churn_fell-7 of DAG retrain was started"


def test_a_run_of_airflow_2_is_asked_for_with_a_password(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "p")
    airflow = {"url": receiver.url, "dag_id": "retrain", "api": "v1", "username": "u",
               "password_env": "PASSWORD"}  # fmt: skip
    do({"airflow": airflow}, tmp_path)
    ((path, headers, body),) = receiver.asked
    assert (path, headers["Authorization"]) == ("/api/v1/dags/retrain/dagRuns", "Basic dTpw")
    assert "logical_date" not in body


def test_a_run_that_is_there_already_is_one(receiver: Receiver, tmp_path: Path) -> None:
    """As where the answer was lost, and the request is made again: Airflow answers 409."""
    receiver.answers = [(500, "lost"), (409, "it is there")]
    airflow = {"url": receiver.url, "dag_id": "retrain"}
    assert "is there already, at try 2" in do({"airflow": airflow}, tmp_path, retries=1)


# --- commands -------------------------------------------------------------------------------------


def test_a_command_is_told_its_occasion_and_its_output_is_kept(tmp_path: Path) -> None:
    said = do(
        {"command": ["sh", "-c", "pwd; env | grep ^FEATUREKIT_ | sort; echo oh >&2"]}, tmp_path
    )
    assert said == "sh ended with 0"
    (path,) = (tmp_path / "outputs" / "churn_fell").iterdir()
    assert path.name == "churn_fell-7.log"
    assert path.read_text().splitlines() == [
        str(tmp_path),
        "FEATUREKIT_OCCASION=churn_fell-7",
        f"FEATUREKIT_REASON={TOLD.reason}",
        "FEATUREKIT_TRIGGER=churn_fell",
        "oh",
    ]


def test_no_shell_reads_a_command(tmp_path: Path) -> None:
    do({"command": ["echo", "$HOME; touch here"]}, tmp_path)
    assert "$HOME; touch here" in next((tmp_path / "outputs").rglob("*.log")).read_text()
    assert not (tmp_path / "here").exists()


FAILS = {
    "exit 3": "sh ended with 3; see ",
    "kill -9 $$": "sh ended by signal 9; see ",
}


@pytest.mark.parametrize("text", FAILS)
def test_a_command_that_fails_says_how(tmp_path: Path, text: str) -> None:
    with pytest.raises(ActionFailed, match=FAILS[text]):
        do({"command": ["sh", "-c", text]}, tmp_path)


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ActionFailed, match="no-such-command ended with 127; see "):
        do({"command": ["no-such-command"]}, tmp_path)
    said = next((tmp_path / "outputs").rglob("*.log")).read_text()
    assert said == "no-such-command cannot be started: No such file or directory\n"


def test_a_command_is_tried_again(tmp_path: Path) -> None:
    text = "echo . >> tries; test $(wc -l < tries) -eq 3"
    assert do({"command": ["sh", "-c", text]}, tmp_path, retries=4) == "sh ended with 0, at try 3"


def test_a_command_and_its_children_end_at_the_time_out(tmp_path: Path) -> None:
    text = "sleep 60 & echo $! > pid; wait"
    with pytest.raises(ActionFailed, match=r"sh was ended after 0\.5 s; see "):
        do({"command": ["sh", "-c", text]}, tmp_path, timeout="500ms")
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_command_that_does_not_listen_is_killed(
    tmp_path: Path,
) -> None:
    begun = time.monotonic()
    text = "trap '' TERM; while :; do sleep 0.1; done"
    with pytest.raises(ActionFailed, match="was ended"):
        do({"command": ["sh", "-c", text]}, tmp_path, timeout="500ms")
    assert time.monotonic() - begun < 20


def test_an_end_between_two_tries_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "_BACK_OFF_S", 60.0)
    ending = Ending()
    timer = threading.Timer(0.3, ending.stop.set)
    timer.start()
    with pytest.raises(ActionFailed, match="the watch ended before try 2"):
        do({"command": ["false"]}, tmp_path, ending=ending, retries=1)
    timer.join()


def test_the_newest_outputs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "_KEPT_OUTPUTS", 2)
    for n in range(4):
        do({"command": ["true"]}, tmp_path, replace(TOLD, occasion=f"churn_fell-{n}"))
        os.utime(tmp_path / "outputs" / "churn_fell" / f"churn_fell-{n}.log", (n, n))
    kept = {path.stem for path in (tmp_path / "outputs" / "churn_fell").iterdir()}
    assert kept == {"churn_fell-2", "churn_fell-3"}


# --- a real Alertmanager --------------------------------------------------------------------------

ALERTMANAGER_PROGRAM = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")


@pytest.mark.skipif(ALERTMANAGER_PROGRAM is None, reason="no alertmanager is on PATH")
def test_a_real_alertmanager_takes_the_alert(tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "am.yml"
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    command = [str(ALERTMANAGER_PROGRAM), f"--config.file={config}", f"--storage.path={tmp_path}",
               f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/api/v2/alerts"
    try:
        hook = {"webhook": {"url": url, "format": "alertmanager"}}
        told = replace(TOLD, at=dt.datetime.now(dt.UTC))
        assert "answered 200" in do(hook, tmp_path, told, retries=10)
        with urllib.request.urlopen(url, timeout=10) as answer:
            (alert,) = json.loads(answer.read())
    finally:
        process.kill()
        process.wait()
    assert alert["labels"]["trigger"] == "churn_fell"
    assert alert["annotations"]["summary"] == told.summary
    assert alert["status"]["state"] in ("active", "unprocessed")
