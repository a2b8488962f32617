"""Turns order lines into a model of churn that is served, and shows each step's result."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from featurekit.cli.demo.churn.processes import releasing, serving
from featurekit.cli.demo.run import check_lines, workplace
from featurekit.core.files import whole
from featurekit.core.screen import Screen
from featurekit.errors import ConfigError, DataError, FeaturekitError
from featurekit.store import FeatureStore

_FILES = {"feature_store.yaml": "feature_store.yaml", "features.py": "features.py.txt"}
"""The files of the repo, and what each is called here: they are the user's, and no modules."""
_NEEDED = ("mlflow", "alembic", "sklearn", "skops", "fastapi", "uvicorn", "orjson", "ormsgpack")
_MODEL, _SERVICE, _LABEL = "churn", "churn_v1", "future:churned"
_DAY = dt.timedelta(days=1)
_AHEAD, _GAP, _TEST = 90 * _DAY, 7 * _DAY, 120 * _DAY
"""How far the label looks ahead, what lies between the parts, and where the later part begins
before the last line."""
_SETTLED, _FIRST_AFTER, _EVERY = _AHEAD + 2 * _DAY, 30 * _DAY, 7 * _DAY
_LEAST = _FIRST_AFTER + _AHEAD + _GAP + _TEST
_BATCH = 500
DIFFERS, BROKEN = 1, 3


def run_churn(
    screen: Screen,
    *,
    folder: Path | None = None,
    data: Path | None = None,
    redis_url: str | None = None,
    rows: int = 5_000,
    port: int = 0,
) -> int | None:
    """Do every step in `folder`, or in one that is removed at the end; the exit code, None for 0.

    A folder of an earlier run is taken up again: what is made already stays. `data` is a file of
    order lines to use in the place of generated ones, `rows` how many are predicted over HTTP, and
    `port` where `featurekit serve` listens. ConfigError where a package is missing, the port is in
    use, or the folder is another one's; DataError where the lines are too few or none.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} is not installed; run `pip install 'featurekit[mlflow,server]'`"
        )
    from featurekit.online.store.server import private_redis, release
    from featurekit.server.listen import bound

    bound("127.0.0.1", port).close()  # said before anything is begun
    mine = folder is not None and (folder / "features.py").is_file()
    with nullcontext(folder) if mine else workplace(folder) as place, _environment():
        assert place is not None
        for name, kept in _FILES.items():
            if not (place / name).exists():
                shutil.copyfile(Path(__file__).parent / "feature_repo" / kept, place / name)
        server = place / ".featurekit" / "redis"
        try:
            url = redis_url or private_redis(server)
            with releasing(server), FeatureStore(place, redis_url=url) as store:
                made = _Churn(screen, store, place, url, stays=folder is not None)
                return made.run(data, rows=rows, port=port)
        finally:
            release(server)


@contextmanager
def _environment() -> Iterator[None]:
    """While the block runs, no variable of the caller's stores and registries counts."""
    kept = {n: v for n, v in os.environ.items() if n.startswith(("FEATUREKIT_", "MLFLOW_"))}
    for name in kept:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)


