"""The catalogue: each skew changes one path in one way that training and serving really part in.

`path` is the one that is changed. `cause` is what the difference should be told as. `service` is
that of `repo/everything.py` which shows it; `mode` what must find it. `orders`: whether the small
repo of `test_parity` shows it as well.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import math
import operator
import struct
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from featurekit.aggregates import (
    CountDistinct,
    First,
    Last,
    Max,
    Min,
    Sum,
    TimeSince,
    ValueCounts,
    counting,
    exact,
    hyperloglog,
    quantiles,
    runs,
    spread,
)
from featurekit.aggregates.sql import AggregateSql
from featurekit.core import coerce as values
from featurekit.core.status import FOREVER
from featurekit.core.types import FLOAT
from featurekit.core.values import ERROR
from featurekit.define import explode, published, union
from featurekit.define.plan import Feature, View
from featurekit.feed import events as push
from featurekit.feed import materialise, settle
from featurekit.feed.materialise import materialize_view
from featurekit.language import ops
from featurekit.offline import counted_events, view_events, view_result, windows
from featurekit.offline import latest as latest_module
from featurekit.offline import training_set as offline
from featurekit.offline.events import EventRows
from featurekit.online.lookup import answer, evaluator
from featurekit.online.lookup import view as lookup
from featurekit.online.state import codec, ids, row, splice, state
from featurekit.online.state import update as states
from featurekit.sources import rows as rows_module

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]
Path = Literal["offline", "online", "push", "backfill"]


@dataclass(frozen=True)
class Skew:
    """One skew; `about` says it in words."""

    name: str
    path: Path
    cause: str
    service: str
    plant: Plant
    mode: str = "fuzz"
    orders: bool = False

    @property
    def about(self) -> str:
        return self.name.replace("_", " ")


SKEWS: dict[str, Skew] = {}


def skew(
    path: Path, cause: str, service: str = "sums", *, mode: str = "fuzz", orders: bool = False
) -> Callable[[Plant], Plant]:
    def add(plant: Plant) -> Plant:
        name = plant.__name__
        SKEWS[name] = Skew(name, path, cause, service, plant, mode, orders)
        return plant

    return add


def wrapped(patch: Patch, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Put `around(original, …)` in the place of a function of a class, or of a module: wherever it
    is used where the module defines it, and in that module alone where it imported it."""
    original = getattr(owner, name)
    if getattr(original, "__module__", "") == getattr(owner, "__name__", None):
        everywhere(patch, original, around)
    else:
        patch.setattr(owner, name, lambda *args, **kwargs: around(original, *args, **kwargs))


def in_writers(patch: Patch, name: str, around: Callable[..., Any]) -> None:
    """Put `around(original, …)` in the place of what a view's writer of pushes is made with; the
    writers that are kept were made before, and those made now are not to be kept."""
    wrapped(patch, push, name, around)
    for module in (push, settle):
        patch.setattr(module, "writer_of", push.ViewWriter)


