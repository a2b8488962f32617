"""The check that runs in production: metrics, webhook, exit codes and a clean end."""

from __future__ import annotations

import http.server
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_orders import (
    late_orders,
    lose_an_event,
    open_store,
    orders,
    serve_all,
    write_orders,
)

from featurekit.cli import main
from featurekit.errors import FingerprintMismatch
from featurekit.monitor.metrics import Metrics, served
from featurekit.monitor.watch import Watch
from featurekit.parity.budget import Budget
from featurekit.parity.report import FeatureReport, Report
from tests.forks import Forked

__all__ = ["open_store"]
LINE = re.compile(r'^([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*)\} (-?[0-9.e+-]+)$')
EMPTY = """\
# HELP featurekit_parity_compared_values_total Values compared online with offline.
# TYPE featurekit_parity_compared_values_total counter
# HELP featurekit_parity_differing_values_total Values that differ: skew.
# TYPE featurekit_parity_differing_values_total counter
# HELP featurekit_parity_lagging_values_total Values that differ only because events are not online yet.
# TYPE featurekit_parity_lagging_values_total counter
# HELP featurekit_parity_unchecked_rows_total Rows that could not be compared.
# TYPE featurekit_parity_unchecked_rows_total counter
# HELP featurekit_parity_checks_total Checks by their outcome: agrees, differs or failed.
# TYPE featurekit_parity_checks_total counter
# HELP featurekit_parity_last_success_timestamp_seconds When a check last ended without skew.
# TYPE featurekit_parity_last_success_timestamp_seconds gauge
# HELP featurekit_parity_last_check_timestamp_seconds When a check last ended.
# TYPE featurekit_parity_last_check_timestamp_seconds gauge
# HELP featurekit_parity_check_duration_seconds How long the last check took.
# TYPE featurekit_parity_check_duration_seconds gauge
# HELP featurekit_parity_lag_seconds Age of the oldest event that a value lagged for; 0 where none did.
# TYPE featurekit_parity_lag_seconds gauge
# HELP featurekit_feature_freshness_seconds Age of the newest event that the states of a feature have taken.
# TYPE featurekit_feature_freshness_seconds gauge
# HELP featurekit_feature_null_ratio The share of values that are None.
# TYPE featurekit_feature_null_ratio gauge
"""  # noqa: E501


def parsed(text: str) -> dict[str, dict[str, float]]:
    """The samples of an exposition, by metric and labels; every line must be one that is known."""
    assert text.endswith("\n")
    found: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.match(r"# (HELP|TYPE) featurekit_[a-z_]+ \S", line), line
            continue
        match = LINE.match(line)
        assert match, line
        found.setdefault(match[1], {})[match[2]] = float(match[3])
    return found


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return str(answer.read().decode())


class Running:
    """`featurekit parity sample --every …` in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "featurekit.cli", "--repo", str(folder), "parity",
                   "sample", "--budget", "500", *options]  # fmt: skip
        self.process = Forked(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self.lines: list[str] = []

    def until(self, text: str) -> str:
        """The first line from here on that holds a text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} is not in {self.lines}\n{self.process.stderr.read()}")  # type: ignore[union-attr]

    def end(self, number: int | None = None) -> tuple[int, str]:
        """The exit code and what was said on standard error."""
        if number is not None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any]]]:
    """A webhook's URL, and what it was told."""
    told: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", told
    server.shutdown()
    thread.join()
    server.server_close()


def report() -> Report:
    made = Report('a "quoted"\n\\name', 0, mode="sample", rows=4, seconds=0.5)
    made.features["v__x"] = FeatureReport(
        compared=4, differing=1, lagging=2, nulls=1, lag_us=2_500_000, fresh_us=90_000_000
    )
    made.unchecked["for a reason"] = 3
    return made