class _Churn:
    """One run; `result` is what `--json` prints."""

    def __init__(
        self, screen: Screen, store: FeatureStore, place: Path, url: str, *, stays: bool
    ) -> None:
        from featurekit.cli.demo.churn.models import TRUSTED
        from featurekit.plugins.mlflow.registry import Registry

        self.screen, self.store, self.place, self.url = screen, store, place, url
        self.stays = stays
        self.lines = place / "data" / "order_lines.parquet"
        self.tracking = Registry(place, _MODEL, TRUSTED)
        self.result: dict[str, Any] = {}
        self.steps = 0

    def run(self, data: Path | None, *, rows: int, port: int) -> int | None:
        """Every step; the exit code."""
        if not self.contracts(data):
            return self.end("A contract is broken, so nothing is trained.", BROKEN)
        first, last = self.span()
        splits = self.training(first, last)
        trained = self.fit(splits)
        if not trained.better:
            return self.end(
                "The model does not beat the baseline, so nothing is registered.", DIFFERS
            )
        versions = self.register(trained, splits)
        if not self.deployable(splits, versions):
            return self.end("The model cannot be served now.", BROKEN)
        asked = self.asked(last, rows)
        old, new = versions
        route = {old: 95, new: 5}
        if not self.serve(route, asked, port, "Canary"):
            return self.end("Online and offline DIFFER, so nothing is promoted.", DIFFERS)
        self.promote(new)
        if not self.serve({new: 100}, asked[:1], port, "Promoted"):
            return self.end("Online and offline DIFFER.", DIFFERS)
        return self.end(self.next(new), None)

    def end(self, sentence: str, code: int | None) -> int | None:
        self.result["ok"] = code is None
        self.screen.document(self.result)
        self.screen.line(f"\n{sentence}", style="bold green" if code is None else "bold red")
        return code

    def step(self, title: str, sentence: str) -> None:
        self.steps += 1
        self.screen.heading(f"{self.steps}. {title}", sentence)

    def contracts(self, data: Path | None) -> bool:
        self.step("Contracts", "Judges the order lines by what their source promises.")
        self.bring(data)
        try:
            found = self.store.validate()
        except FeaturekitError:
            shutil.rmtree(self.lines.parent, ignore_errors=True)  # the next run may bring others
            raise
        from featurekit.project.validation_reports import told

        outcomes = [one for judged in found.sources for one in judged.outcomes]
        self.screen.table(
            ("rule", "verdict", "found"),
            [(o.rule, "holds" if o.held else "BROKEN", told(o)) for o in outcomes],
        )
        self.result["contracts"] = found.to_dict()
        return found.ok

    def bring(self, data: Path | None) -> None:
        """Put the order lines into their folder, all or none of them."""
        from featurekit.cli.demo.churn.data import write_leaving_data

        if data is not None:
            check_lines(data)
        if self.lines.is_file():
            if data is not None and not _same(data, self.lines):
                raise ConfigError(
                    f"{self.place} holds the run of other order lines; name a new --folder"
                )
            return
        with whole(self.lines.parent) as hidden:
            hidden.mkdir()
            if data is None:
                write_leaving_data(hidden)
            else:
                shutil.copyfile(data, hidden / self.lines.name)

    def ask(self, sql: str, **values: Any) -> list[Any]:
        con = self.store.parts.connect()
        try:
            found: list[Any] = con.execute(sql, {"path": str(self.lines), **values}).fetchall()
            return found
        finally:
            con.close()

    def span(self) -> tuple[dt.datetime, dt.datetime]:
        """The first and the last instant of a line. DataError where they are too close together."""
        begins, ends = self.ask(
            "SELECT min(invoice_date)::TIMESTAMP, max(invoice_date)::TIMESTAMP "
            "FROM read_parquet($path) WHERE customer_id IS NOT NULL"
        )[0]
        if ends is None:
            raise DataError("no line has a customer_id, so there is nobody who could leave")
        # Read as UTC, a local time in London is never before the instant that it means.
        first, last = begins.replace(tzinfo=dt.UTC), ends.replace(tzinfo=dt.UTC)
        if last - first < _LEAST:
            raise DataError(
                f"the order lines are of {(last - first).days} days; a label of 90 days, and "
                f"customers to learn from and to test on, need {_LEAST.days}"
            )
        return first, last

    def training(self, first: dt.datetime, last: dt.datetime) -> Any:
        self.step(
            "Features, labels and the training set",
            "Joins weekly moments of active customers with what was known, and with whether they "
            "buy again within 90 days.",
        )
        self.store.apply()
        weeks, at = (last - _SETTLED - first - _FIRST_AFTER) // _EVERY, last - _SETTLED
        found = self.ask(
            "SELECT DISTINCT moment, customer_id "
            "FROM (SELECT unnest($moments) AS moment) JOIN read_parquet($path) "
            "ON invoice_date <= moment AND invoice_date > moment - INTERVAL 90 DAY "
            "WHERE customer_id IS NOT NULL AND quantity > 0 ORDER BY ALL",
            moments=[(at - i * _EVERY).replace(tzinfo=None) for i in range(weeks, -1, -1)],
        )
        moments, customers = zip(*found, strict=True)
        frame = {"customer_id": list(customers), "event_timestamp": list(moments)}
        made = self.store.get_historical_features(frame, _SERVICE, labels=[_LABEL])
        splits = made.split(test_from=last - _TEST, gap="7d")
        shown, kept = [], {}
        for name, part in (("train", splits.train), ("test", splits.test)):
            manifest = part.to_parquet(self.place / f"{name}.parquet")
            shown.append((name, manifest["rows"], manifest["content_hash"]))
            kept[name] = {"rows": manifest["rows"], "content_hash": manifest["content_hash"]}
        self.screen.table(("part", "rows", "content hash"), shown)
        self.screen.line(
            f"\n{splits.left_out} rows are left out, whose labels reach into the later part. "
            "Each part is a Parquet file with its manifest beside it."
        )
        self.result["training"] = {**kept, "left_out": splits.left_out}
        return splits

    def fit(self, splits: Any) -> Any:
        from featurekit.cli.demo.churn.models import LEAST_GAIN, train

        self.step("Model", "Fits a forest, and compares it with a constant and with one question.")
        names = splits.train.contract().names
        trained = train(splits.train.to_pandas(), splits.test.to_pandas(), names)
        self.screen.table(("what predicts", "Brier score"), list(trained.scores.items()))
        self.screen.line(
            f"\nThe forest is {trained.gain:.1%} better than the best of the others; "
            f"{LEAST_GAIN:.0%} is wanted."
        )
        self.result["model"] = {"scores": trained.scores, "better": trained.better}
        return trained

    def register(self, trained: Any, splits: Any) -> tuple[str, str]:
        self.step("MLflow", "Logs both models with the contract of what they learnt from.")
        contract, versions, rows = splits.train.contract(), [], []
        for kind in ("baseline", "forest"):
            found = self.tracking.find(contract, kind)
            model = getattr(trained, kind)
            version = found or self.tracking.register(model, splits.train, kind, trained.scores)
            said = "was there already" if found else "is registered"
            rows.append((self.tracking.uri_of(version), kind, said))
            versions.append(version)
        if self.tracking.champion() is None:
            self.tracking.promote(versions[0])
        self.screen.table(("model", "kind", ""), rows)
        self.screen.line(f"\nThe registry is {self.tracking.uri}")
        self.result["registered"] = {kind: made for made, kind, _ in rows}
        return versions[0], versions[1]

    def deployable(self, splits: Any, versions: tuple[str, str]) -> bool:
        from featurekit.monitor.deploy import deployable, documents
        from featurekit.parity.budget import Budget

        self.step("Pin and deploy check", "Fills the online store, and asks whether it can serve.")
        self.store.materialize()
        contract = splits.train.contract()
        contract.save(self.place / "churn.contract.json")
        for version in versions:
            self.store.pin(contract.version, by=self.tracking.uri_of(version))
        parts = self.store.parts
        said = {True: "holds", False: "FAILS", None: "–"}
        rows, kept = [], {}
        for version in versions:
            found = deployable(
                parts,
                partial(self.tracking.contract, version, parts.trust.keys),
                keys=parts.trust.keys,
                max_age_us=None,
                budget=Budget(values=10_000),
            )
            rows += [
                (self.tracking.uri_of(version), c.name, said[c.held], c.found) for c in found.checks
            ]
            kept[self.tracking.uri_of(version)] = {"ok": found.ok, "checks": list(documents(found))}
        self.screen.table(("model", "check", "verdict", "found"), rows)
        self.result["deploy"] = kept
        self.version = contract.version
        return all(one["ok"] for one in kept.values())

    def asked(self, last: dt.datetime, rows: int) -> list[tuple[dt.datetime, list[dict[str, Any]]]]:
        """Requests, each with its instant: so many rows, of every customer in turn."""
        found = self.ask(
            "SELECT DISTINCT customer_id FROM read_parquet($path) WHERE customer_id IS NOT NULL "
            "ORDER BY 1"
        )
        each = [{"customer_id": found[i % len(found)][0]} for i in range(rows)]
        return [
            (last + i // _BATCH * dt.timedelta(hours=1), each[i : i + _BATCH])
            for i in range(0, rows, _BATCH)
        ]

    def serve(self, route: dict[str, int], asked: Any, port: int, title: str) -> bool:
        """Serve versions by their shares over HTTP, and compare what is answered."""
        from featurekit.client import Client

        shown = ", ".join(f"{share} % to churn@{number}" for number, share in route.items())
        self.step(title, f"Serves {shown}: a client sends entities, and gets predictions.")
        models = [word for v in route for word in ("--model", f"{_MODEL}/{v}")]
        where = ("--tracking-uri", self.tracking.uri)
        server = "featurekit.plugins.mlflow.server"
        with serving(server, [*where, *models], log=self.place / "models.log") as address:
            options = ["--json", "serve", "--repo", str(self.place), "--port", str(port)]
            options += ["--drain", "10ms", "--timeout", "60s"]
            for number in route:
                told = f"name=churn@{number},service={self.version},model={_MODEL}"
                options += ["--forward", f"{address},{told},model_version={number}"]
            if len(route) > 1:
                shares = ",".join(f"churn@{n}={share}" for n, share in route.items())
                options += ["--route", shares]
            log = self.place / "serve.log"
            with (
                serving("featurekit.cli", options, log=log, redis_url=self.url) as url,
                Client(url, timeout_s=60.0) as client,
            ):
                answers = [client.predict(_MODEL, rows, as_of) for as_of, rows in asked]
        return self.compare(route, asked, answers, title)

    def compare(self, route: dict[str, int], asked: Any, answers: Any, title: str) -> bool:
        """Whether the predictions are those of the same rows offline, bit for bit."""
        import pyarrow as pa

        from featurekit.cli.demo.churn.models import probabilities

        rows = [{**row, "event_timestamp": as_of} for as_of, part in asked for row in part]
        served = {f"churn@{n}": self.tracking.load(n, self.store) for n in route}
        made = self.store.get_historical_features(pa.Table.from_pylist(rows), _SERVICE).to_pandas()
        offline = {
            name: probabilities(one.model, made[one.contract.names]).tolist()
            for name, one in served.items()
        }
        told = [(v, t) for one in answers for v, t in zip(one.values, one.targets, strict=True)]
        counts, differing = dict.fromkeys(served, 0), 0
        for i, (value, target) in enumerate(told):
            counts[target] += 1
            differing += struct.pack("<d", value) != struct.pack("<d", offline[target][i])
        if len(told) != len(rows):
            raise DataError(f"{len(told)} predictions came for {len(rows)} rows")
        self.screen.table(("model", "predictions"), list(counts.items()))
        self.screen.line(
            f"\n{len(told)} predictions over HTTP are compared with offline: {differing} differ."
        )
        self.result[title.lower()] = {
            "predictions": len(told), "differing": differing, "of": counts,
        }  # fmt: skip
        return not differing

    def promote(self, version: str) -> None:
        from featurekit.plugins.mlflow.registry import ALIAS

        before = self.tracking.champion()
        if before != version:
            self.tracking.promote(version)
        said = "is already" if before == version else "is now"
        self.screen.line(f"{self.tracking.uri_of(version)} {said} models:/{_MODEL}@{ALIAS}.")
        self.result["champion"] = {"was": before, "is": version}

    def next(self, version: str) -> str:
        """What to look at next."""
        done = f"models:/churn/{version} is promoted, and online equals offline bit for bit."
        if not self.stays:
            return f"{done}\nRun it again with --folder FOLDER to keep what it makes."
        kept = self.place
        return (
            f"{done} Look at it:\n"
            f"  featurekit contract show {kept}/churn.contract.json\n"
            f"  featurekit pins --repo {kept}\n"
            f"  featurekit lineage --repo {kept}"
        )


def _same(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes."""
    import filecmp

    return filecmp.cmp(one, other, shallow=False)