def everywhere(patch: Patch, original: Any, around: Callable[..., Any]) -> None:
    """Put `around(original, …)` in its place in every module that imported it."""

    def changed(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    for module in [m for n, m in sys.modules.items() if n.startswith("featurekit")]:
        for name, value in list(vars(module).items()):
            if value is original:
                patch.setattr(module, name, changed)


def meaning(patch: Patch, key: str, **changes: Any) -> None:
    """Change one path of a row of the operator table."""
    row = dataclasses.replace(ops.TABLE[key], **changes)
    if "sql" in changes:
        row = dataclasses.replace(row, literal_sql=None)
    patch.setitem(ops.TABLE, key, row)


# ── Windows and ttls ──────────────────────────────────────────────────────────────────────────────


@skew("offline", "window edge", orders=True)
def a_window_s_open_end_closed_offline(patch):
    wrapped(
        patch, view_result, "in_window_sql", lambda keep, f: keep(f).replace("__ts > ", "__ts >= ")
    )


@skew("offline", "window edge", orders=True)
def a_window_s_closed_end_open_offline(patch):
    wrapped(
        patch, view_result, "in_window_sql", lambda keep, f: keep(f).replace("__ts <= ", "__ts < ")
    )


@skew("online", "window edge", orders=True)
def a_window_s_open_end_closed_online(patch):
    bounds = Feature.bounds
    patch.setattr(Feature, "bounds", lambda f, t: (bounds(f, t)[0] - 1, bounds(f, t)[1]))


@skew("online", "window edge", orders=True)
def a_window_s_closed_end_open_online(patch):
    bounds = Feature.bounds
    patch.setattr(Feature, "bounds", lambda f, t: (bounds(f, t)[0], bounds(f, t)[1] - 1))


@skew("online", "window edge")
def an_offset_ignored_online(patch):
    bounds = Feature.bounds
    patch.setattr(Feature, "bounds", lambda f, t: bounds(dataclasses.replace(f, offset_us=0), t))


@skew("offline", "window edge")
def an_offset_ignored_offline(patch):
    wrapped(patch, view_result, "in_window_sql",
            lambda keep, f: keep(dataclasses.replace(f, offset_us=0)))  # fmt: skip


@skew("offline", "hop", orders=True)
def hops_not_aligned_offline(patch):
    wrapped(patch, view_result, "in_window_sql",
            lambda keep, f: keep(dataclasses.replace(f, hop_us=0)))  # fmt: skip


@skew("offline", "hop", orders=True)
def hops_counted_from_noon_offline(patch):
    half = 12 * 3_600_000_000 // 5
    wrapped(patch, view_result, "in_window_sql", lambda keep, f: keep(f).replace(
        "fk_hop(l.__t", f"-{half} + fk_hop({half} + l.__t"))  # fmt: skip


@skew("online", "hop", orders=True)
def hops_not_aligned_online(patch):
    bounds = Feature.bounds
    patch.setattr(Feature, "bounds", lambda f, t: bounds(dataclasses.replace(f, hop_us=0), t))


@skew("online", "hop", orders=True)
def hops_truncated_before_1970_online(patch):
    def bounds(f: Feature, t: int) -> tuple[int, int]:
        low = t - f.offset_us - f.window_us
        if f.hop_us:
            low = int(low / f.hop_us) * f.hop_us
        return low, t - f.offset_us

    patch.setattr(Feature, "bounds", bounds)


def older(view: View) -> View:
    return view if view.ttl_us is None else dataclasses.replace(view, ttl_us=view.ttl_us + 1)


@skew("offline", "ttl", "rows", orders=True)
def a_ttl_s_end_closed_offline(patch):
    wrapped(patch, latest_module, "make_latest",
            lambda sql, con, view, *args, **kw: sql(con, older(view), *args, **kw))  # fmt: skip


@skew("online", "ttl", "rows", orders=True)
def a_ttl_s_end_closed_online(patch):
    wrapped(patch, answer, "_latest", lambda latest, view, *args: latest(older(view), *args))
    wrapped(patch, lookup.ViewLookup, "__init__", lambda init, self, view, *features: init(
        self, older(view), *features))  # fmt: skip


@skew("online", "ttl", "rows", orders=True)
def an_expired_row_not_found_online(patch):
    wrapped(patch, answer, "_latest", lambda latest, *args: [
        (v, "NOT_FOUND" if s == "OUTSIDE_MAX_AGE" else s) for v, s in latest(*args)
    ])  # fmt: skip


@skew("online", "ttl", "rows")
def a_ttl_ignored_online(patch):
    wrapped(patch, answer, "_latest", lambda latest, view, *args: latest(
        dataclasses.replace(view, ttl_us=None), *args))  # fmt: skip


# ── Time zones and instants ───────────────────────────────────────────────────────────────────────


def read_in(patch: Patch, zone: str) -> None:
    from featurekit.sources import read_events

    everywhere(patch, read_events, lambda read, con, source, **kw: read(
        con, dataclasses.replace(source, timezone=zone), **kw))  # fmt: skip


@skew("offline", "time zone", orders=True)
def a_naive_time_zone_in_files(patch):
    read_in(patch, "UTC")


@skew("push", "time zone", orders=True)
def a_naive_time_zone_in_pushes(patch):
    wrapped(patch, values, "to_utc_us", lambda read, value, zone: read(value, "UTC"))


@skew("offline", "time zone", "ids")
def summer_time_left_out_of_files(patch):
    read_in(patch, "Etc/GMT+5")


@skew("push", "time zone", "ids")
def the_second_of_two_equal_hours_in_pushes(patch):
    def second(read: Any, value: dt.datetime, zone: str) -> int:
        if value.tzinfo is not None:
            return read(value, zone)
        return read(value.replace(tzinfo=ZoneInfo(zone), fold=1), zone)

    wrapped(patch, values, "to_utc_us", second)


@skew("online", "time zone", "instants")
def a_zone_of_a_transform_taken_for_utc_online(patch):
    sql = "hour({0} + CASE WHEN {1} IS NOT NULL THEN to_hours(1) END)::BIGINT"
    meaning(patch, "zoned.hour(datetime,str)", python="{0}.hour", sql=sql)


@skew("push", "precision")
def milliseconds_in_pushes(patch):
    wrapped(patch, push.ViewWriter, "event", lambda event, self, row: (
        row["__ts"] // 1000 * 1000, *event(self, row)[1:]))  # fmt: skip


# ── Late, lost and repeated events ────────────────────────────────────────────────────────────────


@skew("offline", "late event", orders=True)
def a_late_event_counted_offline(patch):
    wrapped(patch, offline, "make_join", lambda join, con, service, events, *args, **kw: join(
        con, service, [EventRows(e.relation, True) for e in events], *args, **kw))  # fmt: skip


@skew("backfill", "late event", orders=True)
def a_late_event_counted_by_a_backfill(patch):
    def early(materialise: Any, con: Any, store: Any, project: str, view: View, events: EventRows,
              **kw: Any) -> Any:  # fmt: skip
        known = f"(SELECT * REPLACE (__ts AS __created) FROM {events.relation})"
        return materialise(con, store, project, view, EventRows(known, True), **kw)

    everywhere(patch, materialize_view, early)


@skew("push", "late event")
def an_event_put_last_whenever_it_happened_by_pushes(patch):
    patch.setattr(splice, "bisect_left", lambda instants, ts: len(instants))


@skew("push", "missing event")
def a_late_event_dropped_by_pushes(patch):
    def prompt(prepare: Any, project: str, views: Any, rows: Any, **kw: Any) -> Any:
        hour = 3_600_000_000
        rows = [r for r in rows if r["__created"] < r["__ts"] + hour]
        return prepare(project, views, rows, **kw)

    everywhere(patch, push.prepare, prompt)


@skew("push", "duplicate event", orders=True)
def a_push_counted_twice_online(patch):
    everywhere(patch, push.prepare, lambda prepare, project, views, rows, **kw: prepare(
        project, views, [*rows, *rows], **kw))  # fmt: skip


def every_state_is_opened(patch):
    # Plain states take a shorter way to the same bytes, in which these faults are not.
    for module in (settle, states):
        patch.setattr(module, "splice_of", lambda view: None)


@skew("push", "missing event", orders=True)
def an_event_forgotten_online(patch):
    prune = state.State.prune

    def hasty(self: Any) -> None:
        prune(self)
        if len(self.events) > 8:
            del self.events[0]

    patch.setattr(state.State, "prune", hasty)
    every_state_is_opened(patch)


@skew("push", "missing event", "sets")
def states_pruned_too_early(patch):
    prune = state.State.prune

    def hasty(self: Any) -> None:
        view = self.view
        self.view = dataclasses.replace(view, retain_us=view.retain_us // 4)
        prune(self)
        self.view = view

    patch.setattr(state.State, "prune", hasty)
    every_state_is_opened(patch)


@skew("push", "missing event")
def every_tenth_row_lost_in_pushes(patch):
    def lossy(prepare: Any, project: str, views: Any, rows: Any, **kw: Any) -> Any:
        return prepare(project, views, [r for i, r in enumerate(rows) if i % 10 != 9], **kw)

    everywhere(patch, push.prepare, lossy)


@skew("backfill", "missing event")
def a_backfill_that_ends_a_microsecond_early(patch):
    everywhere(patch, materialize_view, lambda made, *args, until, **kw: made(
        *args, until=until - 1, **kw))  # fmt: skip


@skew("push", "stale state")
def a_state_that_stays_as_it_was(patch):
    add = state.State.add
    patch.setattr(
        state.State, "add", lambda self, events: add(self, events if len(self.events) < 3 else [])
    )
    every_state_is_opened(patch)


@skew("push", "duplicate event", "ids")
def copies_of_an_id_counted_online(patch):
    patch.setattr(ids.Ids, "_first_known", lambda self, rows: list(rows))


@skew("offline", "duplicate event", "ids")
def copies_of_an_id_counted_offline(patch):
    wrapped(patch, counted_events, "make_counted_rows", lambda counted, con, view, relation: (
        relation if view.source.op is None else counted(con, view, relation)))  # fmt: skip


@skew("push", "duplicate event", "ids")
def ids_forgotten_a_microsecond_early_online(patch):
    wrapped(patch, ids.Ids, "__init__", lambda init, self, view: init(
        self, dataclasses.replace(view, dedupe_us=view.dedupe_us - 1)))  # fmt: skip


@skew("push", "deletion ignored", "ids")
def a_deletion_ignored_online(patch):
    wrapped(patch, ids.Ids, "counting", lambda counting, self, rows: counting(
        self, [r for r in rows if self.op is None or r[self.op] != "delete"]))  # fmt: skip


@skew("offline", "correction ignored", "ids")
def corrections_beside_what_they_correct_offline(patch):
    wrapped(patch, counted_events, "_versions_sql", lambda versions, *args: (
        f"SELECT * REPLACE ({FOREVER} AS __end) FROM ({versions(*args)})"))  # fmt: skip


# ── Order ─────────────────────────────────────────────────────────────────────────────────────────


@skew("online", "tie", "sets", orders=True)
def ties_broken_by_arrival_online(patch):
    everywhere(patch, state.event_order, lambda _, view: lambda event: event[:2])


@skew("offline", "tie", "sets", orders=True)
def ties_broken_backwards_offline(patch):
    everywhere(patch, view_events.order_sql, lambda order, *args, **kw: ", ".join(
        term if term.startswith("__") else f"{term.split()[0]} "
        + ("ASC" if " DESC" in term else "DESC") for term in order(*args, **kw).split(", ")
    ))  # fmt: skip


@skew("offline", "tie", "sets", orders=True)
def the_last_of_any_order_offline(patch):
    wrapped(patch, Last, "sql", lambda sql, self, column, keep: sql(
        self, dataclasses.replace(column, order="e.__created"), keep))  # fmt: skip


@skew("online", "tie", "sets")
def first_and_last_swapped_online(patch):
    patch.setattr(First, "over", lambda self, xs, item: xs[-1] if xs else None)


@skew("online", "tie", "sets")
def a_dict_in_the_order_of_insertion_online(patch):
    patch.setattr(ValueCounts, "over", lambda self, xs, item: dict(counting.counts(xs, item)))


# ── Sums and spreads ──────────────────────────────────────────────────────────────────────────────


@skew("online", "float order", orders=True)
def plain_sum_online(patch):
    # Not the builtin: from Python 3.12 on it compensates, and parts more seldom.
    patch.setattr(exact, "exact_sum", lambda xs: functools.reduce(operator.add, xs, 0.0))


@skew("online", "float order", orders=True)
def plain_sum_in_another_order_online(patch):
    patch.setattr(exact, "exact_sum", lambda xs: functools.reduce(operator.add, sorted(xs), 0.0))


@skew("online", "float order")
def plain_sum_of_many_online(patch):
    def plain(of: Any, column: Any, spans: Any, fields: Any) -> Any:
        found = of(column, spans, fields)
        totals = [functools.reduce(operator.add, column[i:j], 0.0) for i, j in spans]
        told = zip(found.get("total", totals), totals, strict=True)
        return {**found, "total": [None if known is None else plain for known, plain in told]}

    wrapped(patch, runs, "runs_of", plain)


@skew("offline", "float order", orders=True)
def plain_sum_offline(patch):
    def plain(sql: Any, self: Any, column: Any, keep: str) -> Any:
        if column.type.name != "float":
            return sql(self, column, keep)
        return AggregateSql((f"sum({column.sql}) FILTER ({keep})",), "{0}")

    wrapped(patch, Sum, "sql", plain)


@skew("online", "float order")
def variance_by_squares_online(patch):
    def naive(of: Any, xs: Any, *, ddof: int, root: bool) -> Any:
        exactly = of(xs, ddof=ddof, root=root)
        if exactly is None or not math.isfinite(exactly):
            return exactly
        n = len(xs)
        mean = sum(xs) / n
        found = max(sum(x * x for x in xs) / n - mean * mean, 0.0) * n / (n - ddof)
        return math.sqrt(found) if root else found

    everywhere(patch, spread.spread_of, naive)


@skew("online", "quantile", "sets")
def a_quantile_without_interpolation_online(patch):
    wrapped(patch, quantiles, "quantile", lambda _, xs, q: (
        float(xs[int((len(xs) - 1) * q)]) if xs else None))  # fmt: skip


@skew("online", "hash", "sets")
def another_hash_of_a_sketch_online(patch):
    wrapped(patch, hyperloglog, "canonical_bytes", lambda made, x: made(x) + b"\0")


# ── Numbers ───────────────────────────────────────────────────────────────────────────────────────


def offline_values(patch: Patch, change: Callable[[str], str]) -> None:
    """Change each float that the join gives, in SQL."""

    def around(join: Any, con: Any, service: Any, *args: Any, **kw: Any) -> Any:
        joined = join(con, service, *args, **kw)
        floats = [o for o, out in enumerate(service.outputs) if out.type.base == FLOAT]
        shown = ", ".join(f"{change(f'o{o}')} AS o{o}" for o in floats)
        return dataclasses.replace(joined, sql=f"(SELECT * REPLACE ({shown}) FROM {joined.sql})")

    wrapped(patch, offline, "make_join", around)


def encoded(patch: Patch, change: Callable[[float], float]) -> None:
    """Change each float as it is written to a state."""

    def change_all(encode: Any, type_: Any, xs: Any) -> Any:
        return encode(type_, [change(x) if isinstance(x, float) else x for x in xs])

    wrapped(patch, codec, "_encode_values", change_all)
    # The states of common types take a shorter way to the same bytes, where there is one.
    for module in (state, codec):
        wrapped(patch, module, "encode_column", change_all)

    def change_row(encode: Any, form: Any, ts: int, created: int, *more: Any) -> Any:
        *instants, xs = more
        changed = [change(x) if isinstance(x, float) else x for x in xs]
        return encode(form, ts, created, *instants, changed)

    wrapped(patch, row.RowForm, "encode", change_row)


def single(x: float) -> float:
    try:
        return struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


@skew("offline", "-0.0", "rows", orders=True)
def minus_zero_lost_offline(patch):
    offline_values(patch, lambda x: f"({x} + 0.0::DOUBLE)")


@skew("push", "-0.0", "rows", orders=True)
def minus_zero_lost_by_the_wire_form(patch):
    encoded(patch, lambda x: x + 0.0)


@skew("push", "float32", "rows")
def floats_of_32_bits_in_states(patch):
    encoded(patch, single)


@skew("offline", "float32", "rows")
def floats_of_32_bits_offline(patch):
    offline_values(patch, lambda x: f"coalesce(try_cast({x} AS FLOAT)::DOUBLE, {x})")


@skew("online", "NaN", orders=True)
def nan_skipped_in_sums_online(patch):
    wrapped(patch, exact, "exact_sum", lambda total, xs: total([x for x in xs if x == x]))


@skew("offline", "NaN", orders=True)
def nan_skipped_in_sums_offline(patch):
    wrapped(patch, Sum, "sql", lambda sql, self, column, keep: sql(
        self, column, f"{keep} AND NOT coalesce(isnan({column.sql}::DOUBLE), FALSE)"))  # fmt: skip


@skew("offline", "NaN", orders=True)
def nan_read_as_null_offline(patch):
    offline_values(patch, lambda x: f"CASE WHEN NOT isnan({x}) THEN {x} END")


@skew("online", "NaN", orders=True)
def nan_beaten_by_numbers_online(patch):
    for kind in (Min, Max):
        wrapped(patch, kind, "over", lambda over, self, xs, item: over(
            self, [x for x in xs if x == x] or xs, item))  # fmt: skip


@skew("online", "NaN", "sets")
def every_nan_a_value_of_its_own_online(patch):
    patch.setattr(CountDistinct, "over", lambda self, xs, item: (
        len({x for x in xs if x == x}) + sum(x != x for x in xs)))  # fmt: skip


@skew("offline", "type", orders=True)
def ints_made_floats_offline(patch):
    def upcast(to_arrow: Any, self: Any) -> pa.Table:
        table = to_arrow(self)
        for i, field in enumerate(table.schema):
            if field.name in self.names and field.type == pa.int64() and table[i].null_count:
                table = table.set_column(i, field.name, table[i].cast(pa.float64(), safe=False))
        return table

    wrapped(patch, offline.TrainingSet, "to_arrow", upcast)


@skew("online", "type", orders=True)
def ints_made_floats_online(patch):
    wrapped(patch, answer, "stated", lambda stated, v: stated(
        float(v) if type(v) is int else v))  # fmt: skip


@skew("online", "type", "sets")
def bools_made_ints_online(patch):
    wrapped(patch, answer, "stated", lambda stated, v: stated(int(v) if type(v) is bool else v))


@skew("online", "rounding", "rows")
def halves_rounded_up_online(patch):
    meaning(patch, "round(float)", python="math.floor({0} + 0.5)")


@skew("offline", "rounding", "rows", mode="operators")
def halves_rounded_away_offline(patch):
    meaning(patch, "round(float)",
            sql="CASE WHEN abs({0}) < 9e18 THEN round({0})::BIGINT END")  # fmt: skip


@skew("offline", "division", "rows")
def floor_division_truncates_offline(patch):
    meaning(patch, "//(int,int)", sql="({0} // nullif({1}, 0))")


@skew("offline", "division", "rows")
def the_rest_with_the_dividend_s_sign_offline(patch):
    meaning(patch, "%(int,int)", sql="({0} % nullif({1}, 0))")


@skew("offline", "division", mode="operators")
def the_rest_of_floats_with_the_dividend_s_sign_offline(patch):
    meaning(patch, "%(float,float)", sql="({0} % nullif({1}, 0))", steps=())


@skew("online", "overflow", "rows")
def ints_that_wrap_online(patch):
    meaning(patch, "*(int,int)", python="(({0} * {1} + 2**63) % 2**64 - 2**63)")


@skew("online", "numerics", "rows")
def another_libm_for_exp_online(patch):
    meaning(patch, "math.exp(float)", python="math.nextafter(math.exp({0}), math.inf)")


@skew("offline", "numerics", "rows")
def another_libm_for_log_offline(patch):
    row = ops.TABLE["math.log(float)"]
    meaning(patch, row.key, sql=(row.sql or "").replace("ln({0})", "(log2({0}) * ln(2))"))


@skew("offline", "operator", mode="operators")
def int_and_float_compared_as_floats_offline(patch):
    meaning(patch, "<(float,int)", sql="({0} - {1}::DOUBLE < 0)")


# ── Nulls, errors and conditions ──────────────────────────────────────────────────────────────────


@skew("offline", "null fill", orders=True)
def a_null_filled_with_zero_offline(patch):
    def filled(sql: Any, con: Any, view: View, *args: Any, **kw: Any) -> Any:
        features = [
            dataclasses.replace(f, default=0.0) if f.name == "mean" else f for f in view.features
        ]
        return sql(con, dataclasses.replace(view, features=tuple(features)), *args, **kw)

    wrapped(patch, windows, "make_windows", filled)


@skew("online", "null fill", "rows", orders=True)
def a_null_filled_with_zero_online(patch):
    wrapped(patch, answer, "stated", lambda stated, v: (0.0, "PRESENT") if v is None else stated(v))


@skew("online", "null fill", "rows")
def the_last_value_that_is_no_null_online(patch):
    def carried(latest: Any, view: View, read: Any, t: int, *asked: Any) -> Any:
        found = latest(view, read, t, *asked)
        seen = [k for k in range(read.n) if read.counts(k, t)]
        for i, feature in enumerate(view.features):
            if found[i] == (None, "NULL_VALUE"):
                column = read.column(feature.slot)
                old = [column[k] for k in seen if column[k] is not None and column[k] is not ERROR]
                found[i] = (old[-1], "PRESENT") if old else found[i]
        return found

    wrapped(patch, answer, "_latest", carried)


@skew("push", "null fill", "rows")
def empty_texts_read_as_null_in_pushes(patch):
    def reader(make: Any, type_: Any, **options: Any) -> Any:
        read = make(type_, **options)
        return lambda value: None if value == "" and type_.optional else read(value)

    everywhere(patch, values.reader, reader)


@skew("online", "error")
def a_default_for_errors_online(patch):
    def forgiving(window: Any, view: View, feature: Any, *args: Any, **kw: Any) -> Any:
        found = window(view, feature, *args, **kw)
        if found[1] == "ERROR" and feature.default is not None:
            return feature.default, "PRESENT"
        return found

    wrapped(patch, answer, "_window", forgiving)


@skew("offline", "error", "rows", orders=True)
def an_error_swallowed_by_a_case_offline(patch):
    def swallowed(events: Any, con: Any, view: View, *args: Any) -> Any:
        made = events(con, view, *args)
        numbers = ("float", "int")
        whole = [
            f"coalesce(s{i}, 0) AS s{i}"
            for i, e in enumerate(made.errors)
            if e and view.slots[i].type.name in numbers
        ]
        sql = f"(SELECT * REPLACE ({', '.join(whole)}) FROM {made.sql})" if whole else made.sql
        return dataclasses.replace(made, sql=sql, errors=(None,) * len(made.errors))

    for module in (windows, latest_module):
        wrapped(patch, module, "view_events", swallowed)


@skew("offline", "error", "rows", orders=True)
def an_error_read_as_none_offline(patch):
    for module in (windows, latest_module):
        wrapped(patch, module, "view_events", lambda events, *args: dataclasses.replace(
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


@skew("push", "error", "rows", orders=True)
def an_error_read_as_none_online(patch):
    in_writers(patch, "to_python", without_errors(None))


@skew("push", "error", orders=True)
def an_error_read_as_zero_online(patch):
    in_writers(patch, "to_python", without_errors({"float": 0.0, "int": 0}))


@skew("online", "error", "rows", orders=True)
def a_request_time_error_swallowed_online(patch):
    wrapped(patch, evaluator, "to_python", without_errors({"float": 0.0}))


@skew("offline", "condition")
def a_where_of_none_taken_for_true_offline(patch):
    wrapped(patch, view_result, "in_window_sql", lambda keep, f: keep(f).replace(
        ", FALSE)", ", TRUE)"))  # fmt: skip


@skew("online", "condition")
def a_where_ignored_online(patch):
    wrapped(patch, answer, "_window", lambda window, view, feature, *args, **kw: window(
        view, dataclasses.replace(feature, where=None), *args, **kw))  # fmt: skip


# ── Text, dates and spans ─────────────────────────────────────────────────────────────────────────


@skew("online", "Unicode", "rows")
def only_ascii_made_lower_online(patch):
    meaning(patch, "str.lower(str)",
            python="''.join(c.lower() if c < '\\x80' else c for c in {0})",
            sql=ops.TABLE["str.lower(str)"].sql.replace("{python}", "lower({0})"))  # fmt: skip


@skew("offline", "Unicode", "rows")
def only_spaces_stripped_offline(patch):
    meaning(patch, "str.strip(str)", sql="trim({0}, ' ')", steps=())


@skew("offline", "Unicode", "rows")
def a_part_that_begins_one_early_offline(patch):
    meaning(patch, "slice(str,int,int)",
            sql="substring({0}, {1}, greatest({2} - {1}, 0))", steps=())  # fmt: skip


@skew("offline", "Unicode", "rows")
def lengths_in_bytes_offline(patch):
    meaning(patch, "len(str)", sql="strlen({0})")


@skew("push", "Unicode", "rows")
def texts_normalised_in_pushes(patch):
    case = values._CASES["str"]
    patch.setitem(values._CASES, "str", lambda v, z: unicodedata.normalize("NFC", case(v, z)))


@skew("offline", "date", "rows")
def a_day_too_late_offline(patch):
    meaning(patch, "+(date,timedelta)",
            sql="({0} + ({1} // 86400000000 + 1)::INTEGER)")  # fmt: skip


@skew("offline", "date", "rows")
def weeks_that_begin_on_sunday_offline(patch):
    meaning(patch, "date.weekday(date)", sql="dayofweek({0})::BIGINT")


@skew("online", "unit", "rows")
def milliseconds_for_seconds_online(patch):
    meaning(
        patch, "timedelta.total_seconds(timedelta)", python="({0} / dt.timedelta(milliseconds=1))"
    )


@skew("online", "unit")
def whole_seconds_since_online(patch):
    wrapped(patch, TimeSince, "as_of", lambda since, self, found, t: (
        None if found is None else float(since(self, found, t) // 1)))  # fmt: skip


# ── Keys, columns and versions ────────────────────────────────────────────────────────────────────


@skew("push", "key", orders=True)
def int_keys_written_as_texts(patch):
    in_writers(patch, "key_encoder", lambda encoder, type_: (
        (lambda v: b"s%d" % v) if type_.name == "int" else encoder(type_)))  # fmt: skip


@skew("push", "key", "sets")
def keys_stripped_in_pushes(patch):
    def stripped(encoder: Any, type_: Any) -> Any:
        encode = encoder(type_)
        return (lambda v: encode(v.strip())) if type_.name == "str" else encode

    in_writers(patch, "key_encoder", stripped)


@skew("push", "key", "rows")
def keys_in_another_order_in_pushes(patch):
    wrapped(patch, push, "joined_key", lambda key, parts: key(parts[::-1]))


@skew("push", "column", "rows")
def two_columns_swapped_in_pushes(patch):
    def swapped(prepare: Any, project: str, views: Any, rows: Any, **kw: Any) -> Any:
        return prepare(project, views, [
            r | {"amount": r["tip"], "tip": r["amount"]} if r.get("tip") is not None else r
            for r in rows
        ], **kw)  # fmt: skip

    everywhere(patch, push.prepare, swapped)


@skew("offline", "column", "rows")
def two_columns_swapped_offline(patch):
    from featurekit.sources import read_events

    def swapped(read: Any, *args: Any, **kw: Any) -> Any:
        found = read(*args, **kw)
        sql = (
            f"(SELECT * REPLACE (coalesce(tip, amount) AS amount, "
            f"CASE WHEN tip IS NOT NULL THEN amount END AS tip) FROM {found.relation})"
        )
        return dataclasses.replace(found, relation=sql)

    everywhere(patch, read_events, swapped)


@skew("online", "stale version")
def a_version_before_with_a_shorter_window_online(patch):
    def stale(read: Any, *args: Any, **kw: Any) -> Any:
        service = read(*args, **kw)
        views = [
            dataclasses.replace(v, features=tuple(
                dataclasses.replace(f, window_us=f.window_us - 86_400_000_000)
                if f.name == "sum_7d" else f for f in v.features
            ))
            for v in service.views
        ]  # fmt: skip
        return dataclasses.replace(service, views=tuple(views))

    wrapped(patch, published, "read_plan", stale)


@skew("online", "stale version", "rows")
def a_version_before_with_another_function_online(patch):
    def stale(read: Any, *args: Any, **kw: Any) -> Any:
        service = read(*args, **kw)
        return dataclasses.replace(service, transforms=service.transforms[:1] + tuple(
            dataclasses.replace(t, inputs=(t.inputs[1], t.inputs[0], *t.inputs[2:]))
            for t in service.transforms[1:]
        ))  # fmt: skip

    wrapped(patch, published, "read_plan", stale)


# ── Unions ────────────────────────────────────────────────────────────────────────────────────────


def in_rows_of_unions(patch: Patch, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change each row of a union, as pushes make it."""
    wrapped(patch, union, "united_row", lambda made, *args: (
        lambda make: lambda row: change(make(row)))(made(*args)))  # fmt: skip


def in_sql_of_unions(patch: Patch, change: Callable[[str], str]) -> None:
    """Change the relation of each union; `change` takes and gives the text of a relation."""
    wrapped(patch, union, "united_sql", lambda made, *args: change(made(*args)))


@skew("offline", "column", "unions")
def another_column_of_the_second_source_offline(patch):
    wrapped(patch, union, "_shown", lambda shown, source, number: [
        text.replace('"price" AS "amount"', '"taps"::DOUBLE AS "amount"')
        for text in shown(source, number)
    ])  # fmt: skip


@skew("push", "column", "unions")
def another_column_of_the_second_source_in_pushes(patch):
    in_rows_of_unions(patch, lambda row: row | (
        {"amount": float(row["pieces"])} if row["__from"] and "pieces" in row else {}))  # fmt: skip


@skew("push", "missing event", "unions")
def the_second_source_left_out_of_pushes(patch):
    everywhere(patch, push.prepare, lambda prepare, project, views, rows, **kw: prepare(
        project, views, [r for r in rows if r.get("__from", 0) == 0], **kw))  # fmt: skip


@skew("offline", "missing event", "unions")
def the_first_source_left_out_offline(patch):
    in_sql_of_unions(patch, lambda relation: f"(SELECT * FROM {relation} WHERE __from > 0)")


@skew("offline", "duplicate event", "unions")
def equal_events_of_two_sources_counted_once_offline(patch):
    # As UNION in the place of UNION ALL: of rows that agree in the columns of the view.
    own = "COLUMNS('^[^_]'), __ts, __created"
    in_sql_of_unions(patch, lambda relation: f"(SELECT DISTINCT ON ({own}) * FROM {relation})")


@skew("push", "tie", "unions")
def a_missing_sequence_taken_for_a_late_one_in_pushes(patch):
    in_rows_of_unions(patch, lambda row: row | (
        {"__sequence": 2**63 - 1} if row.get("__sequence", 0) is None else {}))  # fmt: skip


@skew("offline", "tie", "unions")
def a_missing_sequence_taken_for_zero_offline(patch):
    in_sql_of_unions(patch, lambda relation: (
        f"(SELECT * REPLACE (coalesce(__sequence, 0) AS __sequence) FROM {relation})"
        if "__sequence" in relation else relation))  # fmt: skip


@skew("push", "tie", "unions")
def the_sequence_of_a_union_ignored_in_pushes(patch):
    in_rows_of_unions(
        patch, lambda row: row | ({"__sequence": None} if "__sequence" in row else {})
    )


@skew("push", "duplicate event", "union_ids")
def one_id_of_two_sources_taken_for_one_event_in_pushes(patch):
    in_rows_of_unions(patch, lambda row: row | {"__id": row["__id"].partition(":")[2]})


@skew("offline", "duplicate event", "union_ids")
def one_id_of_two_sources_taken_for_one_event_offline(patch):
    in_sql_of_unions(patch, lambda relation: (
        f"(SELECT * REPLACE (substr(__id, 3) AS __id) FROM {relation})"))  # fmt: skip


@skew("push", "deletion ignored", "union_ids")
def deletions_of_the_second_source_ignored_in_pushes(patch):
    in_rows_of_unions(patch, lambda row: row | (
        {"__op": "upsert"} if row["__from"] and "__op" in row else {}))  # fmt: skip


@skew("offline", "deletion ignored", "union_ids")
def deletions_of_the_first_source_ignored_offline(patch):
    in_sql_of_unions(patch, lambda relation: (
        f"(SELECT * REPLACE (if(__from = 0, 'upsert', __op) AS __op) FROM {relation})"
        if "__op" in relation else relation))  # fmt: skip


@skew("offline", "late event", "unions")
def arrivals_of_the_second_source_ignored_offline(patch):
    prompt = "if(__from = 1, __ts, __created) AS __created"
    in_sql_of_unions(patch, lambda relation: f"(SELECT * REPLACE ({prompt}) FROM {relation})")


@skew("push", "time zone", "unions")
def the_second_source_read_in_the_zone_of_the_first_in_pushes(patch):
    everywhere(patch, rows_module.placed_as_pushed, lambda read, source, *args, **more: read(
        dataclasses.replace(source, timezone="Europe/London") if source.name == "app" else source,
        *args, **more))  # fmt: skip


@skew("push", "null fill", "unions")
def nulls_of_the_second_source_filled_in_pushes(patch):
    in_rows_of_unions(patch, lambda row: row | (
        {"word": ""} if row["__from"] and row.get("word", "") is None else {}))  # fmt: skip


@skew("push", "key", "unions")
def the_key_of_the_second_source_by_its_position_in_pushes(patch):
    in_rows_of_unions(patch, lambda row: row | (
        {"customer_id": row["pieces"]} if row["__from"] and "pieces" in row else {}))  # fmt: skip


# ── Exploded lists ────────────────────────────────────────────────────────────────────────────────


def in_exploded_rows(patch: Patch, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Change the events that the elements of rows make in pushes."""
    everywhere(patch, explode.exploded_rows, lambda made, *args: list(change(made(*args))))


@skew("push", "tie", "exploded")
def elements_in_the_order_backwards_in_pushes(patch):
    in_exploded_rows(patch, lambda rows: [r | {"__position": -r["__position"]} for r in rows])


@skew("offline", "tie", "exploded")
def the_position_of_an_element_ignored_offline(patch):
    everywhere(patch, explode.exploded_sql, lambda made, view, relation: (
        f"(SELECT * REPLACE (0::BIGINT AS __position) FROM {made(view, relation)})"
        if view.explode else relation))  # fmt: skip


@skew("push", "missing event", "exploded")
def the_last_element_lost_in_pushes(patch):
    in_exploded_rows(patch, lambda rows: [r for r in rows if r["__position"] < 2])


@skew("offline", "duplicate event", "exploded")
def equal_elements_of_a_row_counted_once_offline(patch):
    def once(made: Any, view: View, relation: str) -> str:
        if view.explode is None:
            return relation
        distinct = f'list_distinct("{view.explode}") AS "{view.explode}"'
        return made(view, f"(SELECT * REPLACE ({distinct}) FROM {relation})")

    everywhere(patch, explode.exploded_sql, once)


@skew("backfill", "missing event", "exploded")
def elements_that_are_none_lost_by_a_backfill(patch):
    wrapped(patch, materialise, "make_events", lambda made, con, view, relation: (
        f'(SELECT * FROM {made(con, view, relation)} WHERE "{view.explode}" IS NOT NULL)'
        if view.explode else relation))  # fmt: skip


@skew("push", "correction ignored", "exploded_ids")
def elements_of_a_version_before_kept_in_pushes(patch):
    patch.setattr(state, "without", lambda view, events, rows: events)


@skew("offline", "duplicate event", "exploded_ids")
def copies_told_by_elements_and_not_by_rows_offline(patch):
    # As where a list is exploded before it is settled which rows count.
    wrapped(patch, counted_events, "make_counted_rows", lambda counted, con, view, rows: (
        rows if view.explode and view.source.op is None else counted(con, view, rows)))  # fmt: skip
