"""Training sets of latest rows beside DuckDB by hand, polars and Feast, over the same files.

Every contender reads the files and an Arrow table of labels, and gives an Arrow table with all
features. The hand-written SQL is one ASOF join a view, with a year's ttl; ours gives the rows in
the labels' order, as polars and Feast do, so the SQL that orders its rows stands beside the one
that does not. Instants are all different: who decides ties, and how, does not count.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import feast_peer
from benchmarks.measure import OURS, Curve, Result, interleaved, peak_memory
from featurekit import FeatureStore

HAND, ORDERED, POLARS = "hand-written DuckDB", "the same, ordered", "polars join_asof"
SIZES = {
    "smoke": (10_000, 100_000),
    "medium": (100_000, 1_000_000),
    "full": (1_000_000, 10_000_000),
}
GROWTH = {
    "smoke": ((1_000, 10_000), (1, 5), (1, 3)),
    "medium": ((1_000, 10_000, 100_000), (1, 10, 50), (1, 5, 20)),
    "full": ((10_000, 100_000, 1_000_000), (1, 10, 50, 200), (1, 5, 20, 50)),
}
FEATURES = 10
WIDE = 50
"""The columns of a file of which a view reads `FEATURES`."""
SPAN_US = 90 * 86_400_000_000
BEGIN_US = 1_735_689_600_000_000
LARGE = (10_000_000, 100_000_000)
PRIME = 61_803_397
"""It divides no number of events here, so that its multiples are each of them once."""
MOST_MEMORY = 16e9
MOST_HAND = 50
"""Views beyond which a statement of as many ASOF joins is not waited for."""
MOST_FEAST = 1_000_000
"""Events beyond which Feast, of gigabytes, is not waited for."""


def results(size: str, runs: int) -> Iterator[Result | Curve]:
    """One view and five, by time and by peak memory; then curves."""
    labels, events = SIZES[size]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for views, peers in ((1, True), (5, False)):
            write(folder, labels, events, views, FEATURES)
            yield from joined(folder, labels, events, views, runs, peers=peers)
            if size != "smoke":
                yield memory(folder, labels, events, views)
        write(folder, labels, events, 1, FEATURES, columns=WIDE)
        yield from joined(folder, labels, events, 1, runs, peers=False, of=f", of {WIDE} columns")
    yield from growth(size, runs)
    if size == "full":
        yield from large(*LARGE)


def write(
    folder: Path,
    labels: int,
    events: int,
    views: int,
    features: int,
    *,
    sort: bool = True,
    columns: int | None = None,
) -> None:
    """A repo of views over a file each, of `events` rows and a hundredth as many keys; labels. A
    file has as many `columns` as its view has features, or more.

    The rows are in no order: sorted by a hash, or, to spare that, one prime's multiples after the
    other.
    """
    con = duckdb.connect()
    con.execute(f"SET temp_directory = '{folder}/tmp'")
    keys, step = max(1, events // 100), SPAN_US // events
    for v in range(views):
        values = ", ".join(
            f"(hash(i, {100 * v + j}) % 1000000)::DOUBLE / 1000 AS f{j}"
            for j in range(columns or features)
        )
        # Every instant once.
        rows = f"FROM range({events}) t(i) ORDER BY hash(i, 3)"
        if not sort:
            rows = f"FROM (SELECT n * {PRIME} % {events} AS i FROM range({events}) t(n))"
        con.execute(
            f"COPY (SELECT (hash(i, {v}) % {keys})::BIGINT AS key, make_timestamptz({BEGIN_US} + "
            f"i * {step} + (hash(i, 9) % {step})::BIGINT) AS event_timestamp, {values} {rows}) "
            f"TO '{folder}/v{v}.parquet'"
        )
    con.execute(
        f"COPY (SELECT i AS label, (hash(i, 7) % {keys})::BIGINT AS key, make_timestamptz("
        f"{BEGIN_US} + (hash(i, 8) % {SPAN_US})::BIGINT) AS event_timestamp "
        f"FROM range({labels}) t(i)) TO '{folder}/labels.parquet'"
    )
    schema = ", ".join(f'"f{j}": float' for j in range(columns or features))
    made = ", ".join(f'"v{{v}}_f{j}": "f{j}"' for j in range(features))
    lines = [
        "from featurekit import Entity, EventSource, FeatureService, FeatureView",
        'key = Entity("key", {"key": int})',
    ]
    for v in range(views):
        lines.append(
            f'e{v} = EventSource("e{v}", path="v{v}.parquet", timestamp_field="event_timestamp", '
            f'schema={{"key": int, {schema}}})'
        )
        chosen = made.replace("{v}", str(v))
        lines.append(
            f'v{v} = FeatureView("v{v}", entities=[key], source=e{v}, ttl="365d", '
            f"features={{{chosen}}})"
        )
    lines.append(f"s = FeatureService('s', features=[{', '.join(f'v{v}' for v in range(views))}])")
    (folder / "definitions.py").write_text("\n".join(lines) + "\n")
    (folder / "feature_store.yaml").write_text("project: bench\n")


def ours(folder: Path, labels: pa.Table) -> Callable[[], pa.Table]:
    """The public way, with the repo loaded before."""
    store = FeatureStore(folder)
    store.plan()
    return lambda: store.get_historical_features(labels, "s").to_arrow()


def hand(folder: Path, labels: pa.Table, views: int, *, order: bool) -> Callable[[], pa.Table]:
    """One ASOF join a view."""
    year = "INTERVAL 365 DAY"
    columns = ", ".join(
        f"CASE WHEN e{v}.event_timestamp > l.event_timestamp - {year} "
        f"THEN e{v}.f{j} END AS v{v}_f{j}"
        for v in range(views)
        for j in range(FEATURES)
    )
    joins = " ".join(
        f"ASOF LEFT JOIN '{folder}/v{v}.parquet' e{v} ON l.key = e{v}.key "
        f"AND l.event_timestamp >= e{v}.event_timestamp"
        for v in range(views)
    )
    sql = f"SELECT l.label, l.key, l.event_timestamp, {columns} FROM labels l {joins}"
    sql += " ORDER BY l.label" if order else ""

    def work() -> pa.Table:
        con = duckdb.connect()
        con.register("labels", labels)
        return con.sql(sql).to_arrow_table()

    return work


def polars(folder: Path, labels: pa.Table) -> Callable[[], pa.Table]:
    """Lazy, so that only what is needed is read; polars wants both sides in the order of time."""
    import polars as pl

    names = {f"f{j}": f"v0_f{j}" for j in range(FEATURES)}
    tolerance = "365d"

    def work() -> pa.Table:
        events = pl.scan_parquet(folder / "v0.parquet").sort("event_timestamp")
        asked = pl.from_arrow(labels)
        assert isinstance(asked, pl.DataFrame)
        found = (
            asked.lazy()
            .sort("event_timestamp")
            .join_asof(
                events, on="event_timestamp", by="key", tolerance=tolerance, check_sortedness=False
            )
            .sort("label")
            .rename(names)
        )
        return found.collect().to_arrow()

    return work


def joined(
    folder: Path, labels: int, events: int, views: int, runs: int, *, peers: bool, of: str = ""
) -> Iterator[Result]:
    """All contenders by turns; each one's answer is ours."""
    asked = pq.read_table(folder / "labels.parquet")
    works = {
        OURS: ours(folder, asked),
        HAND: hand(folder, asked, views, order=False),
        ORDERED: hand(folder, asked, views, order=True),
    }
    if peers:
        works[POLARS] = polars(folder, asked)
    wanted = works[OURS]()
    names = [name for name in wanted.column_names if name.startswith("v")]
    for name, work in works.items():
        found = work().sort_by("label")
        for column in names:
            same = found[column].combine_chunks().cast(pa.float64())
            assert same.equals(wanted[column].combine_chunks()), f"{name}: {column} differs"
    taken = interleaved(works, runs)
    note = ""
    if peers and feast_peer.installed() and events <= MOST_FEAST:
        feast = feast_peer.Feast(
            folder, {"v0": (folder / "v0.parquet", [f"f{j}" for j in range(FEATURES)])}
        )
        work = feast.historical(asked.to_pandas())
        found = work().sort_by("label")
        for j in range(FEATURES):
            column = found[f"f{j}"].combine_chunks()
            assert column.equals(wanted[f"v0_f{j}"].combine_chunks()), f"Feast: f{j} differs"
        taken |= interleaved({feast_peer.NAME: work}, min(runs, 3))
    elif peers:
        note = "Feast is not installed, or would take many gigabytes"
    many = f"{views} view{'s' if views > 1 else ''} × {FEATURES} features{of}"
    rows = f"{labels:,} × {events:,}"
    yield Result(f"latest rows, {many}", rows, "s", taken, HAND, 1.15, note)


