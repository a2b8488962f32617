"""A parity check finds nothing where the paths agree, and every skew that is planted into one.

Each skew is looked for twice: by `check_parity`, and by an ordinary test that compares both paths
with the oracle on events that Python read from the same file.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import operator
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import awkward
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from paths import Paths, Question, connect

from featurekit import offline, point_in_time, push, serve, sources
from featurekit.aggregates import Last, Max, Min, Sum, exact
from featurekit.aggregates.base import AggregateSql
from featurekit.compiled import Feature, View
from featurekit.online import codec, state
from featurekit.online.store import MemoryStore
from featurekit.parity import check, diagnose
from featurekit.point_in_time import Events
from featurekit.sources import values
from featurekit.store import FeatureStore
from featurekit.to_python import ERROR
from featurekit.types import micros
from featurekit.view_events import ViewEvents

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, CountDistinct, Last, Max, Mean, Min, Sum

customer = Entity("customer", {"customer_id": int})
orders = EventSource(
    "orders", path="data/orders.parquet", timestamp_field="at", timezone="Europe/London",
    created_timestamp_column="known_at",
    schema={"customer_id": int | None, "amount": float, "pieces": int, "word": str | None},
)

@feature
def each(amount: float, pieces: int) -> float:
    return amount / pieces

@feature
def in_tens(pieces: int) -> int:
    return 10 // pieces

@feature
def many(pieces: int) -> bool:
    return pieces > 1

windows = FeatureView(
    "windows", entities=[customer], source=orders,
    features={
        "spend": Sum("amount", window="7d"),
        "spend_or": Sum("amount", window="1h", default=0.0),
        "mean": Mean("amount", window="1d", offset="1h"),
        "spend_hop": Sum("amount", window="1d", hop="6h"),
        "spend_many": Sum("amount", window="30d", where=many),
        "spend_ever": Sum("amount", window="lifetime", offset="1h"),
        "orders": Count(window="1d"),
        "orders_hop": Count(window="6h", hop="1d"),
        "pieces": Sum("pieces", window="7d"),
        "least": Min("amount", window="1h"),
        "most": Max("amount", window="1d"),
        "amounts": CountDistinct("amount", window="7d"),
        "word": Last("word", window="1d"),
    },
)
latest = FeatureView(
    "latest", entities=[customer], source=orders, ttl="1d",
    features={"amount": "amount", "pieces_then": "pieces", "each": each, "in_tens": in_tens},
)

@feature
def of_basket(basket: float, pieces_then: int | None) -> float:
    if pieces_then is None:
        return basket
    return basket / pieces_then

service = FeatureService(
    "service", features=[windows, latest, of_basket], request={"basket": float}
)
"""
LONDON = ZoneInfo("Europe/London")


def orders() -> pa.Table:
    """Two hundred orders of a handful of customers, in summer time, across a clock change, before
    1970, late, tied, doubled, with zeros of both signs, NaN and sums that rounding can part."""
    rng = random.Random(5)
    starts = [dt.datetime(2011, 7, 1), dt.datetime(2011, 10, 29, 20), dt.datetime(1969, 12, 30)]
    amounts = [0.1, 0.2, 0.3, 1e16, -1e16, 1.0, 12.75, 0.0, -0.0, 3.3, -7.7, 1e-3]
    rows = []
    for customer in (1, 2, 3, 4, None):
        at = rng.choice(starts) if customer in (3, None) else starts[(customer or 0) % 3]
        for _ in range(50):
            at += dt.timedelta(hours=rng.choice((0, 0, 1, 1, 3, 6, 24)))
            utc = at.replace(tzinfo=LONDON).astimezone(dt.UTC)
            late = rng.choice((0, 0, 0, 1, 3600, 7200, 100_000))
            rows.append({
                "customer_id": customer,
                "amount": rng.choice(amounts if customer != 4 else [0.0, -0.0]),
                "pieces": rng.choice((0, 1, 1, 2, 3, 7)),
                "word": rng.choice((None, "a", "b", "B", "é")),
                "at": at,
                "known_at": utc + dt.timedelta(seconds=late),
            })  # fmt: skip
    for i in rng.sample(range(150), 3):
        rows[i]["amount"] = float("nan")
    rows += rng.sample(rows, 10)
    rng.shuffle(rows)
    return pa.Table.from_pylist(rows).cast(
        pa.schema([("customer_id", pa.int64()), ("amount", pa.float64()), ("pieces", pa.int64()),
                   ("word", pa.string()), ("at", pa.timestamp("us")),
                   ("known_at", pa.timestamp("us", "UTC"))])
    )  # fmt: skip


