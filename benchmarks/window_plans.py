"""Plans for windows in DuckDB by skew of keys and lateness of events: those of featurekit, RANGE
frames and ASOF joins of running sums."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import duckdb

from featurekit.aggregates import Aggregate, Count, Last, Max, Mean, Sum
from featurekit.core.durations import duration_us
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import Entity, EventSource, FeatureView
from featurekit.define.plan import View
from featurekit.offline.events import EventRows
from featurekit.offline.session import prepare
from featurekit.offline.window_plans import choose as window_plans
from featurekit.offline.windows import make_windows

DAY_US = 86_400_000_000
SPAN_US = 90 * DAY_US
LATE = {"prompt": "0", "5 % an hour late": "CASE WHEN i % 20 = 0 THEN 3600000000 ELSE 0 END",
        "all 5 s late": "5000000", "all a day late": str(DAY_US)}  # fmt: skip
# Beyond so many pairs of a label and an event the range join is not waited for.
MOST_PAIRS = 2e9


def view(features: dict[str, Aggregate]) -> View:
    source = EventSource(
        "events", path="events.parquet", schema={"key": int, "money": float},
        timestamp_field="at", created_timestamp_column="came",
    )  # fmt: skip
    entity = Entity("key", {"key": int})
    return compile_view(FeatureView("view", entities=[entity], source=source, features=features))


def fill(con: Any, labels: int, events: int, skew: float, late: str) -> float:
    """Events of a hundredth as many keys over 90 days, a share of `skew` on one; labels alike.
    Returns how many pairs of them are of one key."""
    keys = max(1, events // 100)

    def key(seed: int) -> str:
        hot = f"hash(i, {seed + 20}) % 1000 < {round(1000 * skew)}"
        return f"CASE WHEN {hot} THEN 0 ELSE (hash(i, {seed}) % {keys})::BIGINT END"

    con.execute(
        f"CREATE OR REPLACE TABLE events AS SELECT *, __ts + late AS __created FROM (SELECT "
        f"{key(1)} AS key, (hash(i, 2) % {SPAN_US})::BIGINT AS __ts, {LATE[late]} AS late, "
        f"(hash(i, 3) % 1000000)::DOUBLE / 100 AS money FROM range({events}) t(i))"
    )
    con.execute(
        f"CREATE OR REPLACE TABLE labels AS SELECT i AS __rid, {key(7)} AS key, "
        f"(hash(i, 8) % {SPAN_US})::BIGINT AS __t FROM range({labels}) t(i)"
    )
    return float(
        con.execute(
            "SELECT sum(l.n::DOUBLE * e.n) FROM (SELECT key, count(*) AS n FROM labels GROUP BY 1) "
            "l JOIN (SELECT key, count(*) AS n FROM events GROUP BY 1) e USING (key)"
        ).fetchall()[0][0]
    )


def ours(con: Any, plan: View, *, crowded: bool | None, prompt: bool) -> str:
    """A plan from statistics to the last row; a hash of the answers. `crowded` None: chosen."""
    decide = window_plans._is_crowded_sql
    if crowded is not None:
        window_plans._is_crowded_sql = lambda *_: "TRUE" if crowded else "FALSE"
    try:
        made = make_windows(
            con, plan, EventRows("events", prompt), "labels", statuses=False, name="chosen"
        )
        shown = ", ".join(f"f{i}" for i in range(len(plan.features)))
        answers = f"SELECT sum(hash(__rid, {shown})) FROM {made.sql}"
        return str(con.execute(answers).fetchall()[0][0])
    finally:
        window_plans._is_crowded_sql = decide
        con.execute("DROP TABLE IF EXISTS chosen")


def frames(con: Any, windows: list[str], function: str) -> str:
    """RANGE frames over the union of events and labels, of plain double sums: no late events."""
    terms = ", ".join(
        f"{function}(money) OVER (PARTITION BY key ORDER BY z RANGE BETWEEN "
        f"{2 * duration_us(w, what='') - 1} PRECEDING AND CURRENT ROW)" for w in windows
    )  # fmt: skip
    rows = (
        "SELECT key, 2 * __ts AS z, NULL AS __rid, money FROM events UNION ALL "
        "SELECT key, 2 * __t + 1, __rid, NULL FROM labels"
    )
    sql = f"SELECT __rid, {terms} FROM ({rows})"
    return str(
        con.execute(f"SELECT sum(hash(t)) FROM ({sql}) t WHERE __rid IS NOT NULL").fetchall()
    )


def asof(con: Any, windows: list[str]) -> str:
    """Running sums of pence and ASOF joins, one for each end of a window: no late events."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE running AS SELECT key, __ts, count(*) OVER w AS n, "
        "sum((money * 100)::BIGINT) OVER w AS s FROM events "
        "WINDOW w AS (PARTITION BY key ORDER BY __ts RANGE UNBOUNDED PRECEDING)"
    )
    ends = [0, *(duration_us(w, what="") for w in windows)]
    joins = " ".join(
        f"ASOF LEFT JOIN running b{i} ON l.key = b{i}.key AND l.__t - {end} >= b{i}.__ts"
        for i, end in enumerate(ends)
    )
    shown = ", ".join(f"b0.n - b{i}.n, b0.s - b{i}.s" for i in range(1, len(ends)))
    sql = f"SELECT l.__rid, {shown} FROM labels l {joins}"
    return str(con.execute(f"SELECT sum(hash(t)) FROM ({sql}) t").fetchall())


