"""Services, strategies of events, and both paths held to the oracle, for many tests."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import awkward
import duckdb
import pytest
from awkward import SCHEMA
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import Paths, Question, connect, service_of

from featurekit.aggregates import Count, CountDistinct, Last, Max, Mean, Min, Sum
from featurekit.core.status import NEVER
from featurekit.define.definitions import Entity, EventSource, FeatureService, FeatureView
from featurekit.language.transform import feature
from featurekit.online.store.memory import MemoryStore

RICH: dict[str, Any] = {
    "key": int | None,
    "key2": str,
    "at_field": dt.datetime | None,
    "day": dt.date | None,
    "lasting": dt.timedelta | None,
    "raw": bytes | None,
    "items": list[int | None] | None,
    "prices": list[float],
    "words": list[str | None],
}


def source(name: str, schema: dict[str, Any] = SCHEMA, **options: Any) -> EventSource:
    return EventSource(name, path=f"{name}.parquet", schema=schema, timestamp_field="at", **options)


ONE = Entity("one", {"key": int})
PAIR = Entity("pair", {"key": int, "key2": str})
NAMED = Entity("named", {"name": str})

late = source("late", created_timestamp_column="arrived")
numbered = source("numbered", created_timestamp_column="arrived", sequence="qty")
prompt = source("prompt")
rich = source("rich", RICH, created_timestamp_column="arrived")


# --- transforms, some of which err ----------------------------------------------------------------


@feature
def product(amount: float, qty: int) -> float:
    return amount * qty


@feature
def ratio(amount: float, qty: int) -> float:
    return amount / qty


@feature
def quotient(qty: int) -> int | None:
    if qty == 2:
        return None
    return 10 // qty


@feature
def squared(qty: int) -> int:
    return qty * qty


@feature
def positive(amount: float) -> bool:
    return amount > 0.0


@feature
def divides(qty: int) -> bool:
    return 10 % qty == 0


@feature
def initial(name: str | None) -> str | None:
    if name is None:
        return None
    return name.strip()


@feature
def maybe(flag: bool | None, amount: float) -> float | None:
    if flag is None:
        return None
    return amount if flag else -amount


@feature
def logarithm(amount: float) -> float:
    return math.log(amount)


# --- services -------------------------------------------------------------------------------------


def view(name: str, entity: Entity, of: EventSource, features: Any, **options: Any) -> FeatureView:
    return FeatureView(name, entities=[entity], source=of, features=features, **options)


sums = {
    "rows": Count(window="1d"),
    "rows_hour": Count(window="1h", offset="1h"),
    "names": Count("name", window="8d"),
    "quotients": Count(quotient, window="1d", where="flag"),
    "amount": Sum("amount", window="1d"),
    "amount_or": Sum("amount", window="1h", default=-0.0),
    "amount_hop": Sum("amount", window="7d", hop="1h"),
    "amount_where": Sum("amount", window="8d", where=positive),
    "product": Sum(product, window="1d", hop="7h", offset="1s"),
    "ratio": Sum(ratio, window="7d"),
    "qty": Sum("qty", window="7d"),
    "qty_or": Sum("qty", window="1h", default=-1, where=divides),
    "squares": Sum(squared, window="1d"),
    "flags": Sum("flag", window="7d"),
    "maybe": Sum(maybe, window="1d", default=0.5),
    "mean": Mean("amount", window="1d"),
    "mean_qty": Mean("qty", window="7d", hop="1d"),
    "mean_flag": Mean("flag", window="8d", default=0.0),
    "mean_log": Mean(logarithm, window="7d", where="flag"),
}
extremes = {
    "least": Min("amount", window="1d"),
    "most": Max("amount", window="1d", hop="1h"),
    "least_qty": Min("qty", window="7d", default=7),
    "most_product": Max(product, window="8d"),
    "least_name": Min("name", window="1d"),
    "most_name": Max(initial, window="7d"),
    "least_flag": Min("flag", window="7d"),
    "most_flag": Max("flag", window="1h", offset="1d"),
    "last": Last("amount", window="7d"),
    "last_name": Last("name", window="1d", default="?"),
    "last_flag": Last("flag", window="1h", where=positive),
    "last_quotient": Last(quotient, window="7d"),
    "amounts": CountDistinct("amount", window="7d"),
    "qtys": CountDistinct("qty", window="1h", hop="1h"),
    "distinct_names": CountDistinct("name", window="1d", where="flag"),
    "distinct_flags": CountDistinct("flag", window="1d"),
    "distinct_ratios": CountDistinct(ratio, window="7d"),
}
row = {
    "amount": "amount",
    "qty": "qty",
    "flag": "flag",
    "name": "name",
    "ratio": ratio,
    "quotient": quotient,
    "initial": initial,
    "maybe": maybe,
    "logarithm": logarithm,
}


@feature
def of_window(amount: float | None, rows: int, factor: float) -> float | None:
    if amount is None:
        return None
    return amount * factor / rows


@feature
def of_transform(of_window: float | None, qty: int | None, shift: int) -> int | None:
    if of_window is None or qty is None:
        return None
    if of_window > 1.0:
        return qty + shift
    return qty // shift


@feature
def of_request(factor: float, shift: int, word: str | None) -> str:
    if word is None or math.isnan(factor):
        return "none" if shift > 0 else "no"
    return word.strip()


requested = service_of(
    view(
        "windows",
        ONE,
        late,
        {"amount": Sum("amount", window="1d"), "rows": Count(window="1d")},
    ),
    view("latest", PAIR, numbered, {"qty": "qty"}, ttl="1d")[["qty"]],
    of_window,
    of_transform,
    of_request,
    request={"factor": float, "shift": int, "word": str | None},
)

WINDOWS = {
    "sums of late events": service_of(view("sums", PAIR, late, sums)),
    "sums of prompt events": service_of(view("sums", ONE, prompt, sums)),
    "extremes of late events": service_of(view("extremes", ONE, late, extremes)),
    "extremes of numbered events": service_of(view("extremes", PAIR, numbered, extremes)),
    "extremes of prompt events": service_of(view("extremes", PAIR, prompt, extremes)),
    "aggregates that keep no order": service_of(
        view("counts", PAIR, late, {k: v for k, v in extremes.items() if not k.startswith("last")})
    ),
    "windows by name": service_of(
        view("named", NAMED, late, {"n": Count(window="1d"), "last": Last("key", window="1d")})
    ),
    "other types": service_of(
        view(
            "rich_windows",
            PAIR,
            rich,
            {
                "last_items": Last("items", window="7d"),
                "last_prices": Last("prices", window="1d"),
                "last_day": Last("day", window="1d", offset="1h"),
                "least_at": Min("at_field", window="7d"),
                "most_day": Max("day", window="7d"),
                "least_lasting": Min("lasting", window="1d"),
                "most_raw": Max("raw", window="1d"),
                "at_fields": CountDistinct("at_field", window="7d"),
                "days": CountDistinct("day", window="7d"),
                "lastings": CountDistinct("lasting", window="1d"),
                "raws": CountDistinct("raw", window="1d"),
            },
        )
    ),
}
LATEST = {
    "latest of late events": service_of(view("latest", PAIR, late, row, ttl="1d")),
    "latest of numbered events": service_of(view("latest", ONE, numbered, row, ttl="1h")),
    "latest of prompt events": service_of(view("latest", ONE, prompt, row)),
    "latest prompt with ttl": service_of(view("latest", PAIR, prompt, row, ttl="7d")),
    "latest of other types": service_of(
        view("rich", PAIR, rich, {name: name for name in RICH if name != "key"}, ttl="7d")
    ),
}
SERVICES = {**WINDOWS, **LATEST, "request-time transforms": requested}


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


# --- questions ------------------------------------------------------------------------------------


@st.composite
def cases(
    draw: st.DrawFn, service: FeatureService, *, instants: int = 3, keys: int = 2
) -> tuple[dict[str, list[dict[str, Any]]], list[Question], random.Random]:
    """Events of each source, questions at few instants about several entities, and a shuffler."""
    views = [getattr(f, "view", f) for f in service.features]
    views = [v for v in views if isinstance(v, FeatureView)]
    rows = {
        v.source.name: draw(awkward.source_events(v.source, keys=tuple(v.join_keys))) for v in views
    }
    everything = [r for found in rows.values() for r in found]
    at = awkward.instants(everything, awkward.windows(*views))
    ts = sorted(draw(st.lists(at, min_size=1, max_size=instants, unique=True)))
    hints = {k: t for v in views for k, t in v.join_keys.items()}
    entity = awkward.entity_keys(hints, everything) if everything else _any(hints)
    chosen = draw(st.lists(entity, min_size=1, max_size=keys))
    request = st.fixed_dictionaries({n: awkward.values(t) for n, t in service.request.items()})
    questions = [Question(key | draw(request), t) for t in ts for key in chosen]
    return rows, questions, random.Random(draw(st.integers(0, 2**32)))


@st.composite
def worlds(
    draw: st.DrawFn, service: FeatureService, *, case: Any = cases, **options: Any
) -> tuple[dict[str, list[dict[str, Any]]], list[Question], random.Random]:
    """One to four cases as one, since a join takes as long for all of them as for one. Half are one
    case: what is chosen by a whole table, such as a column's scale, is chosen by that alone."""
    made = [draw(case(service, **options)) for _ in range(draw(st.sampled_from((1, 1, 2, 4))))]
    for number, (rows, _, _) in enumerate(made):
        for row in itertools.chain.from_iterable(rows.values()):
            if "id" in row:  # cases may meet in their entities, not in their events' ids
                row["id"] += 10 * number
    rows = {name: [row for one, _, _ in made for row in one[name]] for name in made[0][0]}
    return rows, [question for _, asked, _ in made for question in asked], made[0][2]