@pytest.fixture
def store(make_repo) -> Iterator[FeatureStore]:
    with FeatureStore(make_repo(MODULE, {"orders": orders()})) as opened:
        yield opened


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def checked(store: FeatureStore) -> Any:
    return store.check_parity("service", values=5_000)


class Ordinary:
    """The oracle's answers, worked out once, with nothing of featurekit's reading in them."""

    def __init__(self, con: Any, store: FeatureStore) -> None:
        service = store.repo.services["service"]
        self.source = store.repo.sources["orders"]
        self.raw = pq.read_table(store.path / self.source.path).to_pylist()
        events = [
            {n: r[n] for n in self.source.schema}
            | {"__ts": micros(r["at"].replace(tzinfo=LONDON)), "__created": micros(r["known_at"])}
            for r in self.raw
        ]
        self.created = [e["__created"] for e in events]
        self.paths = Paths(con, service, {"orders": events})
        of_views = list(self.paths.views.values())
        rng = random.Random(3)
        self.questions = []
        for customer in (1, 2, 3, 4, 99, None):
            own = [e for e in events if e["customer_id"] == customer]
            edges = awkward.edges(own, awkward.windows(*of_views)) or [0]
            # The ends of the ttl that can be seen: nothing happened between.
            ends = [e["__ts"] + awkward.DAY for e in own]
            quiet = [t for t in ends if not any(t - awkward.DAY < e["__ts"] <= t for e in own)]
            self.questions += [
                Question({"customer_id": customer, "basket": rng.choice((25.0, -0.0, 0.1))}, t)
                for t in {*quiet, *rng.sample(edges, min(len(edges), 40))}
            ]
        self.questions.sort(key=lambda q: q.t)
        self.middle = next(
            q.t for q in self.questions[len(self.questions) // 3 :]
            if any(e["customer_id"] == q.row["customer_id"] and e["__ts"] <= q.t < e["__created"]
                   for e in events)
        )  # fmt: skip
        self.expected = self.paths.oracle(self.questions)

    def differing(self, store: FeatureStore) -> int:
        """Values offline, and online, that are not the oracle's."""
        got = [self.offline(store), self.online(store)]
        return sum(len(self.paths.shown(self.questions, self.expected, g)) for g in got)

    def offline(self, store: FeatureStore) -> Any:
        frame = pa.table({
            "customer_id": pa.array([q.row["customer_id"] for q in self.questions], pa.int64()),
            "basket": pa.array([q.row["basket"] for q in self.questions], pa.float64()),
            "event_timestamp": pa.array(
                [q.t for q in self.questions], pa.timestamp("us", "UTC")
            ),
        })  # fmt: skip
        training = store.get_historical_features(frame, "service", statuses=True)
        table = training.to_arrow()
        names = training.names
        return [[(row[n], row[f"{n}__status"]) for n in names] for row in table.to_pylist()]

    def online(self, store: FeatureStore) -> Any:
        """The questions in the order of their instants, from pushes, and from one instant on, at
        which an entity waits for a late event, from a materialisation and pushes."""
        online, known, answers = MemoryStore(), state.NEVER, []
        paths = self.paths
        paths.plan = serve.Plan("tests", paths.service)
        middle, filled = self.middle, False
        for question in self.questions:
            if question.t >= middle and not filled:
                online, filled, known = MemoryStore(), True, middle
                events = store.connect()
                for view in paths.service.views:
                    found = store.snapshot(events, view)
                    # As the check imports it, for skews that are planted there.
                    check.materialize_view(events, online, "tests", view, found, until=middle)
                events.close()
            rows = [
                r for r, c in zip(self.raw, self.created, strict=True) if known < c <= question.t
            ]
            known = question.t
            if rows:
                taken = sources.read_rows(self.source, rows, state_dir=None).table.to_pylist()
                push.write(online, push.prepare("tests", paths.service.views, taken))
            answers += paths.online([question], online)
        return answers


@pytest.fixture(scope="module")
def ordinary(con, tmp_path_factory) -> Ordinary:
    from conftest import CONFIG

    folder: Path = tmp_path_factory.mktemp("ordinary")
    (folder / "data").mkdir()
    (folder / "feature_store.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "definitions.py").write_text(MODULE, encoding="utf-8")
    pq.write_table(orders(), folder / "data" / "orders.parquet")
    return Ordinary(con, FeatureStore(folder))


def test_the_paths_agree(store, ordinary):
    report = checked(store)
    assert [d.to_dict() for d in report.differences] == []
    assert report.ok
    assert report.compared >= 5_000
    assert ordinary.differing(store) == 0


def test_every_status_is_compared(store):
    found: set[str] = set()
    for feature in checked(store).features.values():
        found |= set(feature.statuses)
    assert found == set(state.STATUSES)


def test_the_same_seed_asks_the_same(store):
    one, other = (store.check_parity("service", values=1_000, seed=4).to_dict() for _ in range(2))
    assert one | {"seconds": 0} == other | {"seconds": 0}


def test_a_difference_shows_both_values_in_hexadecimal(store, monkeypatch):
    monkeypatch.setattr(diagnose, "MOST_DIAGNOSED", 0)
    plain_sum_online(monkeypatch)
    shown = checked(store).differences[0].to_dict()
    assert "0x" in shown["offline"]["value"]
    assert shown["feature"].startswith("windows__")
    assert shown["offline"] != shown["online"]


# --- skews ----------------------------------------------------------------------------------------

Skew = Callable[[pytest.MonkeyPatch], None]
SKEWS: dict[str, Skew] = {}


def skew(plant: Skew) -> Skew:
    SKEWS[plant.__name__] = plant
    return plant


def wrapped(patch: pytest.MonkeyPatch, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Put `around(original, …)` in the place of a function."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **kwargs: around(original, *args, **kwargs))


@skew
def a_window_s_open_end_closed_offline(patch):
    wrapped(patch, point_in_time, "_keep", lambda keep, f: keep(f).replace("__ts > ", "__ts >= "))


@skew
def a_window_s_closed_end_open_offline(patch):
    wrapped(patch, point_in_time, "_keep", lambda keep, f: keep(f).replace("__ts <= ", "__ts < "))


@skew
def a_window_s_open_end_closed_online(patch):
    bounds = Feature.bounds
    patch.setattr(Feature, "bounds", lambda f, t: (bounds(f, t)[0] - 1, bounds(f, t)[1]))


@skew
def a_window_s_closed_end_open_online(patch):
    bounds = Feature.bounds
    patch.setattr(Feature, "bounds", lambda f, t: (bounds(f, t)[0], bounds(f, t)[1] - 1))


def older(view: View) -> View:
    return dataclasses.replace(view, ttl_us=(view.ttl_us or 0) + 1)


@skew
def a_ttl_s_end_closed_offline(patch):
    wrapped(patch, point_in_time, "latest_sql",
            lambda sql, con, view, *args, **kw: sql(con, older(view), *args, **kw))  # fmt: skip


@skew
def a_ttl_s_end_closed_online(patch):
    wrapped(patch, state, "_latest", lambda latest, view, read, t: latest(older(view), read, t))


@skew
def an_expired_row_not_found_online(patch):
    wrapped(patch, state, "_latest", lambda latest, *args: [
        (v, "NOT_FOUND" if s == "OUTSIDE_MAX_AGE" else s) for v, s in latest(*args)
    ])  # fmt: skip


@skew
def plain_sum_online(patch):
    # Not the builtin: from Python 3.12 on it compensates, and parts more seldom.
    patch.setattr(exact, "exact_sum", lambda xs: functools.reduce(operator.add, xs, 0.0))


@skew
def plain_sum_in_another_order_online(patch):
    patch.setattr(exact, "exact_sum", lambda xs: functools.reduce(operator.add, sorted(xs), 0.0))


@skew
def plain_sum_offline(patch):
    def plain(sql: Any, self: Any, column: Any, keep: str) -> Any:
        if column.type.name != "float":
            return sql(self, column, keep)
        return AggregateSql((f"sum({column.sql}) FILTER ({keep})",), "{0}")

    wrapped(patch, Sum, "sql", plain)


@skew
def a_naive_time_zone_in_files(patch):
    wrapped(patch, sources, "read_events", lambda read, con, source, **kw: read(
        con, dataclasses.replace(source, timezone="UTC"), **kw))  # fmt: skip
    patch.setattr(check, "read_events", sources.read_events)


@skew
def a_naive_time_zone_in_pushes(patch):
    wrapped(patch, values, "to_utc_us", lambda read, value, zone: read(value, "UTC"))


@skew
def a_null_filled_with_zero_offline(patch):
    def filled(sql: Any, con: Any, view: View, *args: Any, **kw: Any) -> Any:
        features = [
            dataclasses.replace(f, default=0.0) if f.name == "mean" else f for f in view.features
        ]
        return sql(con, dataclasses.replace(view, features=tuple(features)), *args, **kw)

    wrapped(patch, point_in_time, "windows_sql", filled)


@skew
def a_null_filled_with_zero_online(patch):
    wrapped(patch, state, "stated", lambda stated, v: (0.0, "PRESENT") if v is None else stated(v))


@skew
def an_error_swallowed_by_a_case_offline(patch):
    def swallowed(events: Any, *args: Any) -> ViewEvents:
        made = events(*args)
        whole = [f"coalesce(s{i}, 0) AS s{i}" for i, e in enumerate(made.errors) if e]
        sql = f"(SELECT * REPLACE ({', '.join(whole)}) FROM {made.sql})" if whole else made.sql
        return dataclasses.replace(made, sql=sql, errors=(None,) * len(made.errors))

    wrapped(patch, point_in_time, "view_events", swallowed)


@skew
def an_error_read_as_none_offline(patch):
    wrapped(patch, point_in_time, "view_events", lambda events, *args: dataclasses.replace(
        events(*args), errors=(None,) * len(events(*args).errors)))  # fmt: skip


def without_errors(instead: Any) -> Callable[..., Any]:
    def around(lower: Any, function: Any) -> Any:
        evaluate = lower(function)
        value = instead and instead.get(function.returns.name)

        def swallowing(*args: Any) -> Any:
            found = evaluate(*args)
            return value if found is ERROR else found

        return swallowing

    return around


@skew
def an_error_read_as_none_online(patch):
    wrapped(patch, push, "to_python", without_errors(None))


@skew
def an_error_read_as_zero_online(patch):
    wrapped(patch, push, "to_python", without_errors({"float": 0.0, "int": 0}))


@skew
def a_request_time_error_swallowed_online(patch):
    wrapped(patch, serve, "to_python", without_errors({"float": 0.0}))


@skew
def a_late_event_counted_offline(patch):
    wrapped(patch, offline, "join_service", lambda join, con, service, events, *args, **kw: join(
        con, service, [Events(e.relation, True) for e in events], *args, **kw))  # fmt: skip


@skew
def a_late_event_counted_by_a_backfill(patch):
    def early(materialise: Any, con: Any, store: Any, project: str, view: View, events: Events,
              **kw: Any) -> Any:  # fmt: skip
        known = f"(SELECT * REPLACE (__ts AS __created) FROM {events.relation})"
        return materialise(con, store, project, view, Events(known, True), **kw)

    wrapped(patch, check, "materialize_view", early)


@skew
def ties_broken_by_arrival_online(patch):
    patch.setattr(state, "event_order", lambda view: lambda event: event[:2])


@skew
def ties_broken_backwards_offline(patch):
    wrapped(patch, point_in_time, "order_sql", lambda order, *args, **kw: ", ".join(
        term if term.startswith("__") else f"{term.split()[0]} "
        + ("ASC" if " DESC" in term else "DESC") for term in order(*args, **kw).split(", ")
    ))  # fmt: skip


@skew
def hops_not_aligned_offline(patch):
    wrapped(patch, point_in_time, "_keep",
            lambda keep, f: keep(dataclasses.replace(f, hop_us=0)))  # fmt: skip


@skew
def hops_counted_from_noon_offline(patch):
    half = 12 * 3_600_000_000
    wrapped(patch, point_in_time, "_keep", lambda keep, f: keep(f).replace(
        "fk_hop(l.__t", f"-{half} + fk_hop({half} + l.__t"))  # fmt: skip


@skew
def hops_not_aligned_online(patch):
    bounds = Feature.bounds
    patch.setattr(Feature, "bounds", lambda f, t: bounds(dataclasses.replace(f, hop_us=0), t))


@skew
def hops_truncated_before_1970_online(patch):
    def bounds(f: Feature, t: int) -> tuple[int, int]:
        low = t - f.offset_us - f.window_us
        if f.hop_us:
            low = int(low / f.hop_us) * f.hop_us
        return low, t - f.offset_us

    patch.setattr(Feature, "bounds", bounds)


def offline_values(patch: pytest.MonkeyPatch, change: Callable[[str], str]) -> None:
    """Change each float that the join gives, in SQL."""

    def around(join: Any, con: Any, service: Any, *args: Any, **kw: Any) -> Any:
        joined = join(con, service, *args, **kw)
        floats = [o for o, out in enumerate(service.outputs) if out.type.base.name == "float"]
        shown = ", ".join(f"{change(f'o{o}')} AS o{o}" for o in floats)
        return dataclasses.replace(joined, sql=f"(SELECT * REPLACE ({shown}) FROM {joined.sql})")

    wrapped(patch, offline, "join_service", around)


@skew
def minus_zero_lost_offline(patch):
    offline_values(patch, lambda x: f"({x} + 0.0::DOUBLE)")


@skew
def minus_zero_lost_by_the_wire_form(patch):
    wrapped(patch, codec, "_encode_values", lambda encode, type_, xs: encode(
        type_, [x + 0.0 if isinstance(x, float) else x for x in xs]))  # fmt: skip
    # The states of common types take a shorter way to the same bytes, where there is one.
    for module, name in ((state, "encode_column"), (codec, "encode_column")):
        wrapped(patch, module, name, lambda encode, type_, xs: encode(
            type_, [x + 0.0 if isinstance(x, float) else x for x in xs]))  # fmt: skip


@skew
def nan_skipped_in_sums_online(patch):
    wrapped(patch, exact, "exact_sum", lambda total, xs: total([x for x in xs if x == x]))


@skew
def nan_skipped_in_sums_offline(patch):
    wrapped(patch, Sum, "sql", lambda sql, self, column, keep: sql(
        self, column, f"{keep} AND NOT coalesce(isnan({column.sql}::DOUBLE), FALSE)"))  # fmt: skip


@skew
def nan_read_as_null_offline(patch):
    offline_values(patch, lambda x: f"CASE WHEN NOT isnan({x}) THEN {x} END")


@skew
def nan_beaten_by_numbers_online(patch):
    for kind in (Min, Max):
        wrapped(patch, kind, "over", lambda over, self, xs, item: over(
            self, [x for x in xs if x == x] or xs, item))  # fmt: skip


@skew
def ints_made_floats_offline(patch):
    def upcast(to_arrow: Any, self: Any) -> pa.Table:
        table = to_arrow(self)
        for i, field in enumerate(table.schema):
            if field.name in self.names and field.type == pa.int64() and table[i].null_count:
                table = table.set_column(i, field.name, table[i].cast(pa.float64()))
        return table

    wrapped(patch, offline.TrainingSet, "to_arrow", upcast)


@skew
def ints_made_floats_online(patch):
    wrapped(patch, state, "stated", lambda stated, v: stated(
        float(v) if type(v) is int else v))  # fmt: skip


@skew
def the_last_of_any_order_offline(patch):
    wrapped(patch, Last, "sql", lambda sql, self, column, keep: sql(
        self, dataclasses.replace(column, order="e.__created"), keep))  # fmt: skip


@skew
def an_event_forgotten_online(patch):
    prune = state.State.prune

    def hasty(self: Any) -> None:
        prune(self)
        if len(self.events) > 40:
            del self.events[0]

    patch.setattr(state.State, "prune", hasty)


@skew
def a_push_counted_twice_online(patch):
    wrapped(patch, push, "prepare", lambda prepare, project, views, rows: prepare(
        project, views, [*rows, *rows]))  # fmt: skip
    patch.setattr(check, "prepare", push.prepare)


CAUSES = {
    "a_window_s": "window edge",
    "a_ttl_s": "ttl",
    "an_expired_row": "ttl",
    "plain_sum": "float order",
    "a_naive_time_zone": "time zone",
    "a_null_filled": "null fill",
    "an_error": "error",
    "a_request_time_error": "error",
    "a_late_event": "late event",
    "ties": "tie",
    "hops": "hop",
    "minus_zero": "-0.0",
    "nan": "NaN",
    "ints_made_floats": "type",
    "the_last_of_any_order": "tie",
    "an_event_forgotten": "missing event",
    "a_push_counted_twice": "duplicate event",
}
"""What a diagnosis is to say of a skew, by how its name begins."""


@pytest.mark.parametrize("name", SKEWS)
def test_a_skew_is_caught_and_its_cause_named(store, ordinary, monkeypatch, name):
    # One diagnosis for each skew: they take seconds.
    monkeypatch.setattr(diagnose, "MOST_DIAGNOSED", 1)
    SKEWS[name](monkeypatch)
    report = checked(store)
    assert report.differing > 0
    assert ordinary.differing(store) > 0
    causes = [d.diagnosis.cause for d in report.differences if d.diagnosis is not None]
    assert causes == [c for begin, c in CAUSES.items() if name.startswith(begin)]
