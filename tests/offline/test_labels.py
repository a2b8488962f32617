"""T10: labels, which look ahead, are what the oracle says at every border of their windows, with
late arrivals, corrections, unions and lists, and however the entities are split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import awkward
import duckdb
import pytest
from agreeing import ONE, PAIR, divides, late, positive, product, prompt, quotient, ratio, source
from ahead import Ahead, ahead_of
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import bits
from paths import connect, crowded_where
from slow import slow_unless

from featurekit import Delay, FeatureView, feature
from featurekit.aggregates import (
    All,
    ApproxCountDistinct,
    ApproxQuantile,
    Count,
    CountDistinct,
    First,
    FirstN,
    Last,
    LastN,
    Max,
    Mean,
    Min,
    Quantile,
    StdDev,
    Sum,
    TimeSince,
    TopK,
    ValueCounts,
    Variance,
)
from featurekit.aggregates import Any as AnyOf
from featurekit.core.types import INSTANT_MAX, INSTANT_MIN

EXAMPLES = settings().max_examples
AHEAD = {"window": "1d", "ahead": True}
HOUR = {"window": "1h", "ahead": True}


@feature
def gone(rows: int) -> bool:
    return rows == 0


@feature
def per_row(amount: float | None, rows: int) -> float:
    return 0.0 if amount is None else amount / rows


@feature
def share(quotients: int, rows: int) -> float:
    return quotients / rows


SUMS = {
    "rows": Count(**AHEAD),
    "gone": gone,
    "rows_hour": Count(**HOUR, settle="1h"),
    "quotients": Count(quotient, **AHEAD, where="flag"),
    "amount": Sum("amount", **AHEAD),
    "amount_or": Sum("amount", **HOUR, default=-0.0),
    "where": Sum("amount", window="7d", ahead=True, where=positive),
    "product": Sum(product, **AHEAD),
    "qty": Sum("qty", **AHEAD, settle="0s"),
    "mean": Mean(ratio, **AHEAD),
    "spread": StdDev("amount", **AHEAD),
    "variance": Variance("qty", **AHEAD, settle="8d"),
    "any": AnyOf(divides, **AHEAD),
    "all": All("flag", **HOUR, default=True),
    "per_row": per_row,
    "share": share,
}
REST = {
    "least": Min("amount", **AHEAD),
    "most": Max("name", **AHEAD),
    "first": First("amount", **AHEAD),
    "last": Last("name", **HOUR),
    "firsts": FirstN("qty", n=3, **AHEAD),
    "lasts": LastN("amount", n=3, **AHEAD, where="flag"),
    "distinct": CountDistinct("amount", **AHEAD),
    "about": ApproxCountDistinct("name", **AHEAD),
    "median": Quantile("amount", q=0.5, **AHEAD),
    "near_median": ApproxQuantile("qty", q=0.5, **AHEAD),
    "counts": ValueCounts("name", **AHEAD),
    "top": TopK("qty", k=2, **AHEAD),
    "until_next": TimeSince(since="first", **AHEAD),
    "until_last": TimeSince(since="last", window="8d", ahead=True),
}
OF_IDS = {
    "sum": Sum("amount", **AHEAD),
    "rows": Count(**HOUR),
    "lasts": LastN("amount", n=4, **AHEAD),
    "gone": gone,
}
IDS = {"created_timestamp_column": "arrived", "event_id": "id"}
named = source("named", {"key": int, "amount": float, "id": int}, **IDS, dedupe_within="1h")
remembered = source("remembered", {"key": int, "amount": float, "id": int}, **IDS)
changed = source("changed", {"key": int, "amount": float, "id": int, "op": str}, **IDS, op="op")
delayed = source("delayed", arrives=Delay("1h"))
app = source(
    "app", {"key": int | None, "price": float, "qty": int}, created_timestamp_column="arrived"
)
listed = source(
    "listed", {"key": int, "amount": float, "words": list[str]}, created_timestamp_column="arrived"
)
WORDS = {
    "rows": Count(**AHEAD),
    "top": TopK("words", k=2, **AHEAD),
    "lasts": LastN("words", n=3, **AHEAD),
}
VIEWS = {
    "sums of late events": ahead_of(ONE, late, SUMS),
    "sums of prompt events": ahead_of(PAIR, prompt, SUMS),
    "other aggregates": ahead_of(ONE, late, REST),
    "a delay": ahead_of(ONE, delayed, {"rows": Count(**AHEAD), "last": Last("qty", **HOUR)}),
    "copies": ahead_of(ONE, named, OF_IDS),
    "copies within the window": ahead_of(ONE, remembered, OF_IDS),
    "corrections": ahead_of(ONE, changed, OF_IDS),
    "a union": ahead_of(ONE, [{app: {"amount": "price"}}, late], OF_IDS),
    "lists": ahead_of(ONE, listed, WORDS, explode="words"),
}
KEPT = ("sums of late events", "other aggregates", "corrections", "a union")


@st.composite
def cases(draw: st.DrawFn, labels: FeatureView) -> tuple[Any, Any, int]:
    """Events of each source, questions at the borders of windows and arrivals, and a run's end."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for of in labels.event_sources:
        keys = tuple(k for k in ("key", "key2") if k in of.schema)
        made = draw(awkward.source_events(of, keys=keys, max_size=12, bases=(0,)))
        for row in made:
            if "key" in row and row["key"] is not None:
                row["key"] = draw(st.sampled_from((1, 2)))
            if "id" in row:
                row["id"] = draw(st.integers(1, 3))
            if "op" in row:
                row["op"] = draw(st.sampled_from(("upsert", "upsert", "delete")))
            if of.arrives is not None:
                row["__created"] = row["__ts"] + awkward.HOUR
        rows[of.name] = made
    everything = [row for some in rows.values() for row in some]
    windows = {w.length_us for w in awkward.windows(_windows(labels))} | {0}
    stamps = {0} | {row[name] for row in everything for name in ("__ts", "__created")}
    hours = (0, awkward.HOUR, 8 * awkward.DAY)
    at = {s - w - h for s in stamps for w in windows for h in hours}
    around = sorted(us for s in at for us in (s - 1, s, s + 1) if INSTANT_MIN <= us <= INSTANT_MAX)
    instants = draw(st.lists(st.sampled_from(around), min_size=4, max_size=12, unique=True))
    named = {"key": (1, 2, 3), "key2": sorted({r.get("key2", "") for r in everything} | {"?"})}
    entity = st.fixed_dictionaries({k: st.sampled_from(named[k]) for k in labels.join_keys})
    who = draw(st.lists(entity, min_size=1, max_size=2))
    ends = sorted({s + d for s in stamps for d in (-1, 0, 1, 30 * awkward.DAY)})
    late_end = max(ends)
    known_at = draw(st.sampled_from([late_end, late_end, *ends]))
    return rows, [(key, t) for t in instants for key in who], known_at


