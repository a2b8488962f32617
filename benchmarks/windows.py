"""Exact windows beside DuckDB's inexact ones: 3 windows × (float sum, count, max), from Parquet.

The hand-written plans add doubles in whatever order DuckDB takes them: their counts and maxima are
ours, their sums are within a few ulps of ours, and none of them is the same twice for sure. Of the
plans the range join alone keeps to what had arrived by then; frames and prefix sums count the one
event in a hundred that is late as soon as it happens, which is the easier job. Prefix sums have no
maximum. All read the same Parquet files and give an Arrow table with a row for each label.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import OURS, Curve, Result, interleaved
from featurekit import FeatureStore

SIZES = {"smoke": (5_000, 50_000), "medium": (100_000, 1_000_000), "full": (1_000_000, 10_000_000)}
GROWTH = {
    "smoke": (1_000, 3_000),
    "medium": (10_000, 100_000),
    "full": (10_000, 100_000, 1_000_000),
}
WINDOWS = {"1d": 86_400_000_000, "7d": 7 * 86_400_000_000, "30d": 30 * 86_400_000_000}
SPAN_US = 90 * 86_400_000_000
BEGIN_US = 1_735_689_600_000_000
MOST_HOT_FRAMES = 1_000_000
"""Events beyond which frames over a hot key, which take minutes, run once."""
DEFINITIONS = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, CountDistinct, Last, Max, Mean, Min, StdDev, Sum

key = Entity("key", {{"key": int}})
events = EventSource("events", path="events.parquet", timestamp_field="event_timestamp",
                     created_timestamp_column="created", schema={{"key": int, "x": float}})
view = FeatureView("view", entities=[key], source=events, features={{{features}}})
s = FeatureService("s", features=[view])
"""
KINDS = {
    "sum": 'Sum("x", window="{w}")',
    "count": 'Count(window="{w}")',
    "max": 'Max("x", window="{w}")',
}


def results(size: str, runs: int) -> Iterator[Result | Curve]:
    """Keys of like size, then a third of all events on one; then by rows and by windows."""
    labels, events = SIZES[size]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write(folder, labels, events, hot=False)
        yield fastest(folder, labels, events, runs)
        even = {}
        for kinds in (("sum", "count"), ("max",)):
            define(folder, kinds)
            even[kinds] = interleaved({OURS: ours(folder)}, runs)[OURS]
        write(folder, labels, events, hot=True)
        yield from crowded(folder, labels, events, runs, even)
    taken: dict[str, list[float]] = {OURS: []}
    for n in GROWTH[size]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            write(folder, n, 10 * n, hot=False)
            define(folder, tuple(KINDS))
            taken[OURS].append(interleaved({OURS: ours(folder)}, min(runs, 3))[OURS])
    what = "labels, ten times as many events"
    yield Curve("3 windows × (sum, count, max)", what, GROWTH[size], "s", taken)
    yield by_windows(min(runs, 3))
    yield by_features(size, min(runs, 3))


def by_windows(runs: int) -> Curve:
    """More windows, the longest of which stays as long, so that as many events are in reach."""
    xs, taken = (1, 3, 10, 30), dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write(folder, 5_000, 50_000, hot=False)
        for n in xs:
            windows = {f"{720 - i}h": (720 - i) * 3_600_000_000 for i in range(n)}
            define(folder, tuple(KINDS), windows)
            works = {
                OURS: ours(folder),
                "range join": by_hand(folder, range_join(tuple(KINDS), windows)),
            }
            check(works[OURS](), works["range join"](), arrived=True, name="range join")
            for contender, took in interleaved(works, runs).items():
                taken.setdefault(contender, []).append(took)
    return Curve("n windows × (sum, count, max), 5,000 × 50,000", "windows", xs, "s", taken)


MIXED = {
    **KINDS,
    "mean": 'Mean("x", window="{w}")',
    "min": 'Min("x", window="{w}")',
    "dev": 'StdDev("x", window="{w}")',
    "last": 'Last("x", window="{w}")',
    "distinct": 'CountDistinct("x", window="{w}")',
}
BY_HAND = {
    "mean": "avg(e.x)", "dev": "stddev_samp(e.x)", "last": "arg_max(e.x, e.event_timestamp)",
    "distinct": "count(DISTINCT e.x)", "sum": "sum(e.x)", "max": "max(e.x)", "min": "min(e.x)",
    "count": "count(e.key)",
}  # fmt: skip
FEATURES = {
    "smoke": (1, 8, 48),
    "medium": (1, 8, 48, 400),
    "full": (1, 8, 48, 400, 2_000),
}


