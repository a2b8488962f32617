"""The running parts of the simulated shop: Redis, the server with its models, and the watch. All
are the real ones, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from featurekit.cli.demo.churn.processes import serving
from featurekit.client import Client
from featurekit.core.waiting import until
from featurekit.online.store.server import scratch_redis
from tests.simulation.learn import MODEL, SERVICE, registry

LINES = "lines_v1"
_REPO = Path(__file__).parent / "feature_repo"
_PATIENCE_S, _ACTION_S = 60.0, 600.0
_PUSH_S = 120.0


@dataclass
class Shop:
    """What runs in a folder. `route` is the version of the model that answers, and those that are
    asked beside it as shadows; there is none before the first model."""

    place: Path
    redis_url: str
    stack: ExitStack
    route: tuple[str, ...] = ()
    _served: ExitStack = field(default_factory=ExitStack)
    _client: Client | None = None
    _watch: str = ""

    def serve(self, route: Sequence[str]) -> None:
        """Serve features, and the predictions of these versions, in the place of what is served."""
        self._served.close()
        self.route, options = tuple(route), []
        if self.route:
            version = registry(self.place).contract(self.route[0], ()).version
            where = ("--tracking-uri", registry(self.place).uri)
            models = [word for one in self.route for word in ("--model", f"{MODEL}/{one}")]
            address = self._start("featurekit.plugins.mlflow.server", [*where, *models], "models")
            for one in self.route:
                told = f"name={MODEL}@{one},service={version},model={MODEL},model_version={one}"
                options += ["--forward", f"{address},{told}"]
            for one in self.route[1:]:
                options += ["--shadow", f"{MODEL}@{one}"]
        told = ["--json", "serve", "--repo", str(self.place), "--port", "0", "--log"]
        options = [*told, "--drain", "10ms", "--timeout", "60s", *options]
        url = self._start("featurekit.cli", options, "serve")
        self._client = self._served.enter_context(Client(url, timeout_s=_PATIENCE_S))

    def _start(self, module: str, options: Sequence[str], name: str) -> str:
        log = self.place / f"{name}.log"
        return self._served.enter_context(serving(module, options, log=log))

    def watch(self) -> None:
        """Start `featurekit watch`."""
        options = ["--json", "watch", "--repo", str(self.place), "--port", "0"]
        log = self.place / "watch.log"
        self._watch = self.stack.enter_context(serving("featurekit.cli", options, log=log))

    def push(self, lines: Any) -> int:
        """Send order lines; how many were taken."""
        assert self._client is not None
        return self._client.push("order_lines", lines, timeout_s=_PUSH_S).rows

    def ask(self, customers: Sequence[int]) -> None:
        """Ask for the newest line of each customer, and for the prediction where there is a
        model."""
        assert self._client is not None
        rows = [{"customer_id": one} for one in customers]
        self._client.get_online_features(LINES, rows)
        if self.route:
            self._client.predict(MODEL, rows)
        else:
            self._client.get_online_features(SERVICE, rows)

    def looked(self, triggers: Sequence[str], since: float) -> None:
        """Wait until each trigger was looked at since an instant, and nothing is under way."""
        if not self._watch:
            return

        def open_ones() -> list[str]:
            metrics = self.metrics()
            at, phase = "featurekit_trigger_last_look_timestamp_seconds", "featurekit_trigger_open"
            found = [one for one in triggers if metrics.get(f'{at}{{trigger="{one}"}}', 0) < since]
            return found + [
                key for key, value in metrics.items() if key.startswith(phase) and value
            ]

        left = until(open_ones, holds=lambda found: not found, within_s=_ACTION_S, every_s=0.1)
        if left:
            raise RuntimeError(f"featurekit watch did not come to an end with {', '.join(left)}")

    def metrics(self) -> dict[str, float]:
        """What the watch says of itself."""
        with urllib.request.urlopen(f"{self._watch}/metrics", timeout=_PATIENCE_S) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def logged(self, rows: int, since_us: int) -> None:
        """Wait until the serving log has so many rows of each service since an instant: what a
        shadow was asked stands there, too."""
        wanted = {LINES: rows, SERVICE: rows * max(1, len(self.route))}

        def missing() -> dict[str, int]:
            found = dict.fromkeys(wanted, 0)
            for path in (self.place / ".featurekit" / "served").glob("*.parquet"):
                first, service = path.name.split("-")[:2]
                if int(first) >= since_us and service in found:
                    found[service] += pq.read_metadata(path).num_rows
            return {name: wanted[name] - n for name, n in found.items() if n < wanted[name]}

        left = until(missing, holds=lambda found: not found, within_s=_PATIENCE_S, every_s=0.1)
        if left:
            raise RuntimeError(f"the serving log lacks rows: {left}")


@contextmanager
def running(place: Path) -> Iterator[Shop]:
    """A shop in a folder, which gets its repo; Redis runs."""
    place.mkdir(parents=True, exist_ok=True)
    for file in ("feature_store.yaml", "features.py"):
        shutil.copyfile(_REPO / file, place / file)
    with scratch_redis() as url, ExitStack() as stack:
        known = os.environ.get("FEATUREKIT_REDIS_URL")
        os.environ["FEATUREKIT_REDIS_URL"] = url
        shop = Shop(place, url, stack)
        try:
            with shop._served:
                yield shop
        finally:
            if known is None:
                del os.environ["FEATUREKIT_REDIS_URL"]
            else:
                os.environ["FEATUREKIT_REDIS_URL"] = known