def memory(folder: Path, labels: int, events: int, views: int) -> Result:
    """The peak of a process of its own each."""
    taken = {name: _peak(folder, views, name) for name in (OURS, HAND, ORDERED)}
    rows = f"{labels:,} × {events:,}"
    return Result(f"the same, {views} view(s), peak memory", rows, "B", taken, HAND, 1.2)


def _peak(folder: Path, views: int, name: str) -> float:
    command = [sys.executable, "-m", "benchmarks.offline_joins", str(folder), str(views), name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def large(labels: int, events: int) -> Iterator[Result]:
    """From Parquet to Parquet, in a process of its own, once; and a tenth of it."""
    taken = []
    for part in (10, 1):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            write(folder, labels // part, events // part, 1, FEATURES, sort=False)
            command = [sys.executable, "-m", "benchmarks.offline_joins", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            taken.append([float(figure) for figure in done.stdout.split()])
    (tenth, _), (whole, peak) = taken
    work, rows = "latest rows, 1 view × 10 features, file to file", f"{labels:,} × {events:,}"
    linear, most = "ten times a tenth's", "16 GB"
    yield Result(work, rows, "s", {OURS: whole, linear: 10 * tenth}, linear, 1.2)
    yield Result(f"{work}: peak memory", rows, "B", {OURS: peak, most: MOST_MEMORY}, most, 1.0)


def growth(size: str, runs: int) -> Iterator[Curve]:
    """Time by rows, features and views, beside the hand-written join."""
    rows, features, views = GROWTH[size]
    many = (20, 60) if size == "smoke" else (20, 60, 200)
    for what, xs, shape in (
        ("labels, ten times as many events", rows, lambda x: (x, 10 * x, 1, FEATURES)),
        ("features of one view, 5,000 × 50,000", features, lambda x: (5_000, 50_000, 1, x)),
        ("views × 10 features, 2,000 × 20,000", views, lambda x: (2_000, 20_000, x, FEATURES)),
        ("many views × 10 features, 200 × 2,000", many, lambda x: (200, 2_000, x, FEATURES)),
    ):
        taken: dict[str, list[float]] = {OURS: []}
        for x in xs:
            labels, events, of_views, of_features = shape(x)
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name).resolve()
                write(folder, labels, events, of_views, of_features)
                asked = pq.read_table(folder / "labels.parquet")
                works: dict[str, Callable[[], Any]] = {OURS: ours(folder, asked)}
                if of_features == FEATURES and of_views <= MOST_HAND:
                    works[HAND] = hand(folder, asked, of_views, order=False)
                for contender, took in interleaved(works, min(runs, 3)).items():
                    taken.setdefault(contender, []).append(took)
        whole = {name: values for name, values in taken.items() if len(values) == len(xs)}
        yield Curve(f"latest rows by {what.split(',')[0]}", what, xs, "s", whole)


def main() -> None:
    """What `_peak` runs: one contender, and its peak memory in bytes. Of a folder alone, what
    `large` runs: seconds from its files to another, and the peak."""
    folder = Path(sys.argv[1])
    if len(sys.argv) == 2:
        store = FeatureStore(folder)
        store.plan()
        began = time.perf_counter()
        labels_file = folder / "labels.parquet"
        store.get_historical_features(labels_file, "s").to_parquet(folder / "train.parquet")
        print(time.perf_counter() - began, peak_memory())
        return
    views, name = int(sys.argv[2]), sys.argv[3]
    labels = pq.read_table(folder / "labels.parquet")
    if name == OURS:
        work = ours(folder, labels)
    else:
        work = hand(folder, labels, views, order=name == ORDERED)
    work()
    print(peak_memory())


if __name__ == "__main__":
    main()