def _windows(labels: FeatureView) -> Any:
    class Looked:
        features, ttl = labels.features, None

    return Looked()


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@pytest.mark.parametrize("name", slow_unless(lambda name: name in KEPT, VIEWS))
def test_a_label_is_what_the_oracle_says(con: Any, name: str) -> None:
    how = st.tuples(st.booleans(), st.sampled_from((1, 1, 3)))

    @settings(max_examples=max(10, EXAMPLES // 5))
    @given(cases(VIEWS[name]), how)
    def check(case: Any, how: tuple[bool, int]) -> None:
        (rows, questions, known_at), (crowded, buckets) = case, how
        ahead = Ahead(con, VIEWS[name], rows)
        with pytest.MonkeyPatch.context() as patch:
            if crowded:  # whatever the sizes are, keys go by the plans for crowded ones
                crowded_where(patch, "TRUE")
            found = ahead.offline(questions, known_at, buckets=buckets)
        assert found == ahead.expected(questions, known_at)
        ahead.close()

    check()


# --- no leak: one microsecond on the wrong side is seen -------------------------------------------

T, DAY = 0, awkward.DAY
BORDERS = {"back": T, "first": T + 1, "last": T + DAY, "beyond": T + DAY + 1}
LAST = T + 3 * DAY


def at_borders(con: Any) -> Ahead:
    """An entity with an event on each side of each border, and one that settles the label. Each
    event has an amount of its own, so that a sum tells which events count."""
    amounts = {"back": 1.0, "first": 2.0, "last": 4.0, "beyond": 8.0, "settles": 16.0}
    rows = [
        {"key": 1, "key2": "", "amount": amounts[name], "qty": 1, "flag": None, "name": None}
        | {"__ts": at, "__created": at}
        for name, at in (BORDERS | {"settles": LAST}).items()
    ]
    features = {"rows": Count(**AHEAD), "amount": Sum("amount", **AHEAD), "gone": gone}
    return Ahead(con, ahead_of(ONE, late, features), {"late": rows})


def seen(ahead: Ahead, known_at: int = LAST) -> tuple[int, Any]:
    """How many events the feature counts, and the sum of those that the label counts."""
    # Rows before and after it: what is read for them must not reach into this one.
    asked = [({"key": 1}, at) for at in (T - 2, T, T + 2)]
    _, row, _ = ahead.training(asked, known_at).to_pylist()
    return row["back__n"], row["ahead__amount"]


@pytest.mark.parametrize("crowded", [False, True])
def test_a_feature_ends_at_the_instant_and_a_label_begins_after_it(
    con: Any, crowded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if crowded:
        crowded_where(monkeypatch, "TRUE")
    ahead = at_borders(con)
    assert seen(ahead) == (1, 2.0 + 4.0)
    ahead.close()


LEAKS: dict[str, tuple[int, dict[str, int], tuple[int, float]]] = {
    "a label that begins at the instant": (1, {"window_us": DAY + 1}, (1, 7.0)),
    "a label that begins too late": (1, {"window_us": DAY - 1}, (1, 4.0)),
    "a label that ends too late": (1, {"window_us": DAY + 1, "offset_us": -DAY - 1}, (1, 14.0)),
    "a label that ends too early": (1, {"window_us": DAY - 1, "offset_us": -DAY + 1}, (1, 2.0)),
    "a feature that looks ahead": (0, {"offset_us": -1}, (2, 6.0)),
}
"""For each leak the number of the view, what is planted there, and what is seen of it."""


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_of_a_microsecond_changes_what_is_seen(con: Any, leak: str) -> None:
    """So the test above fails by each of them. Arrivals hide the event from a feature, unless it
    had arrived before it happened."""
    place, change, found = LEAKS[leak]
    ahead = at_borders(con)
    whole = ahead.asked.whole
    views = list(whole.views)
    reached = [replace(f, **change) if f.aggregate else f for f in views[place].features]
    views[place] = replace(views[place], features=tuple(reached), retain_us=DAY + 1)
    ahead.asked = replace(ahead.asked, whole=replace(whole, views=tuple(views)))
    con.execute(f"UPDATE {ahead.of_features.relation} SET __created = -1")
    assert seen(ahead) == found != (1, 6.0)
    ahead.close()


@pytest.mark.parametrize(
    ("known_at", "expected"),
    [(T + DAY, "NOT_YET"), (T + DAY + 1, "PRESENT"), (T + 2 * DAY, "PRESENT")],
)
def test_a_label_is_known_once_its_window_lies_before_the_run_s_end(
    con: Any, known_at: int, expected: str
) -> None:
    ahead = at_borders(con)
    ((_, status),) = [r["amount"] for r in ahead.offline([({"key": 1}, T)], known_at)]
    assert status == expected
    made = ahead.training([({"key": 1}, T), ({"key": 9}, T)], known_at)
    told = made.manifest["label_columns"]["ahead__gone"]
    if expected == "NOT_YET":
        assert told["statuses"] == {"NOT_YET": 2}
        assert told["classes"] == []
    else:
        assert told["statuses"] == {"PRESENT": 2}
        assert [(c["value"], c["rows"]) for c in told["classes"]] == [(False, 1), (True, 1)]
        assert [c["weight"] for c in told["classes"]] == [1.0, 1.0]
        assert made.manifest["label_columns"]["ahead__rows"]["statuses"]["NOT_FOUND"] == 1
    ahead.close()


def test_a_corrected_event_counts_once_and_a_deleted_one_not_at_all(con: Any) -> None:
    def row(name: int, op: str, amount: float, arrived: int) -> dict[str, Any]:
        version = {"key": 1, "amount": amount, "id": name, "op": op, "__ts": T + 1}
        return version | {"__created": arrived}

    rows = [
        *(row(1, "upsert", 1.0, 1), row(1, "upsert", 2.0, DAY)),
        *(row(2, "upsert", 4.0, 1), row(2, "delete", 4.0, DAY)),
        row(3, "upsert", 8.0, 3 * DAY),
    ]
    ahead = Ahead(con, ahead_of(ONE, changed, OF_IDS), {"changed": rows})
    questions = [({"key": 1}, T)]
    assert ahead.offline(questions, 3 * DAY - 1)[0]["sum"] == (bits(None), "NOT_YET")
    assert ahead.offline(questions, 3 * DAY)[0]["sum"] == (bits(2.0 + 8.0), "PRESENT")
    assert ahead.offline(questions, 3 * DAY) == ahead.expected(questions, 3 * DAY)
    ahead.close()