def _any(hints: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({n: awkward.values(t) | st.none() for n, t in hints.items()})


def agree(paths: Paths, questions: list[Question], name: str, expected: Any, got: Any) -> None:
    assert not paths.shown(questions, expected, got), name


def offline_agrees(con: Any, service: FeatureService, *, examples: int) -> None:
    """The point-in-time join gives what the oracle says, over about so many generated cases."""

    @settings(max_examples=max(5, examples // 2))
    @given(worlds(service, instants=6, keys=3))
    def check(case: Any) -> None:
        rows, questions, _ = case
        paths = Paths(con, service, rows)
        agree(paths, questions, "offline", paths.oracle(questions), paths.offline(questions))
        paths.close()

    check()


def online_agrees(con: Any, service: FeatureService, *, examples: int) -> None:
    """Lookups give what the oracle says, however the states were filled."""

    @settings(max_examples=examples)
    @given(cases(service))
    def check(case: Any) -> None:
        rows, questions, shuffler = case
        paths = Paths(con, service, rows)
        expected = paths.oracle(questions)
        agree(paths, questions, "pushed", expected, paths.by_pushes(questions, shuffler))
        agree(paths, questions, "filled", expected, paths.by_materialising(questions))
        agree(paths, questions, "in turns", expected, in_turns(paths, questions, shuffler))
        paths.close()

    check()


EXAMPLES = settings().max_examples


def in_turns(
    paths: Paths, questions: list[Question], shuffler: random.Random, *, in_order: bool = False
) -> Any:
    """The questions in the order of their instants, before each of which what arrived since the
    last one is pushed, materialised, or both, as chance has it. `in_order`: rows are pushed in the
    order of their arrivals, which ids need (T7), and turns change at an arrival."""
    store, answers, known = MemoryStore(), [], NEVER
    for t in sorted({q.t for q in questions}):
        between = shuffler.randint(max(known, t - 2 * awkward.DAY), t)
        arrivals = {row["__created"] for rows in paths.rows.values() for row in rows}
        if in_order and (there := sorted(at for at in arrivals if known <= at <= t)):
            between = shuffler.choice(there)
        for until in (between, t):
            how = shuffler.choice(("push", "materialise", "both", "whole", "pushed and whole"))
            if how in ("push", "both", "pushed and whole"):
                if in_order:
                    paths.push_in_order(store, known, until)
                else:
                    paths.push_arrivals(store, known, until, shuffled=shuffler)
            if how in ("materialise", "both"):
                paths.materialise(store, after=known, until=until)
            if how in ("whole", "pushed and whole"):
                paths.materialise(store, until=until)
            known = until
        answers += paths.online([q for q in questions if q.t == t], store)
    return answers
