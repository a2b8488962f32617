"""Every plan of a window gives the same bits, on hostile values, late events and empty windows."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

import awkward
import duckdb
import pytest
import test_event_ids
import test_lifetime
import test_window_ttl
from agreeing import (
    EXAMPLES,
    ONE,
    PAIR,
    agree,
    extremes,
    late,
    numbered,
    offline_agrees,
    prompt,
    sums,
    view,
)
from awkward import DAY, HOUR
from hypothesis import given, settings
from oracle import bits
from paths import Paths, Question, connect, crowded_where, service_of
from slow import slow_unless
from test_aggregate_family import NUMERIC, VALUES

from featurekit.aggregates import (
    All,
    Any,
    Count,
    Last,
    Max,
    Mean,
    Min,
    Quantile,
    StdDev,
    Sum,
    TimeSince,
)
from featurekit.core.types import INSTANT_MAX, INSTANT_MIN
from featurekit.define.compile_view import compile_view
from featurekit.errors import DefinitionError
from featurekit.language.transform import feature
from featurekit.offline import view_result, windows
from featurekit.offline.window_plans import choose as window_plans

ADDING = {
    **sums,
    "any": Any("flag", window="1h"),
    "all": All("flag", window="1d", hop="1h", default=True),
    "all_ever": All("flag", window="lifetime", where="flag"),
    "stddev": StdDev("qty", window="1d", offset="1h"),
}
SERVICES = {
    "sums of late events": service_of(view("sums", PAIR, late, ADDING)),
    "sums of prompt events": service_of(view("sums", ONE, prompt, ADDING)),
    "numbers of late events": service_of(view("numbers", PAIR, late, NUMERIC)),
    "numbers of prompt events": service_of(view("numbers", ONE, prompt, NUMERIC)),
    "values of late events": service_of(view("values", PAIR, late, VALUES)),
    "values of prompt events": service_of(view("values", PAIR, prompt, VALUES)),
    "extremes of late events": service_of(view("extremes", PAIR, late, extremes)),
    "extremes of prompt events": service_of(view("extremes", ONE, prompt, extremes)),
    "extremes of numbered events": service_of(view("extremes", ONE, numbered, extremes)),
    "short windows": service_of(
        view(
            "short",
            ONE,
            late,
            {
                "n": Count(windows=["1s", "1h"], where="flag"),
                "sum": Sum("amount", windows=["1us", "1d"]),
                "mean": Mean("qty", window="1s", hop="1s", offset="1d"),
            },
        )
    ),
    "lifetimes": test_lifetime.SERVICES["late events"],
    "lifetimes beside windows": test_lifetime.SERVICES["beside windows"],
    "with a ttl": test_window_ttl.SERVICES["longer than some windows"],
    "several views": test_window_ttl.SERVICES["read by a transform"],
}


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


# By which plans keys are joined: all by one, or those of an even number of events by the others.
CROWDED = ("TRUE", "FALSE", "e.n % 2 = 0")


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    crowded_where(monkeypatch, "TRUE")


# Of each kind of plan one, late and prompt in turns.
OF_PLANS = (
    "sums of late events",
    "values of prompt events",
    "extremes of numbered events",
    "short windows",
    "lifetimes beside windows",
    "with a ttl",
)


@pytest.mark.thorough
@pytest.mark.usefixtures("crowded")
@pytest.mark.parametrize("name", slow_unless(lambda name: name in OF_PLANS, SERVICES))
def test_the_plans_of_crowded_keys_are_what_the_oracle_says(con, name):
    offline_agrees(con, SERVICES[name], examples=max(5, EXAMPLES // 15))


@pytest.mark.parametrize(
    ("name", "crowding"),
    slow_unless(
        lambda name, crowding: (name == "numbers of prompt events") == (crowding == "TRUE"),
        itertools.product(
            ("sums of late events", "numbers of prompt events", "with a ttl"), CROWDED[::2]
        ),
    ),
)
def test_windows_that_are_planned_a_few_at_a_time_are_what_the_oracle_says(
    con, monkeypatch, name, crowding
):
    crowded_where(monkeypatch, crowding)
    monkeypatch.setattr(windows, "_PLANNED_AT_ONCE", 3)
    monkeypatch.setattr(view_result, "_COLUMNS_AT_ONCE", 1)
    offline_agrees(con, SERVICES[name], examples=max(6, EXAMPLES // 15))


@feature
def as_it_is(s7: float | None) -> float | None:
    return s7


def test_each_part_of_a_wide_view_says_which_of_its_sums_overflow(con, monkeypatch):
    monkeypatch.setattr(windows, "_PLANNED_AT_ONCE", 3)
    rows = [
        {"key": 1, "key2": "a", "amount": 1.7e308, "qty": 1, "flag": True, "name": "a",
         "__ts": ts, "__created": ts}
        for ts in (0, 1)
    ]  # fmt: skip
    asked = {f"s{n}": Sum("amount", window=f"{n + 1}us") for n in range(8)}
    service = service_of(view("wide", ONE, prompt, asked), as_it_is)
    paths = Paths(con, service, {"prompt": rows})
    questions = [Question({"key": 1}, t) for t in range(4)]
    found = paths.offline(questions)
    assert not paths.shown(questions, paths.oracle(questions), found)
    assert [status for _, status in found[1]] == ["PRESENT"] + ["ERROR"] * 8
    paths.close()


def skewed(seed: int, *, late_share: float, lateness: int) -> list[dict]:
    """Six hundred events, a third of them of one key, over ten days."""
    chance = random.Random(seed)
    rows = []
    for _ in range(600):
        ts = chance.randrange(10 * DAY)
        arrived = ts + (chance.randrange(lateness) if chance.random() < late_share else 0)
        rows.append(
            {
                "key": chance.choice((1, chance.randrange(2, 40), chance.randrange(2, 40))),
                "key2": "a",
                "amount": chance.choice((0.1, 1e16, -1e16, 12.75, -0.0, chance.uniform(-9, 9))),
                "qty": chance.randrange(-9, 9),
                "flag": chance.choice((True, False, None)),
                "name": chance.choice(("a", "b", None)),
                "__ts": ts,
                "__created": arrived,
            }
        )
    return rows


SKEWED = service_of(
    view(
        "skewed",
        ONE,
        late,
        {
            **ADDING,
            "most": Max("amount", windows=["1h", "1d", "lifetime"]),
            "least": Min("amount", window="2d", offset="1h", where="flag"),
            "least_hop": Min("qty", window="1d", hop="7h", default=3),
            "last": Last("name", window="1d"),
            "since": TimeSince(window="2d", where="flag"),
            "median": Quantile("amount", window="1d", q=0.5, offset="1h"),
        },
    )
)


@pytest.mark.parametrize(
    ("late_share", "lateness"),
    slow_unless(
        lambda share, lateness: (
            (share, lateness) in ((0.0, 30 * DAY), (0.05, HOUR), (0.05, 1_000), (1.0, 30 * DAY))
        ),
        itertools.product((0.0, 0.05, 1.0), (1_000, HOUR, 30 * DAY)),
    ),
)
def test_both_plans_agree_on_a_crowded_key(con, monkeypatch, late_share, lateness):
    rows = skewed(7, late_share=late_share, lateness=lateness)
    paths = Paths(con, SKEWED, {"late": rows})
    chance = random.Random(1)
    at = awkward.edges(rows[:20], awkward.windows(SKEWED.features[0]))
    times = [*chance.sample(at, 90), *(chance.randrange(11 * DAY) for _ in range(60))]
    questions = [Question({"key": chance.choice((1, 1, 5, 6, 999, None))}, t) for t in times]
    found = {}
    expected = paths.oracle(questions)
    for crowded in CROWDED:
        crowded_where(monkeypatch, crowded)
        found[crowded] = paths.offline(questions)
        assert not paths.shown(questions, expected, found[crowded])
    paths.close()


def tiny(kind, **options) -> dict:
    """Windows of some microseconds, so that among a few dozen of instants are all borders."""
    return {
        f"{kind.__name__}_{w}_{hop}_{offset}": kind(
            window=f"{w}us",
            hop=f"{hop}us" if hop else None,
            offset=f"{offset}us" if offset else None,
            **options,
        )
        for w, hop, offset in (
            *((1, 0, 0), (2, 0, 0), (5, 0, 0), (8, 0, 3), (13, 0, 0), (5, 0, 7)),
            *((4, 1, 0), (4, 3, 0), (6, 6, 1), (2, 7, 0), (3, 16, 5), (2**60, 5, 1), (9, 4, 2)),
        )
    }


EXTREMES = {
    **tiny(Max, input="amount"),
    **tiny(Min, input="name", where="flag"),
    "ever": Max("qty", window="lifetime"),
    "ever_back": Min("amount", window="lifetime", offset="2us"),
    "flags": Max("flag", window="6us"),
}
TINY_SUMS = {
    **tiny(Count),
    **tiny(Sum, input="qty", where="flag"),
    "ever": Sum("qty", window="lifetime"),
    "ever_back": Count(window="lifetime", offset="2us"),
}
BASES = (0, -1_000, -DAY, awkward.YEAR_2026, INSTANT_MIN + 20, INSTANT_MAX - 20)
LATENESS = (0, 1, 3, 12, 40)


@pytest.mark.parametrize(
    ("base", "lateness"),
    # Every base and every lateness: of the other pairs, none.
    slow_unless(
        lambda base, lateness: BASES.index(base) % 5 == LATENESS.index(lateness),
        itertools.product(BASES, LATENESS),
    ),
)
def test_running_extremes_know_the_border_of_every_tile(con, monkeypatch, base, lateness):
    agree_at_every_instant(con, monkeypatch, EXTREMES, base, lateness)


@pytest.mark.parametrize(
    ("base", "lateness"),
    slow_unless(
        lambda base, lateness: (base == 0) == (lateness == 3),
        itertools.product((0, -DAY), (0, 3, 40)),
    ),
)
def test_running_sums_know_the_border_of_every_window(con, monkeypatch, base, lateness):
    agree_at_every_instant(con, monkeypatch, TINY_SUMS, base, lateness)


def agree_at_every_instant(con, monkeypatch, features, base: int, lateness: int) -> None:
    """Ask at each instant around some dozen events, by every plan."""
    chance = random.Random(base + lateness)
    of = prompt if lateness == 0 else late
    service = service_of(view("borders", ONE, of, features))
    values = (0.0, -0.0, math.nan, math.inf, -math.inf, *(chance.uniform(-9, 9) for _ in range(9)))
    instants = range(base - 20, base + 21)
    for key_count, events in ((1, 6), (2, 40)):
        rows = []
        for _ in range(events):
            ts = chance.choice(instants)
            rows.append(
                {
                    "key": chance.randrange(key_count),
                    "key2": "a",
                    "amount": chance.choice(values[chance.choice((0, 5)) :]),
                    "qty": chance.randrange(-9, 9),
                    "flag": chance.choice((True, True, False, None)),
                    "name": chance.choice(("a", "b", "", "é", None)),
                    "__ts": ts,
                    "__created": min(ts + chance.randrange(lateness + 1), INSTANT_MAX),
                }
            )
        times = [t for t in range(base - 24, base + 45) if INSTANT_MIN <= t <= INSTANT_MAX]
        questions = [Question({"key": k}, t) for t in times for k in (*range(key_count), None)]
        paths = Paths(con, service, {of.name: rows})
        expected = paths.oracle(questions)
        for crowded in CROWDED:
            crowded_where(monkeypatch, crowded)
            agree(paths, questions, crowded, expected, paths.offline(questions))
        paths.close()


def test_crowded_keys_are_what_running_sums_are_for_and_they_alone(con, monkeypatch):
    chosen = []
    find = window_plans._find_crowded

    def noted(con, view, asked, name, *given):
        most = find(con, view, asked, name, *given)
        chosen.append(con.execute(f"SELECT k0 FROM {name}").fetchall())
        return most

    monkeypatch.setattr(window_plans, "_find_crowded", noted)
    event = skewed(3, late_share=0.0, lateness=1)[0]
    # A thousand labels of two keys, of which one has a thousand events; or of a thousand keys.
    for keys, wanted in ((2, [(0,)]), (1_000, [])):
        rows = [event | {"key": 0, "__ts": i, "__created": i} for i in range(1_000 * (keys == 2))]
        rows += [event | {"key": i, "__ts": i, "__created": i} for i in range(1, 1_000, 2)]
        paths = Paths(con, service_of(view("v", ONE, late, sums)), {"late": rows})
        asked = [Question({"key": i % keys}, 500 + i) for i in range(1_000)]
        answers = paths.offline(asked)
        for i in (0, 1, 2, 499, 998, 999):
            assert bits(answers[i]) == bits(paths.oracle(asked[i : i + 1])[0])
        assert chosen.pop() == wanted
        paths.close()


@pytest.mark.parametrize(
    ("labels", "events", "crowded"), [(21, 421, True), (21, 420, False), (20, 9_999, False)]
)
def test_a_key_of_few_labels_or_few_events_is_crowded_from_the_first_pair_too_many(
    con: Any, monkeypatch: pytest.MonkeyPatch, labels: int, events: int, crowded: bool
) -> None:
    chosen = []
    find = window_plans._find_crowded

    def noted(*given: Any) -> int | None:
        chosen.append(find(*given))
        return chosen[-1]

    monkeypatch.setattr(window_plans, "_find_crowded", noted)
    event = skewed(3, late_share=0.0, lateness=1)[0]
    for some, many in ((labels, events), (events, labels)):  # labels and events count alike
        rows = [event | {"key": 0, "__ts": i, "__created": i} for i in range(many)]
        paths = Paths(con, service_of(view("v", ONE, late, sums)), {"late": rows})
        paths.offline([Question({"key": 0}, 9_999) for _ in range(some)])
        paths.close()
    assert [most is not None for most in chosen] == [crowded] * 2


# --- sources with ids -----------------------------------------------------------------------------

OF_IDS = {
    **{
        name: test_event_ids.SERVICES[name]
        for name in (
            "copies in windows",
            "corrections in windows",
            "corrections in ordered windows",
        )
    },
    "a ttl": service_of(view("v", ONE, test_event_ids.hourly, test_event_ids.windows, ttl="1h")),
    "lifetimes": service_of(view("v", ONE, test_event_ids.daily, test_lifetime.MIXED)),
    "lifetimes of copies": service_of(view("v", ONE, test_event_ids.briefly, test_lifetime.MIXED)),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", OF_IDS)
def test_every_plan_counts_the_events_of_an_id_as_the_oracle_does(con, monkeypatch, name):
    service = OF_IDS[name]

    @settings(max_examples=max(5, EXAMPLES // 20))
    @given(test_event_ids.id_cases(service, instants=4, keys=2))
    def check(case):
        rows, questions, _ = case
        paths = Paths(con, service, rows)
        expected = paths.oracle(questions)
        for crowded, buckets in (*((crowded, 1) for crowded in CROWDED), ("TRUE", 3)):
            crowded_where(monkeypatch, crowded)
            found = paths.offline(questions, buckets=buckets)
            agree(paths, questions, f"crowded: {crowded}, {buckets}", expected, found)
        filled = paths.by_materialising(questions)
        agree(paths, questions, "online", expected, filled)
        paths.close()

    check()


def test_a_lifetime_does_not_say_how_long_ids_are_remembered():
    with pytest.raises(DefinitionError, match=r"lifetime window .* write dedupe_within="):
        compile_view(view("v", ONE, test_event_ids.copied, {"n": Count(window="lifetime")}))