def test_metrics_are_what_prometheus_reads():
    metrics = Metrics()
    metrics.take(report())
    metrics.take(report())
    metrics.failed("other")
    found = parsed(metrics.text().decode())
    service = 'service="a \\"quoted\\"\\n\\\\name"'
    of_x = f'feature="v__x",{service}'
    assert found["featurekit_parity_compared_values_total"] == {of_x: 8}
    assert found["featurekit_parity_differing_values_total"] == {of_x: 2}
    assert found["featurekit_parity_lagging_values_total"] == {of_x: 4}
    assert found["featurekit_parity_unchecked_rows_total"] == {service: 6}
    assert found["featurekit_parity_lag_seconds"] == {of_x: 2.5}
    assert found["featurekit_feature_freshness_seconds"] == {of_x: 90}
    assert found["featurekit_feature_null_ratio"] == {of_x: 0.25}
    assert found["featurekit_parity_check_duration_seconds"] == {service: 0.5}
    checks = found["featurekit_parity_checks_total"]
    assert checks[f'outcome="differs",{service}'] == 2
    assert checks[f'outcome="agrees",{service}'] == 0
    assert checks['outcome="failed",service="other"'] == 1
    success = "featurekit_parity_last_success_timestamp_seconds"
    assert {*found} == {*re.findall(r"^# TYPE (\w+)", EMPTY, re.M)} - {success}
    good = report()
    good.features["v__x"].differing = 0
    metrics.take(good)
    found = parsed(metrics.text().decode())
    (at,) = found["featurekit_parity_last_success_timestamp_seconds"].values()
    assert abs(at - time.time()) < 600


def test_a_process_that_has_checked_nothing_names_all_metrics():
    assert Metrics().text().decode() == EMPTY


def test_docs_list_every_metric_with_its_type_and_labels():
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    page = page.partition("## Drift")[0]
    listed = re.findall(r"^\| `(featurekit_\w+)` \| (\w+) \| ([a-z, ]+?)(?::.*)? \|$", page, re.M)
    order = ["service", "feature", "outcome"]
    metrics = Metrics()
    metrics.take(report())
    good = report()
    good.features["v__x"].differing = 0
    metrics.take(good)
    assert sorted(listed) == sorted(
        (
            metric.name + ("_total" if metric.type == "counter" else ""),
            metric.type,
            ", ".join(sorted(metric.samples[0].labels, key=order.index)),
        )
        for metric in metrics.collect()
    )


def test_a_report_is_read_as_a_whole():
    """Scrapes that come while a report is taken see all of its counts, or none of them."""
    metrics, one = Metrics(), report()
    name = "featurekit_parity_compared_values_total"
    one.features |= {f"v__{i}": FeatureReport(compared=4) for i in range(200)}
    taking = threading.Thread(target=lambda: [metrics.take(one) for _ in range(40)])
    taking.start()
    seen = []
    while taking.is_alive():
        seen.append(parsed(metrics.text().decode()).get(name, {}))
    taking.join()
    assert all(len({*counts.values()}) <= 1 for counts in seen)
    assert {*parsed(metrics.text().decode())[name].values()} == {160.0}


