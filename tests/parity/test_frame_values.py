"""Which events count where a window says more than its length (T10): the oracle, the point-in-time
join by each of its plans, and online states agree, bit for bit."""

from __future__ import annotations

import pytest
from agreeing import (
    EXAMPLES,
    ONE,
    PAIR,
    con,
    late,
    numbered,
    offline_agrees,
    online_agrees,
    positive,
    product,
    prompt,
    quotient,
    view,
)
from paths import crowded_where, in_small_blocks, service_of

from featurekit.aggregates import (
    Any,
    Count,
    CountDistinct,
    First,
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
)

__all__ = ["con"]


def _of_each_kind(**frame):
    """An aggregate of each way in which one is computed, over the same events."""
    return {
        "rows": Count(**frame),
        "some": Count("flag", where="flag", **frame),
        "sum": Sum("amount", **frame),
        "squares": StdDev("qty", **frame),
        "product": Mean(product, where=positive, **frame),
        "any": Any("flag", **frame),
        "most": Max("amount", **frame),
        "least": Min(quotient, where="flag", **frame),
        "first": First("name", **frame),
        "last": Last("qty", **frame),
        "lasts": LastN("amount", n=2, **frame),
        "middle": Quantile("qty", q=0.5, **frame),
        "distinct": CountDistinct("name", **frame),
        "top": TopK("qty", k=2, **frame),
        "since": TimeSince(**frame),
        "default": Sum("qty", default=-1, **frame),
    }


FRAMES = {
    "without the instant": {"window": "1h", "exclude": "instant"},
    "without the instant, ever": {"window": "lifetime", "exclude": "instant"},
    "without the instant, by a hop": {"window": "1d", "hop": "7h", "exclude": "instant"},
    "ends at a hop": {"window": "1h", "hop": "1h", "ends": "hop"},
    "ends at a longer hop": {"window": "7h", "hop": "1d", "ends": "hop", "offset": "1h"},
    "ends at a shorter hop without the instant": {
        "window": "1d", "hop": "1s", "ends": "hop", "exclude": "instant"},
    "the last full day": {"calendar": "day", "timezone": "Europe/London"},
    "the running day": {"calendar": "day", "timezone": "Pacific/Apia", "running": True},
    "the last two weeks": {"calendar": "week", "timezone": "America/Sao_Paulo", "periods": 2},
    "the running month without the instant": {
        "calendar": "month", "timezone": "Asia/Kathmandu", "running": True,
        "exclude": "instant"},
    "the last three rows": {"rows": 3},
    "the last row of an hour": {"window": "1h", "rows": 1},
    "the last two rows before the instant": {"window": "7d", "rows": 2, "exclude": "instant"},
    "the last two rows of the last full day": {
        "calendar": "day", "timezone": "Asia/Beirut", "rows": 2},
    "the session": {"window": "8d", "session": "1d"},
    "the session before the instant": {"window": "1d", "session": "1h", "exclude": "instant"},
    "the session an hour ago": {"window": "7d", "session": "1s", "offset": "1h", "hop": "7h"},
    "the last full month an hour ago": {"calendar": "month", "timezone": "UTC", "offset": "1h"},
}  # fmt: skip
SOURCES = {"late": late, "prompt": prompt, "numbered": numbered}


def _mixed():
    """Something of each frame in one view, beside plain windows."""
    made = {"plain": Sum("amount", window="1d"), "plain_last": Last("name", window="7d")}
    for number, frame in enumerate(FRAMES.values()):
        features = list(_of_each_kind(**frame).values())
        made |= {f"f{number}_{i}": one for i, one in enumerate(features[number % 4 :: 4])}
    return made


SERVICES = {
    f"{name}, {of}": service_of(view("framed", ONE if of == "late" else PAIR, SOURCES[of],
                                     _of_each_kind(**frame)))
    for number, (name, frame) in enumerate(FRAMES.items())
    for of in [list(SOURCES)[number % 3]]
}  # fmt: skip
SERVICES |= {
    "all at once": service_of(view("mixed", PAIR, late, _mixed(), ttl="1d")),
    "all at once, kept": service_of(view("mixed", ONE, late, _mixed(), history="8d")),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", SERVICES)
def test_offline_is_what_the_oracle_says(con, name):
    offline_agrees(con, SERVICES[name], examples=EXAMPLES // 10)


@pytest.mark.thorough
@pytest.mark.parametrize("name", SERVICES)
def test_the_plans_of_crowded_keys_are_what_the_oracle_says(con, name, monkeypatch):
    crowded_where(monkeypatch, "e.n % 2 = 0" if "once" in name else "TRUE")
    offline_agrees(con, SERVICES[name], examples=EXAMPLES // 15)


@pytest.mark.thorough
@pytest.mark.parametrize("name", SERVICES)
def test_online_is_what_the_oracle_says_however_states_were_filled(con, name):
    online_agrees(con, SERVICES[name], examples=EXAMPLES // 25)


@pytest.mark.thorough
@pytest.mark.parametrize("name", SERVICES)
def test_a_state_in_blocks_answers_what_the_oracle_says(con, name, monkeypatch):
    in_small_blocks(monkeypatch)
    online_agrees(con, SERVICES[name], examples=EXAMPLES // 25)
