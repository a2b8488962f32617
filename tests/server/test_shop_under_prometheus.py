"""The shop runs, each process of it gives its metrics to a real Prometheus, and every panel of the
dashboard has data. A state that is spoilt and prices in pence fire the alerts of rules.yml."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest
import yaml
from serving import serving

from featurekit import FeatureStore
from featurekit.core.keys import state_prefix
from featurekit.core.waiting import until
from featurekit.online.state.seal import opened_state, sealed
from featurekit.online.store.redis import RedisStore

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CLICKS = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count

visitor = Entity("visitor", join_keys={"visitor_id": int})
clicks = EventSource("clicks", path="data/clicks.csv", schema={"click": str, "visitor_id": int},
                     timestamp_field="at", event_id="click", dedupe_within="30d")
visits = FeatureView("visits", entities=[visitor], source=clicks,
                     features={"clicks_1d": Count(window="1d")})
visits_v1 = FeatureService("visits_v1", features=[visits])
"""
SETTINGS = {
    "serving_log": {"to": "parquet", "rotate_seconds": 0.5},
    "triggers": {"retrain": {"event": "retrain", "actions": [{"command": ["true"]}]}},
    "watch": {"consume": {"clicks": {}}, "materialize": {"every": "1h"}},
}
SERVICE = "checkout_v1"


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH (Debian's packages prometheus and its node exporter)")
    return found


class Shop:
    """The example shop in a folder, with a stream of clicks beside it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.text = folder, folder / "text"
        self.text.mkdir(parents=True)
        shutil.copy2(ROOT / "feature_repo" / "shop.py", folder)
        (folder / "clicks.py").write_text(CLICKS)
        config = yaml.safe_load((ROOT / "feature_repo" / "feature_store.yaml").read_text())
        config["featurekit"] |= {"redis_url": url, **SETTINGS}
        (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
        self.run("demo", "shop", "--write-data", str(folder / "data"))
        (folder / "data" / "clicks.csv").write_text("click,visitor_id,at\n")
        lines = pq.read_table(folder / "data" / "order_lines.parquet")
        known = lines["customer_id"].drop_null().unique()
        self.customers: list[int] = sorted(known.to_pylist())

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "featurekit.cli", "--repo", str(self.folder), *words]

    def run(self, *words: str, code: int = 0) -> str:
        """What a verb says, which ends with a code."""
        made = subprocess.run(
            self.command(*words), capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert made.returncode == code, made.stderr
        return made.stdout

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A verb that goes on; its standard output is a file beside its metrics."""
        out = self.folder / f"{words[0]}.out"
        with (
            out.open("w") as file,
            subprocess.Popen(
                self.command(*words), stdout=file, stderr=subprocess.STDOUT, text=True, cwd=ROOT
            ) as process,
        ):
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()

    def serve(self, server: Any) -> None:
        """Ask for all customers, and for something that is refused."""
        for begin in range(0, len(self.customers), 200):
            some = self.customers[begin : begin + 200]
            rows = [{"customer_id": one, "basket_value": 20.0 + one % 7} for one in some]
            status, _ = server.post(f"/v1/services/{SERVICE}/features", {"rows": rows})
            assert status == 200
        assert server.post(f"/v1/services/{SERVICE}/features", {"rows": [{"no": 1}]})[0] == 422


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        found: int = free.getsockname()[1]
        return found


class Prometheus:
    """A Prometheus that reads the rules as they are, every second."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, path: str, **asked: str) -> Any:
        try:
            with urlopen(f"{self.base}{path}?{urlencode(asked)}", timeout=10) as found:
                return json.load(found)["data"]
        except URLError as error:
            if getattr(error, "code", 503) != 503:
                raise AssertionError(f"{asked}: {error}") from None
            return {}

    def ask(self, expression: str) -> list[Any]:
        found: list[Any] = self.get("query", query=expression).get("result", [])
        return found

    def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire, each with its feature."""
        many = self.get("alerts").get("alerts", [])
        return {
            (one["labels"]["alertname"], one["labels"].get("feature", ""))
            for one in many
            if one["state"] == "firing"
        }


@contextmanager
def prometheus(folder: Path, targets: dict[str, list[int]]) -> Iterator[Prometheus]:
    shutil.copy2(DEPLOY / "prometheus" / "rules.yml", folder / "rules.yml")
    asked = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{p}" for p in ports]}]}
            for job, ports in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(asked))
    port = free_port()
    words = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
    with subprocess.Popen([program("prometheus"), *words]) as process:
        try:
            yield Prometheus(port)
        finally:
            process.terminate()


