"""Turns the example shop into a run of the whole main job, which shows each step's result."""

from __future__ import annotations

import datetime as dt
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from featurekit.core.ending import at_end, not_at_end
from featurekit.core.screen import Screen, as_text
from featurekit.errors import ConfigError, DataError
from featurekit.store import FeatureStore

_FILES = ("feature_store.yaml", "shop.py")


def example_repo() -> Path:
    """The folder of the example, which an installed package holds and a clone has beside the
    package. ConfigError where it is in neither place."""
    inside = Path(__file__).parent / "feature_repo"
    beside = Path(__file__).parents[3] / "feature_repo"
    for folder in (inside, beside):
        if all((folder / name).is_file() for name in _FILES):
            return folder
    raise ConfigError(f"the example repo is neither in {inside} nor in {beside}; install again")


def run_demo(
    screen: Screen,
    *,
    folder: Path | None = None,
    data: Path | None = None,
    redis_url: str | None = None,
    labels: int = 20_000,
    values: int = 100_000,
) -> bool:
    """Do the main job in a copy of the example; returns whether online and offline agree.

    The copy lies in `folder`, or in one that is removed at the end. `data` is a file of order lines
    to use in the place of generated ones. Without `redis_url` a private server runs in the copy,
    whatever the environment says. `labels` is the number of rows of each training set, `values` how
    many values the parity check compares.
    """
    with workplace(folder) as place:
        from featurekit.online.store.server import private_redis, release

        for name in _FILES:
            shutil.copyfile(example_repo() / name, place / name)
        server = place / ".featurekit" / "redis"
        try:
            url = redis_url or private_redis(server)
            with FeatureStore(place, redis_url=url) as store:
                return _Demo(screen, store, place).run(data, labels=labels, values=values)
        finally:
            release(server)


def write_data(screen: Screen, folder: Path) -> None:
    """Write the files that the sources of the example read, and show them. ConfigError where one of
    them is there already."""
    from featurekit.cli.demo.sample_data import FILES, write_sample_data

    for name in FILES:
        if (folder / name).exists():
            raise ConfigError(f"{folder / name} is there already; remove it, or name a new folder")
    files = write_sample_data(folder)
    screen.document({"files": files})
    for path in files.values():
        screen.line(f"Wrote {path}")


@contextmanager
def workplace(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        made = tempfile.mkdtemp(prefix="featurekit-demo-")
        remove = partial(shutil.rmtree, made, ignore_errors=True)
        at_end(remove)
        try:
            yield Path(made)
        finally:
            not_at_end(remove)
            remove()
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already and not empty; name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}") from None
    yield folder


@dataclass(frozen=True, slots=True)
class _Facts:
    """What later steps ask about: the last instant of an order line, a customer with many lines,
    and a product that they buy."""

    last: dt.datetime
    customer: int
    product: str