OURS = {"for crowded keys": True, "chosen": None, "range join": False}


def measured(
    con: Any,
    name: str,
    plan: View,
    windows: list[str],
    late: str,
    pairs: float,
    runs: int,
    answers: dict[str, str],
) -> dict[str, list[float]]:
    """Seconds of each run of each plan, all by turns; their answers go to `answers`."""
    prompt = late == "prompt"
    plans: dict[str, Callable[[], str]] = {
        n: partial(ours, con, plan, crowded=crowded, prompt=prompt)
        for n, crowded in OURS.items()
        if n != "range join" or pairs <= MOST_PAIRS
    }
    if prompt and name != "Last":
        plans["RANGE frames"] = partial(frames, con, windows, "max" if name == "Max" else "sum")
    if prompt and name.startswith("Sum"):
        plans["ASOF joins"] = partial(asof, con, windows)
    taken: dict[str, list[float]] = {n: [] for n in plans}
    for _ in range(runs):
        for n, work in plans.items():
            began = time.perf_counter()
            answers[n] = work()
            taken[n].append(time.perf_counter() - began)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--windows", nargs="*", default=["1d", "7d", "30d"])
    parser.add_argument("--skews", type=float, nargs="*", default=[0.0, 1 / 3])
    parser.add_argument("--late", nargs="*", default=list(LATE), choices=LATE)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    windows: list[str] = given.windows
    views = {
        "Sum, Count, Mean": view(
            {"s": Sum("money", windows=windows), "n": Count(windows=windows),
             "m": Mean("money", windows=windows)}
        ),
        "Max": view({"x": Max("money", windows=windows)}),
        "Last": view({"x": Last("money", windows=windows)}),
    }  # fmt: skip
    found = []
    for skew in given.skews:
        for late in given.late:
            con = duckdb.connect()
            prepare(con)
            pairs = fill(con, given.labels, given.events, skew, late)
            for name, plan in views.items():
                answers: dict[str, str] = {}
                taken = measured(con, name, plan, windows, late, pairs, given.runs, answers)
                same = {answers[n] for n in OURS if n in answers}
                assert len(same) == 1, "two plans gave two answers"
                one = {
                    "skew": round(skew, 2), "late": late, "of": name,
                    "seconds": {n: round(statistics.median(t), 2) for n, t in taken.items()},
                }  # fmt: skip
                found.append(one)
                if not given.json:
                    print(json.dumps(one), flush=True)
    if given.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