@contextmanager
def node_exporter(text: Path) -> Iterator[int]:
    """Gives the files of jobs to Prometheus, as on the machines of a shop."""
    port = free_port()
    words = ["--collector.disable-defaults", "--collector.textfile", "--log.level=error",
             f"--collector.textfile.directory={text}",
             f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with subprocess.Popen([program("prometheus-node-exporter"), *words]) as process:
        try:
            yield port
        finally:
            process.terminate()


def panels() -> dict[str, str]:
    """The expressions of the dashboard, by panel and place, as Grafana fills them in."""
    dashboard = json.loads((DEPLOY / "grafana" / "featurekit.json").read_text(encoding="utf-8"))
    return {
        f"{panel['title']} {place}": target["expr"]
        .replace("$service", ".*")
        .replace("$__rate_interval", "1m")
        for panel in dashboard["panels"]
        for place, target in enumerate(panel.get("targets", ()))
    }


def push(shop: Shop, unit: float) -> None:
    """A line of each customer, of yesterday, at prices in a unit."""
    london = (
        (dt.datetime.now(dt.UTC) - dt.timedelta(days=1))
        .astimezone(ZoneInfo("Europe/London"))
        .replace(tzinfo=None)
    )
    rows = [
        {"invoice_no": f"N{one}", "stock_code": "85123A", "description": None,
         "quantity": 1 + n % 5, "unit_price": (1.0 + n % 11) * unit, "customer_id": one,
         "country": "United Kingdom", "invoice_date": london.isoformat()}
        for n, one in enumerate(shop.customers)
    ]  # fmt: skip
    path = shop.folder / "lines.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shop.run("push", "order_lines", str(path), "--metrics-file", str(shop.text / "push.prom"))


def drift(shop: Shop, half: dt.datetime, end: dt.datetime, began: dt.datetime, code: int) -> None:
    """Compare what was served from `half` to `end` with what was served before."""
    length, before = ((b - a).total_seconds() for a, b in ((half, end), (began, half)))
    shop.run("monitor", "drift", SERVICE, "--window", f"{round(length * 1000)}ms",
             "--reference", f"{round(before * 1000)}ms", "--end", end.isoformat(),
             "--metrics-file", str(shop.text / "drift.prom"), code=code)  # fmt: skip


def spoil(shop: Shop) -> None:
    """Give each customer the state of another one: online and offline then differ."""
    with FeatureStore(shop.folder) as store:
        (view,) = [v for v in store.live()[SERVICE].views if v.name == "customer_orders"]
        keys = sorted(store.online.keys(state_prefix("online_shop", view)))
        states = [opened_state(view, key, store.online.read([key])[0]) or b"" for key in keys]
        others = zip(keys, states[1:] + states[:1], strict=True)
        store.online.write({key: sealed(key, state) for key, state in others})


def test_every_panel_has_data_and_what_is_planted_fires_its_alert(
    redis_store: RedisStore, tmp_path: Path
) -> None:
    program("prometheus")
    shop = Shop(tmp_path / "shop", redis_store.url)
    shop.run("apply")
    shop.run("materialize", "--metrics-file", str(shop.text / "materialize.prom"))
    parity, watch = free_port(), free_port()
    with ExitStack() as stack:
        server = stack.enter_context(serving("--repo", str(shop.folder)))
        stack.enter_context(
            shop.running("parity", "sample", "--every", "1s", "--keep-going", "--values", "2000",
                         "--metrics-port", str(parity))
        )  # fmt: skip
        stack.enter_context(shop.running("watch", "--port", str(watch)))
        node = stack.enter_context(node_exporter(shop.text))
        targets = {"featurekit": [server.port], "parity": [parity], "node": [node, watch]}
        found = stack.enter_context(prometheus(tmp_path, targets))
        until(lambda: found.ask("featurekit_watch_leader == 1"), within_s=60, every_s=0.2)
        redis_store.client.xadd("clicks", {"click": "c1", "visitor_id": "1",
                                           "at": dt.datetime.now(dt.UTC).isoformat()})  # fmt: skip
        shop.run("triggers", "fire", "retrain")
        instants = [dt.datetime.now(dt.UTC)]
        for unit in (1.0, None, 100.0):  # the last is in pence
            if unit is not None:
                push(shop, unit)
            shop.serve(server)
            time.sleep(1.5)  # what was served is written
            instants.append(dt.datetime.now(dt.UTC))
        # Both sides lie seconds apart, so the age of what arrived is another one, in truth.
        drift(shop, *instants[1:3], instants[0], code=1)

        def empty() -> list[str]:
            return [name for name, expression in panels().items() if not found.ask(expression)]

        told_when_late(lambda: not empty(), empty)
        age = ("FeaturekitDrift", "age of customer_orders")
        told_when_late(lambda: age in found.firing(), found.firing)
        planted = {"FeaturekitDrift", "FeaturekitSkew"}
        assert {one for one in found.firing() if one[0] in planted} == {age}

        # --- prices in pence ---
        drift(shop, *instants[2:], instants[1], code=1)
        fired = ("FeaturekitDrift", "customer_orders__spend_30d")
        told_when_late(lambda: fired in found.firing(), found.firing)
        assert "FeaturekitSkew" not in {name for name, _ in found.firing()}

        # --- states of others ---
        spoil(shop)
        fired = ("FeaturekitSkew", "customer_orders__spend_30d")
        told_when_late(lambda: fired in found.firing(), found.firing)


def told_when_late(holds: Callable[[], bool], told: Callable[[], object]) -> None:
    """Wait until something holds; where it does not, say how it is."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, told()
        time.sleep(0.5)