class _Demo:
    """One run; `result` is what `--json` prints."""

    def __init__(self, screen: Screen, store: FeatureStore, place: Path) -> None:
        self.screen, self.store, self.place = screen, store, place
        self.lines = place / "data" / "order_lines.parquet"
        self.result: dict[str, Any] = {}
        self.steps = 0

    def run(self, data: Path | None, *, labels: int, values: int) -> bool:
        """Every step; whether the paths agree."""
        began = time.monotonic()
        facts = self.data(data)
        self.plan_and_apply()
        self.train(labels)
        self.materialize(facts)
        self.look_up(facts)
        self.push(facts)
        return self.check(values, began)

    def step(self, title: str, sentence: str) -> None:
        self.steps += 1
        self.screen.heading(f"{self.steps}. {title}", sentence)

    def data(self, data: Path | None) -> _Facts:
        self.bring(data)
        counts, first, last = self.count()
        if not counts["customers"]:
            raise DataError(f"{data}: no line has a customer_id, so there is nobody to look up")
        self.screen.table(("what", "count"), [(k.replace("_", " "), v) for k, v in counts.items()])
        self.screen.line(f"\nFrom {first} to {last}, local time in London.")
        self.result["data"] = {**counts, "first": first, "last": last}
        # Read as UTC, a local time in London is never before the instant that it means.
        return _Facts(last.replace(tzinfo=dt.UTC), *self.customer_and_product(last))

    def bring(self, data: Path | None) -> None:
        """Put the files of the sources into their folder: generated ones, or those of `data`."""
        from featurekit.cli.demo.sample_data import write_price_list, write_sample_data

        if data is None:
            self.step("Data", "Generates the events of a small shop, as awkward as a real one's.")
            write_sample_data(self.lines.parent)
            return
        self.step("Data", f"Takes the order lines of {data}; a price list is made to fit.")
        check_lines(data)
        self.lines.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data, self.lines)
        self.check_types()
        write_price_list(self.lines, self.lines.parent)

    def count(self) -> tuple[dict[str, int], dt.datetime, dt.datetime]:
        """What the files hold, and the first and the last instant of an order line."""
        *lines, first, last = self.ask(
            "SELECT count(*), count(DISTINCT customer_id), count(DISTINCT stock_code), "
            "count(*) FILTER (customer_id IS NULL), count(*) FILTER (quantity < 0), "
            "min(invoice_date::TIMESTAMP), max(invoice_date::TIMESTAMP) FROM read_parquet($path)"
        )[0]
        prices, late = self.ask(
            "SELECT count(*), count(*) FILTER (recorded_at > effective_from) "
            "FROM read_parquet($path)",
            path=self.lines.with_name("price_list.parquet"),
        )[0]
        names = ("order_lines", "customers", "products", "lines_without_customer", "returns")
        counts = dict(zip(names, lines, strict=True))
        return {**counts, "price_decisions": prices, "recorded_late": late}, first, last

    def customer_and_product(self, last: dt.datetime) -> tuple[int, str]:
        """The customer with the most lines of the last month, and what they bought most often."""
        found: tuple[int, str] = self.ask(
            "WITH recent AS (SELECT customer_id, stock_code FROM read_parquet($path) WHERE "
            "customer_id IS NOT NULL "
            "AND invoice_date::TIMESTAMP > $last::TIMESTAMP - INTERVAL 30 DAY), "
            "best AS (SELECT customer_id FROM recent GROUP BY ALL "
            "ORDER BY count(*) DESC, customer_id LIMIT 1) "
            "SELECT customer_id, stock_code FROM recent SEMI JOIN best USING (customer_id) "
            "GROUP BY customer_id, stock_code "
            "ORDER BY regexp_matches(stock_code, '^[0-9]') DESC, count(*) DESC, stock_code LIMIT 1",
            last=last,
        )[0]
        return found

    def check_types(self) -> None:
        """Read the order lines as their source declares them: an error names column and row."""
        views = self.store.repo.compiled_views.values()
        con = self.store.parts.connect()
        try:
            self.store.parts.events(con, next(v for v in views if v.source.name == "order_lines"))
        finally:
            con.close()

    def ask(self, sql: str, *, path: Path | None = None, **values: Any) -> list[Any]:
        con = self.store.parts.connect()
        try:
            found: list[Any] = con.execute(
                sql, {"path": str(path or self.lines), **values}
            ).fetchall()
            return found
        finally:
            con.close()

    def plan_and_apply(self) -> None:
        self.step(
            "Plan and apply",
            "Compiles the Python of shop.py, shows what is new, and records it by its fingerprint.",
        )
        changes = self.store.plan()
        repo = self.store.repo
        sizes = {("view", n): len(v.features) for n, v in repo.compiled_views.items()}
        sizes |= {("service", n): len(s.outputs) for n, s in repo.compiled_services.items()}
        self.screen.table(
            ("action", "kind", "name", "features", "fingerprint"),
            [
                (c.action, c.kind, c.name, sizes.get((c.kind, c.name)), (c.new or c.old or "")[:12])
                for c in changes
            ],
        )
        self.store.apply()
        self.result["applied"] = {f"{c.kind} {c.name}": c.new for c in changes}

    def train(self, labels: int) -> None:
        import pyarrow.parquet as pq

        self.step(
            "Training data",
            f"Joins {labels} labelled moments with what the shop could know at each of them.",
        )
        frame = self.labels(labels)
        rows, heads = [], []
        for name in self.store.repo.compiled_services:
            began = time.monotonic()
            training = self.store.get_historical_features(frame, name)
            target = self.place / f"training_{name}.parquet"
            manifest = training.to_parquet(target)
            seconds = time.monotonic() - began
            rows.append((name, manifest["rows"], len(training.names), round(seconds, 2)))
            heads.append((name, manifest, target))
            self.result.setdefault("training", {})[name] = {
                "rows": manifest["rows"],
                "features": len(training.names),
                "seconds": round(seconds, 3),
                "content_hash": manifest["content_hash"],
            }
        self.screen.table(("service", "rows", "features", "seconds"), rows)
        for name, manifest, target in heads:
            self.screen.line(f"\n{name}: content hash {manifest['content_hash']}")
            shown = ["customer_id", "event_timestamp", *list(manifest["features"])[:4]]
            head = pq.read_table(target, columns=shown).slice(0, 5).to_pylist()
            self.screen.table(shown, [list(row.values()) for row in head])

    def labels(self, count: int) -> Any:
        """Moments up to a week after orders, with a customer, a product and request fields."""
        import numpy as np
        import pyarrow as pa

        drawn = self.ask(
            "SELECT customer_id, stock_code, epoch_us(invoice_date) FROM read_parquet($path) "
            "WHERE customer_id IS NOT NULL ORDER BY ALL"
        )
        random = np.random.RandomState(11)
        picked = random.randint(len(drawn), size=count)
        after = 1_000_000 * random.randint(7 * 86_400, size=count)
        at = [drawn[i][2] + int(a) for i, a in zip(picked, after, strict=True)]
        return pa.table(
            {
                "customer_id": pa.array([drawn[i][0] for i in picked], pa.int64()),
                "stock_code": pa.array([drawn[i][1] for i in picked], pa.string()),
                "event_timestamp": pa.array(at, pa.timestamp("us", tz="UTC")),
                "basket_value": np.round(random.uniform(5, 200, size=count), 2),
                "offered_price": np.round(random.uniform(0.3, 15, size=count), 2),
            }
        )

    def materialize(self, facts: _Facts) -> None:
        self.step(
            "Materialise", "Fills Redis with the state of every entity, up to the last order."
        )
        began = time.monotonic()
        with self.screen.progress() as move:
            done = self.store.materialize(facts.last, progress=move)
        seconds = time.monotonic() - began
        self.screen.table(
            ("view", "entities written", "events read", "without an entity"),
            [(v.view, v.entities, v.events, v.null_keys) for v in done.views],
        )
        self.screen.line(f"\nIn {seconds:.1f} s; live now: {', '.join(done.live)}.")
        self.result["materialized"] = {
            "until": done.until,
            "seconds": round(seconds, 3),
            "entities": {v.view: v.entities for v in done.views},
            "live": list(done.live),
        }

    def look_up(self, facts: _Facts) -> None:
        self.step(
            "Look up",
            f"Asks Redis about customer {facts.customer} and product {facts.product}, as of "
            "the last order.",
        )
        rows: dict[str, dict[str, Any]] = {
            "checkout_v1": {"customer_id": facts.customer, "basket_value": 25.0},
            "offer_v1": {
                "customer_id": facts.customer,
                "stock_code": facts.product,
                "offered_price": 1.25,
            },
        }
        shown = []
        for name, row in rows.items():
            found = self.store.get_online_features(name, [row], as_of=facts.last)
            took_ms = statistics.median(self.milliseconds(name, row, facts) for _ in range(50))
            statuses = found.statuses()[0]
            features = {n: v[0] for n, v in found.columns.items()}
            shown += [(name, n, as_text(v), statuses[n]) for n, v in features.items()]
            self.result.setdefault("online", {})[name] = {
                "as_of": found.as_of,
                "features": features,
                "statuses": statuses,
                "milliseconds": round(took_ms, 3),
            }
        self.screen.table(("service", "feature", "value", "status"), shown)
        took = [f"{a['milliseconds']:.1f} ms" for a in self.result["online"].values()]
        self.screen.line(f"\nThe median of 50 such lookups is {' and '.join(took)}.")

    def milliseconds(self, service: str, row: dict[str, Any], facts: _Facts) -> float:
        began = time.perf_counter()
        self.store.get_online_features(service, [row], as_of=facts.last)
        return (time.perf_counter() - began) * 1000

    def push(self, facts: _Facts) -> None:
        self.step(
            "Push",
            f"Customer {facts.customer} orders again; the answers as of now, before and after.",
        )
        row = {"customer_id": facts.customer, "basket_value": 25.0}
        before = self.store.get_online_features("checkout_v1", [row])
        line = {
            "invoice_no": "900001",
            "stock_code": facts.product,
            "description": None,
            "quantity": 3,
            "unit_price": 2.55,
            "customer_id": facts.customer,
            "country": "Norway",
            "invoice_date": before.as_of,
        }
        pushed = self.store.push("order_lines", line)
        after = self.store.get_online_features("checkout_v1", [row])
        self.screen.table(
            ("feature", "before", "after", ""),
            [
                (
                    n,
                    as_text(v[0]),
                    as_text(after.columns[n][0]),
                    "" if v == after.columns[n] else "changed",
                )
                for n, v in before.columns.items()
            ],
        )
        self.screen.line(
            f"\n{pushed.rows} line changed {pushed.entities} states, and is in the log."
        )
        self.result["pushed"] = {
            "line": line,
            "states": pushed.entities,
            "before": {n: v[0] for n, v in before.columns.items()},
            "after": {n: v[0] for n, v in after.columns.items()},
        }

    def check(self, values: int, began: float) -> bool:
        self.step(
            "Parity",
            "Replays history through both paths; compares type, bits, null and status of values.",
        )
        services = list(self.store.repo.compiled_services)
        reports = []
        with self.screen.progress() as move:
            for i, name in enumerate(services):
                share = values // len(services) + (i < values % len(services))
                reports.append(
                    self.store.check_parity(
                        name,
                        values=max(1, share),
                        progress=partial(move, f"parity {name}"),
                    )
                )
        agree = all(r.ok for r in reports)
        compared, differing = sum(r.compared for r in reports), sum(r.differing for r in reports)
        seconds = time.monotonic() - began
        self.result |= {
            "parity": [r.to_dict() for r in reports],
            "ok": agree,
            "compared": compared,
            "differing": differing,
            "seconds": round(seconds, 3),
        }
        from featurekit.parity.reports.show import show_report

        for report in reports:
            show_report(self.screen, report)
        self.screen.document(self.result)
        verdict = (
            f"Online and offline agree: {compared} values compared, not one bit differs."
            if agree
            else f"Online and offline DIFFER in {differing} of {compared} values."
        )
        self.screen.line(
            f"{verdict} The whole job took {seconds:.0f} s.",
            style="bold green" if agree else "bold red",
        )
        return agree


def check_lines(data: Path) -> None:
    """DataError where the file lacks a column of Online Retail. The source checks their types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from featurekit.cli.demo.sample_data import ORDER_LINES

    try:
        file = pq.ParquetFile(data)
        rows, found = file.metadata.num_rows, set(file.schema_arrow.names)
    except OSError as error:
        raise DataError(f"{data} cannot be read: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise DataError(f"{data} is no Parquet file: {error}") from None
    missing = [n for n in ORDER_LINES.names if n not in found]
    if missing:
        raise DataError(
            f"{data} lacks {', '.join(missing)}; --data takes {', '.join(ORDER_LINES.names)}"
        )
    if not rows:
        raise DataError(f"{data} holds no row")