def test_prometheus_s_client_is_loaded_only_where_metrics_are_asked_for():
    code = (
        "import sys; from argparse import Namespace\n"
        "import featurekit.monitor.watch\n"
        "from featurekit.cli.verbs.parity.sample import sample, _metrics\n"
        "assert _metrics(Namespace(metrics_port=None, metrics_file=None)) is None\n"
        "assert 'prometheus_client' not in sys.modules\n"
        "assert _metrics(Namespace(metrics_port=0, metrics_file=None)).text()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_metrics_are_answered_at_their_path_only():
    with served(Metrics(), "127.0.0.1", 0) as port:
        parsed(get(f"http://127.0.0.1:{port}/metrics?x=1"))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_long_running_check_answers_prometheus_and_ends_cleanly(open_store, tmp_path, number):
    store = open_store()
    write_orders(store, orders() + late_orders())
    file = tmp_path / "featurekit.prom"
    running = Running(store.path, "--every", "200ms", "--metrics-port", "0", "--metrics-file",
                      str(file))  # fmt: skip
    address = running.until("metrics at").split()[-1]
    assert "0 differ" in running.until("values in")
    running.until("values in")
    found = parsed(get(address))
    assert sum(found["featurekit_parity_compared_values_total"].values()) >= 400
    assert sum(found["featurekit_parity_differing_values_total"].values()) == 0
    assert found["featurekit_parity_lag_seconds"][
        'feature="of_customer__spend",service="service"'
    ] > 0  # fmt: skip
    assert len(found["featurekit_feature_null_ratio"]) == 9
    assert parsed(file.read_text())["featurekit_parity_checks_total"]
    said = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
    assert running.end(number) == (128 + number, f"featurekit: {said}\n")
    assert [p.name for p in tmp_path.glob("*featurekit.prom*")] == ["featurekit.prom"]


def test_the_first_skew_ends_it_and_tells_the_webhook(open_store, hook):
    url, told = hook
    store = open_store()
    running = Running(store.path, "--every", "100ms", "--webhook", url)
    running.until("0 differ")
    assert told == []
    lose_an_event(store)
    assert running.end()[0] == 1
    (one,) = told
    assert one["ok"] is False
    assert one["services"][0]["features"]["of_customer__orders"]["differing"] > 0


def test_told_to_keep_going_it_does_and_a_webhook_that_fails_is_no_end(open_store):
    store = open_store()
    lose_an_event(store)
    running = Running(store.path, "--every", "100ms", "--keep-going", "--webhook",
                      "http://127.0.0.1:9/", "--json")  # fmt: skip
    first, second = (json.loads(running.until('"at"')) for _ in range(2))
    assert first["services"][0]["differing"] > 0
    assert second["at"] >= first["at"]
    code, errors = running.end(signal.SIGTERM)
    assert code in (1, 143), "the skew, unless the round in hand took too long"
    assert "the webhook could not be told" in errors


def test_a_redis_that_is_away_for_a_while_is_no_end(open_store, redis_store):
    store = open_store()
    running = Running(store.path, "--every", "100ms", "--metrics-port", "0")
    address = running.until("metrics at").split()[-1]
    running.until("0 differ")
    live = b"fk:tests:live:service"
    held = redis_store.client.get(live)
    redis_store.client.delete(live)
    for _ in range(200):
        checks = parsed(get(address))["featurekit_parity_checks_total"]
        if checks['outcome="failed",service="service"']:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("it never failed")
    redis_store.client.set(live, held)
    running.until("0 differ")
    code, errors = running.end(signal.SIGTERM)
    assert code == 143
    assert "could not be checked: project 'tests' serves no service" in errors


def test_a_platform_with_other_bits_ends_it_whatever_it_was_told():
    stop, warned = threading.Event(), []

    class Refusing:
        name = "service"

        def run(self, budget: Budget, *, stop: threading.Event) -> Report:
            raise FingerprintMismatch("other bits")

    def warn(text: str) -> None:
        warned.append(text)
        stop.set()

    watch = Watch([Refusing()], Budget(values=1), 0.0, None, None, None, True, warn)  # type: ignore[list-item]
    with pytest.raises(FingerprintMismatch, match="other bits"):
        watch.run(lambda _: None, stop)
    assert warned == []


def test_one_check_from_the_command_line(open_store, capsys):
    store = open_store()
    serve_all(store)
    store.close()

    def parity(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["--repo", str(store.path), "parity", *arguments])
        return code, capsys.readouterr().out

    code, said = parity("sample", "--budget", "900")
    assert (code, "every bit agrees" in said) == (0, True), said
    code, said = parity("replay", "service")
    assert (code, "378 values over 42 rows" in said) == (0, True), said
    assert parity("sample", "--keep-going")[0] == 64
    assert parity("sample", "--webhook", "ftp://x")[0] == 64
    assert parity("replay", "nothing")[0] == 2
    lose_an_event(store)
    serve_all(store)
    store.close()
    code, said = parity("sample", "--budget", "900", "--json")
    assert (code, json.loads(said)["ok"]) == (1, False)
    code, said = parity("replay")
    assert code == 1
    assert "  cause    " in said