def by_features(size: str, runs: int) -> Curve:
    """The fixed cost of a feature: one label, and eight aggregates over ever more windows."""
    xs, taken = FEATURES[size], dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write(folder, 5_000, 50_000, hot=False)
        pq.write_table(pq.read_table(folder / "labels.parquet")[:1], folder / "labels.parquet")
        for n in xs:
            kinds = tuple(MIXED)[: min(n, len(MIXED))]
            windows = {f"{720 - i}h": (720 - i) * 3_600_000_000 for i in range(-(-n // len(MIXED)))}
            define(folder, kinds, windows)
            works = {
                OURS: ours(folder),
                "range join": by_hand(folder, range_join(kinds, windows)),
            }
            check(works[OURS](), works["range join"](), arrived=True, name="range join")
            for contender, took in interleaved(works, runs).items():
                taken.setdefault(contender, []).append(took)
    return Curve("n aggregates, one label × 50,000", "features", xs, "s", taken)


def write(folder: Path, labels: int, events: int, *, hot: bool) -> None:
    """Events of a hundredth as many keys over 90 days, one in a hundred an hour late; labels."""
    con = duckdb.connect()
    con.execute(f"SET temp_directory = '{folder}/tmp'")
    keys = max(1, events // 100)

    def key(seed: int) -> str:
        uniform = f"1 + (hash(i, {seed}) % {keys})::BIGINT"
        return (
            f"CASE WHEN hash(i, {seed + 20}) % 3 = 0 THEN 0 ELSE {uniform} END" if hot else uniform
        )

    at = f"{BEGIN_US} + (hash(i, 2) % {SPAN_US})::BIGINT"
    late = "CASE WHEN hash(i, 4) % 100 = 0 THEN 3600000000 ELSE 0 END"
    con.execute(
        f"COPY (SELECT {key(1)} AS key, make_timestamptz({at}) AS event_timestamp, "
        f"make_timestamptz({at} + {late}) AS created, (hash(i, 3) % 1000000)::DOUBLE / 100 AS x "
        f"FROM range({events}) t(i)) TO '{folder}/events.parquet'"
    )
    con.execute(
        f"COPY (SELECT i AS label, {key(7)} AS key, make_timestamptz({BEGIN_US} + "
        f"(hash(i, 8) % {SPAN_US})::BIGINT) AS event_timestamp FROM range({labels}) t(i)) "
        f"TO '{folder}/labels.parquet'"
    )
    (folder / "feature_store.yaml").write_text("project: bench\n")


def define(folder: Path, kinds: tuple[str, ...], windows: Iterable[str] = WINDOWS) -> None:
    """The repo's definitions: these aggregates over each window."""
    features = ", ".join(
        f'"{kind}_{w}": {MIXED[kind].format(w=w)}' for w in windows for kind in kinds
    )
    (folder / "definitions.py").write_text(DEFINITIONS.format(features=features))


def ours(folder: Path) -> Callable[[], pa.Table]:
    """The public way, with the repo loaded before."""
    store = FeatureStore(folder)
    store.plan()
    labels = pq.read_table(folder / "labels.parquet")
    return lambda: store.get_historical_features(labels, "s").to_arrow()


def by_hand(folder: Path, sql: str) -> Callable[[], pa.Table]:
    """A statement over `events` and `labels`, in a session of its own."""
    labels = pq.read_table(folder / "labels.parquet")

    def work() -> pa.Table:
        con = duckdb.connect()
        con.execute(f"SET temp_directory = '{folder}/tmp'")
        con.register("labels", labels)
        con.execute(f"CREATE VIEW events AS SELECT * FROM '{folder}/events.parquet'")
        return con.sql(sql).to_arrow_table()

    return work


def range_join(kinds: tuple[str, ...], windows: Mapping[str, int] = WINDOWS) -> str:
    """Each label with its events of the longest window, grouped."""
    columns = []
    for w, us in windows.items():
        inside = f"e.event_timestamp > l.event_timestamp - INTERVAL {us} MICROSECOND"
        for kind in kinds:
            columns.append(f"{BY_HAND[kind]} FILTER ({inside}) AS {kind}_{w}")
    longest = max(windows.values())
    return (
        f"SELECT l.label, {', '.join(columns)} FROM labels l LEFT JOIN events e ON l.key = e.key "
        f"AND e.event_timestamp <= l.event_timestamp AND e.created <= l.event_timestamp AND "
        f"e.event_timestamp > l.event_timestamp - INTERVAL {longest} MICROSECOND GROUP BY l.label"
    )


def frames(kinds: tuple[str, ...]) -> str:
    """RANGE frames over the union of events and labels, of which a label comes after an event."""
    over = {
        w: f"(PARTITION BY key ORDER BY z RANGE BETWEEN {2 * us} PRECEDING AND CURRENT ROW)"
        for w, us in WINDOWS.items()
    }
    columns = ", ".join(
        f"{kind}(x) OVER {over[w]} AS {kind}_{w}" for w in WINDOWS for kind in kinds
    )
    rows = (
        "SELECT key, 2 * epoch_us(event_timestamp) AS z, NULL AS label, x FROM events UNION ALL "
        "SELECT key, 2 * epoch_us(event_timestamp) + 1, label, NULL FROM labels"
    )
    whole = f"SELECT *, {columns} FROM ({rows})"
    return f"SELECT * EXCLUDE (key, z, x) FROM ({whole}) WHERE label IS NOT NULL"


def prefix_sums() -> str:
    """Running sums and counts, and an ASOF join for each end of a window."""
    running = (
        "SELECT key, event_timestamp AS at, count(*) OVER w AS n, sum(x) OVER w AS s FROM events "
        "WINDOW w AS (PARTITION BY key ORDER BY event_timestamp RANGE UNBOUNDED PRECEDING)"
    )
    joins, columns = [], []
    for i, (w, us) in enumerate({"": 0, **WINDOWS}.items()):
        joins.append(
            f"ASOF LEFT JOIN running b{i} ON l.key = b{i}.key AND "
            f"l.event_timestamp - INTERVAL {us} MICROSECOND >= b{i}.at"
        )
        if w:
            columns.append(f"b0.s - coalesce(b{i}.s, 0) AS sum_{w}")
            columns.append(f"coalesce(b0.n, 0) - coalesce(b{i}.n, 0) AS count_{w}")
    return (
        f"WITH running AS MATERIALIZED ({running}) SELECT l.label, {', '.join(columns)} "
        f"FROM labels l {' '.join(joins)}"
    )


def check(ours: pa.Table, other: pa.Table, *, arrived: bool, name: str) -> None:
    """Counts and maxima are equal, and sums, inexact by nature, are near: for every label where
    late events are left out, and elsewhere for those of which no late event had yet to arrive, who
    are most, but for those of a hot key."""
    con = duckdb.connect()
    con.register("a", ours)
    con.register("b", other)
    for column in other.column_names:
        kind = column.partition("_")[0]
        if kind == "label":
            continue
        far = f"a.{column} IS DISTINCT FROM b.{column}"
        if kind in ("sum", "mean", "dev"):
            # No event in the window is None to us; a difference of running sums is 0 there.
            far = f"abs(coalesce(a.{column}, 0) - coalesce(b.{column}, 0)) > 1e-3"
        different = con.sql(f"SELECT count(*) FROM a JOIN b USING (label) WHERE {far}").fetchall()
        most = 0 if arrived else ours.num_rows * 2 // 5
        assert different[0][0] <= most, f"{name}: {column} differs for {different[0][0]} labels"


def fastest(folder: Path, labels: int, events: int, runs: int) -> Result:
    """All plans; ours is compared with the fastest of the others."""
    kinds = tuple(KINDS)
    define(folder, kinds)
    works = {
        OURS: ours(folder),
        "range join": by_hand(folder, range_join(kinds)),
        "RANGE frames": by_hand(folder, frames(kinds)),
        "prefix sums, no max": by_hand(folder, prefix_sums()),
    }
    wanted = works[OURS]()
    for name, work in works.items():
        if name != OURS:
            check(wanted, work(), arrived=name == "range join", name=name)
    taken = interleaved(works, runs)
    against = min(("range join", "RANGE frames"), key=taken.__getitem__)
    rows = f"{labels:,} × {events:,}"
    note = "the hand-written sums are inexact; only the range join leaves late events out"
    return Result("3 windows × (sum, count, max)", rows, "s", taken, against, 1.25, note)


def crowded(
    folder: Path, labels: int, events: int, runs: int, even: dict[tuple[str, ...], float]
) -> Iterator[Result]:
    """One key with a third of all events and labels, beside ours without it, and beside frames."""
    rows = f"{labels:,} × {events:,}"
    kinds: tuple[str, ...] = ("sum", "count")
    define(folder, kinds)
    prefix = by_hand(folder, prefix_sums())
    works = {OURS: ours(folder), "prefix sums": prefix}
    check(works[OURS](), prefix(), arrived=False, name="prefix sums")
    uniform = "ours, keys of like size"
    taken = interleaved(works, runs) | {uniform: even[kinds]}
    note = "a third of all events and labels is of one key"
    yield Result("3 windows × (sum, count), hot key", rows, "s", taken, uniform, 1.5, note)
    kinds = ("max",)
    define(folder, kinds)
    framed = by_hand(folder, frames(kinds))
    works = {OURS: ours(folder), "RANGE frames": framed}
    began = time.perf_counter()
    found = framed()
    once = time.perf_counter() - began
    check(works[OURS](), found, arrived=False, name="RANGE frames")
    if events > MOST_HOT_FRAMES:
        del works["RANGE frames"]
        note += "; the frames ran once"
    taken = interleaved(works, min(runs, 3)) | {uniform: even[kinds]}
    taken = {"RANGE frames": once} | taken
    yield Result("3 windows × max, hot key", rows, "s", taken, "RANGE frames", 1.25, note)
