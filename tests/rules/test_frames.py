"""T10: which events count where a window says more than its length."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from oracle import NOT_FOUND, PRESENT

from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Aggregate, Count, LastN, Sum, TimeSince
from featurekit.core.timezones import tzdata_version
from featurekit.define.compile_service import compile_service
from featurekit.define.numerics import numeric_fingerprint
from featurekit.define.plan import Service
from featurekit.errors import DefinitionError
from featurekit.testing import assert_parity

H, D = dt.timedelta(hours=1), dt.timedelta(days=1)
US = dt.timedelta(microseconds=1)
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)  # a Wednesday
user = Entity("user", {"key": int})
source = EventSource(
    "events",
    path="events.parquet",
    schema={"key": int, "n": int | None, "good": bool | None},
    timestamp_field="at",
    created_timestamp_column="arrived",
)
LATE = 30 * D


def counted(
    aggregate: Aggregate,
    events: Sequence[dt.datetime | tuple[dt.datetime, dt.datetime]],
    at: dt.datetime = NOON,
) -> Any:
    """The value at an instant, over events that happened, or happened and arrived, then. Their `n`
    are 1, 10, 100 and so on."""
    rows = []
    for number, one in enumerate(events):
        happened, arrived = one if isinstance(one, tuple) else (one, one)
        rows.append({"key": 1, "n": 10**number, "good": None, "at": happened, "arrived": arrived})
    return over(aggregate, rows, at)[0]


def over(aggregate: Aggregate, rows: Any, at: dt.datetime) -> tuple[Any, str]:
    """The value and its status at an instant, over rows of entity 1."""
    view = FeatureView("view", entities=[user], source=source, features={"x": aggregate})
    service = FeatureService("service", features=[view])
    found = assert_parity(service, {"events": rows}, [{"key": 1, "event_timestamp": at}])
    return found[0]["x"], found.statuses[0]["x"]


# --- the current row ------------------------------------------------------------------------------


def test_events_at_the_instant_are_left_out() -> None:
    events = [NOON - H, NOON - H + US, NOON - US, NOON]
    assert counted(Sum("n", window="1h"), events) == 1110
    assert counted(Sum("n", window="1h", exclude="instant"), events) == 110
    assert counted(Sum("n", window="lifetime", exclude="instant"), events) == 111


def test_an_event_that_happened_before_and_arrived_at_the_instant_counts() -> None:
    assert counted(Sum("n", window="1h", exclude="instant"), [(NOON - US, NOON)]) == 1
    assert counted(Sum("n", window="1h", exclude="instant"), [(NOON - US, NOON + US)]) is None


def test_an_entity_of_which_all_events_are_left_out_is_known() -> None:
    rows = [{"key": 1, "n": 1, "good": True, "at": NOON, "arrived": NOON}]
    assert over(Count(window="1h", exclude="instant"), rows, NOON) == (0, PRESENT)
    assert over(Count(window="1h", exclude="instant"), rows, NOON - US) == (0, NOT_FOUND)


# --- ends -----------------------------------------------------------------------------------------


def test_a_window_may_end_at_the_last_multiple_of_its_hop() -> None:
    at = NOON + 35 * dt.timedelta(minutes=1)
    events = [NOON - H, NOON - H + US, NOON, NOON + US]
    assert counted(Sum("n", window="1h", hop="1h", ends="hop"), events, at) == 110
    assert counted(Sum("n", window="1h", hop="1h"), events, at) == 1110


def test_at_a_multiple_the_window_ends_at_the_instant() -> None:
    events = [NOON - H, NOON]
    assert counted(Sum("n", window="1h", hop="1h", ends="hop"), events) == 10
    assert counted(Sum("n", window="1h", hop="1h", ends="hop"), events, NOON - US) == 1
    assert counted(
        Sum("n", window="1h", hop="1h", ends="hop", exclude="instant"), events
    ) is None  # fmt: skip


def test_the_window_is_as_long_as_it_says_whatever_its_hop() -> None:
    # 5 h do not divide a day, and multiples are counted from 1970 on.
    last = dt.datetime(2024, 5, 1, 9, tzinfo=dt.UTC)
    events = [last - 12 * H, last - 12 * H + US, last, last + US]
    assert counted(Sum("n", window="12h", hop="5h", ends="hop"), events) == 110


def test_before_1970_the_last_multiple_is_the_earlier_one() -> None:
    at = dt.datetime(1969, 12, 31, 23, 30, tzinfo=dt.UTC)
    events = [at - 3 * H / 2, at - 3 * H / 2 + US, at - H / 2, at - H / 2 + US]
    assert counted(Sum("n", window="1h", hop="1h", ends="hop"), events, at) == 110


def test_an_event_that_arrived_after_the_end_counts_from_its_arrival_on() -> None:
    hourly = Sum("n", window="1h", hop="1h", ends="hop")
    event = [(NOON, NOON + H / 4)]
    assert counted(hourly, event, NOON + H / 4) == 1
    assert counted(hourly, event, NOON + H / 4 - US) is None


# --- periods --------------------------------------------------------------------------------------


def midnight(day: int, month: int = 5, *, summer: bool = True) -> dt.datetime:
    """A midnight of London in 2024."""
    return dt.datetime(2024, month, day, tzinfo=dt.UTC) - (H if summer else 0 * H)


LONDON = {"timezone": "Europe/London"}


def test_the_last_full_day_is_that_before_the_one_of_the_instant() -> None:
    events = [midnight(30, 4) - US, midnight(30, 4), midnight(1) - US, midnight(1)]
    assert counted(Sum("n", calendar="day", **LONDON), events) == 110
    assert counted(Sum("n", calendar="day", **LONDON), events, midnight(1)) == 110
    assert counted(Sum("n", calendar="day", **LONDON), events, midnight(1) - US) == 1


def test_an_event_that_is_stamped_with_a_date_lies_in_its_own_day() -> None:
    assert counted(Count(calendar="day", **LONDON), [midnight(30, 4)], midnight(1)) == 1
    assert counted(Count(calendar="day", **LONDON), [midnight(1)], midnight(1)) == 0


def test_the_running_period_is_that_of_the_instant_up_to_it() -> None:
    events = [midnight(1) - US, midnight(1), NOON, NOON + US]
    running = {"running": True, **LONDON}
    assert counted(Sum("n", calendar="day", **running), events) == 110
    assert counted(Sum("n", calendar="day", exclude="instant", **running), events) == 10
    assert counted(Sum("n", calendar="month", **running), events) == 110
    assert counted(Sum("n", calendar="week", **running), events) == 111


def test_a_week_begins_on_monday() -> None:
    events = [midnight(22, 4) - US, midnight(22, 4), midnight(29, 4) - US, midnight(29, 4)]
    assert counted(Sum("n", calendar="week", **LONDON), events) == 110


def test_a_month_has_the_length_of_the_calendar() -> None:
    march, april = midnight(1, 3, summer=False), midnight(1, 4)
    events = [march - US, march, april - US, april]
    assert april - march == 31 * D - H  # the clock went forward
    at = dt.datetime(2024, 4, 30, tzinfo=dt.UTC)
    assert counted(Sum("n", calendar="month", **LONDON), events, at) == 110
    assert counted(Sum("n", calendar="month", periods=2, **LONDON), events, at) == 111


def test_several_full_periods_follow_one_another() -> None:
    events = [midnight(28, 4) - US, midnight(28, 4), midnight(30, 4), midnight(1)]
    assert counted(Sum("n", calendar="day", periods=3, **LONDON), events) == 110


def test_an_empty_period_counts() -> None:
    apia = {"calendar": "day", "timezone": "Pacific/Apia"}
    skipped = dt.datetime(2011, 12, 30, 10, tzinfo=dt.UTC)  # from the 29th on to the 31st
    events = [skipped - D, skipped - US, skipped, skipped + US]
    assert counted(Sum("n", **apia), events, skipped + H) is None
    assert counted(Sum("n", periods=2, **apia), events, skipped + H) == 11
    assert counted(Sum("n", running=True, **apia), events, skipped + H) == 1100


def test_a_day_whose_midnight_comes_twice_begins_with_the_first() -> None:
    havana = {"calendar": "day", "timezone": "America/Havana"}
    first = dt.datetime(2023, 11, 5, 4, tzinfo=dt.UTC)
    events = [first - US, first, first + H, first + 25 * H]
    assert counted(Sum("n", **havana), events, first + 25 * H) == 110


def test_an_event_of_a_period_counts_from_its_arrival_on() -> None:
    late = [(midnight(30, 4), NOON)]
    assert counted(Count(calendar="day", **LONDON), late, NOON - US) == 0
    assert counted(Count(calendar="day", **LONDON), late, NOON) == 1


def test_an_offset_takes_the_period_of_an_earlier_instant() -> None:
    a_day_before = Sum("n", calendar="day", offset="24h", **LONDON)
    events = [midnight(29, 4), midnight(30, 4), (midnight(29, 4), NOON)]
    assert counted(a_day_before, events) == 101
    assert counted(a_day_before, events, NOON - US) == 1


def test_periods_at_the_ends_of_the_calendar() -> None:
    first = dt.datetime.min.replace(tzinfo=dt.UTC)
    last = dt.datetime.max.replace(tzinfo=dt.UTC)
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        for calendar in ("day", "week", "month"):
            of = {"calendar": calendar, "timezone": zone}
            assert counted(Count(**of, running=True), [first], first) == 1
            assert counted(Count(**of, periods=3), [first], first) == 0
            assert counted(Count(**of, running=True), [last - US, last], last) == 2
            assert counted(Count(**of), [last - 32 * D, last], last) in (0, 1)


# --- rows -----------------------------------------------------------------------------------------


def row(at: dt.datetime, n: int | None, good: bool | None = None, **more: Any) -> dict[str, Any]:
    return {"key": 1, "n": n, "good": good, "at": at, "arrived": at} | more


def test_the_last_rows_are_those_by_the_order_of_events() -> None:
    events = [NOON - 3 * H, NOON - H, NOON - 2 * H, NOON, NOON + US]
    assert counted(Sum("n", rows=1), events) == 1000
    assert counted(Sum("n", rows=3), events) == 1110
    assert counted(Sum("n", rows=9), events) == 1111
    assert counted(LastN("n", n=5, rows=2), events) == [10, 1000]


def test_of_one_instant_the_order_decides_which_rows_are_last() -> None:
    late = [(NOON, NOON), (NOON - H, NOON - H)]
    assert counted(Sum("n", rows=1), [*late, (NOON, NOON)]) == 100  # by its own values
    assert counted(Sum("n", rows=1), [*late, (NOON, NOON + US)]) == 1  # not arrived yet
    assert counted(Sum("n", rows=1), [(NOON, NOON + US), (NOON, NOON)], NOON + US) == 1


def test_rows_are_counted_after_where_and_before_none_is_skipped() -> None:
    rows = [row(NOON - 4 * H, 1, True), row(NOON - 3 * H, 10, True), row(NOON - 2 * H, None, True),
            row(NOON - H, 100, False), row(NOON, 1000, None)]  # fmt: skip
    assert over(Sum("n", rows=2, where="good"), rows, NOON)[0] == 10
    assert over(Count("n", rows=2, where="good"), rows, NOON)[0] == 1
    assert over(Count(rows=2, where="good"), rows, NOON)[0] == 2
    assert over(Sum("n", rows=3), rows, NOON)[0] == 1100
    assert over(LastN("n", n=1, rows=1, where="good"), rows, NOON)[0] == []


@feature
def tenth(n: int | None) -> int:
    return 10 // (0 if n is None else n)


@feature
def even(n: int | None) -> bool:
    return 10 // (0 if n is None else n) % 2 == 0


def test_an_event_whose_input_errs_has_its_place_and_one_whose_condition_errs_has_none() -> None:
    rows = [row(NOON - 2 * H, 5), row(NOON - H, 0), row(NOON, 1)]
    assert over(Sum(tenth, rows=2), rows, NOON)[0] == 10
    assert over(Sum("n", rows=2, where=even), rows, NOON)[0] == 6


def test_rows_may_have_a_window_beside_them() -> None:
    events = [NOON - 2 * H, NOON - H + US, NOON - US, NOON]
    assert counted(Sum("n", window="1h", rows=5), events) == 1110
    assert counted(Sum("n", window="1h", rows=2), events) == 1100
    assert counted(Sum("n", window="1h", rows=2, exclude="instant"), events) == 110
    assert counted(Sum("n", rows=2, exclude="instant"), events) == 110
    assert counted(Sum("n", rows=1, offset="1h"), events) == 1
    assert counted(Sum("n", rows=1, calendar="day", **LONDON), [*events, midnight(1) - US]) == 10**4


def test_a_late_row_takes_its_place_from_its_arrival_on() -> None:
    events = [(NOON - 3 * H, NOON - 3 * H), (NOON - 2 * H, NOON), (NOON - H, NOON - H)]
    assert counted(Sum("n", rows=2), events, NOON - US) == 101
    assert counted(Sum("n", rows=2), events, NOON) == 110


def test_rows_without_a_window_say_how_long_ids_are_remembered() -> None:
    named = EventSource("named", path="n.parquet", schema={"key": int, "id": str},
                        timestamp_field="at", event_id="id")  # fmt: skip
    view = FeatureView("v", entities=[user], source=named, features={"n": Count(rows=3)})
    with pytest.raises(DefinitionError, match="dedupe_within"):
        assert_parity(FeatureService("s", features=[view]), {}, [])


# --- sessions -------------------------------------------------------------------------------------


def test_a_session_is_the_last_run_without_a_longer_gap() -> None:
    session = Sum("n", window="1d", session="1h")
    events = [NOON - 4 * H, NOON - 3 * H, NOON - 2 * H + US, NOON - H + US, NOON]
    assert counted(session, events) == 11100
    assert counted(session, events, NOON - US) == 1100
    assert counted(session, [NOON - 2 * H, NOON - H], NOON - H) == 11


def test_a_session_is_over_once_the_gap_has_passed() -> None:
    session = Count(window="1d", session="1h")
    assert counted(session, [NOON - H]) == 1
    assert counted(session, [NOON - H - US]) == 0
    assert counted(Sum("n", window="1d", session="1h"), [NOON - H - US]) is None


def test_a_session_begins_within_the_window() -> None:
    events = [NOON - 2 * H, NOON - 2 * H + US, NOON - H, NOON]
    assert counted(Sum("n", window="2h", session="1h"), events) == 1110


def test_events_that_where_leaves_out_do_not_bridge_a_gap() -> None:
    rows = [row(NOON - 2 * H, 1, True), row(NOON - H, 10, False), row(NOON, 100, True)]
    assert over(Sum("n", window="1d", session="1h"), rows, NOON)[0] == 111
    assert over(Sum("n", window="1d", session="1h", where="good"), rows, NOON)[0] == 100


def test_a_late_event_joins_runs_from_its_arrival_on() -> None:
    events = [(NOON - 2 * H, NOON - 2 * H), (NOON - H, NOON), (NOON - US, NOON - US)]
    session = Sum("n", window="1d", session="1h")
    assert counted(session, events, NOON - US) == 100
    assert counted(session, events) == 111


def test_how_long_a_session_has_lasted() -> None:
    events = [NOON - 2 * H, NOON - H, NOON - H / 2]
    first = TimeSince(window="1d", session="1h", since="first")
    assert counted(first, events) == 7200.0


# --- the numeric fingerprint ----------------------------------------------------------------------


def test_the_time_zone_database_is_part_of_the_fingerprint_of_a_calendar() -> None:
    """R6, and F1: the zone is a part of what the feature is."""

    def compiled(zone: str) -> Service:
        features = {"x": Count(calendar="day", timezone=zone)}
        view = FeatureView("view", entities=[user], source=source, features=features)
        return compile_service(FeatureService("service", features=[view]))

    assert numeric_fingerprint(compiled("UTC")) == {}
    london, paris = compiled("Europe/London"), compiled("Europe/Paris")
    assert numeric_fingerprint(london) == {"tzdata": tzdata_version()}
    assert london.views[0].fingerprint != paris.views[0].fingerprint


# --- what has no meaning is refused ---------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"window": "1d", "exclude": "row"}, "exclude"),
    ({"window": "1d", "exclude": "instant", "offset": "1h"}, "ends before it"),
    ({"calendar": "day", "timezone": "UTC", "exclude": "instant"}, "ends before it"),
    ({"window": "1d", "exclude": "instant", "ahead": True}, "exclude= chooses among events"),
    ({"window": "1d", "ends": "hop"}, "hop"),
    ({"window": "1d", "ends": "day", "hop": "1h"}, "ends"),
    ({"window": "lifetime", "ends": "hop", "hop": "1h"}, "lifetime"),
    ({"window": "1d", "ends": "hop", "hop": "1h", "ahead": True}, "ends= chooses among"),
    ({"calendar": "year", "timezone": "UTC"}, '"day", "week" or "month"'),
    ({"calendar": "day"}, "where midnight is"),
    ({"calendar": "day", "timezone": "Europe/Londn"}, "Europe/London"),
    ({"calendar": "day", "timezone": "UTC", "window": "1d"}, "leave window= out"),
    ({"calendar": "day", "timezone": "UTC", "windows": ["1d"]}, "leave window= out"),
    ({"calendar": "day", "timezone": "UTC", "hop": "1h"}, "leave hop= out"),
    ({"calendar": "day", "timezone": "UTC", "ahead": True}, "calendar= chooses among"),
    ({"calendar": "day", "timezone": "UTC", "periods": 0}, "an int from 1 to 10,000"),
    ({"calendar": "day", "timezone": "UTC", "periods": True}, "an int from 1 to 10,000"),
    ({"calendar": "day", "timezone": "UTC", "periods": 2, "running": True}, "leave one"),
    ({"calendar": "day", "timezone": "UTC", "running": 1}, "running"),
    ({"rows": 0}, "an int from 1 to 100,000"),
    ({"rows": True}, "an int from 1 to 100,000"),
    ({"rows": "3"}, "an int from 1 to 100,000"),
    ({"window": "1d", "rows": 3, "ahead": True}, "rows= chooses among"),
    ({"session": "1h"}, "needs a window"),
    ({"window": "lifetime", "session": "1h"}, "how far back"),
    ({"window": "1d", "session": "2d"}, "is shorter than"),
    ({"windows": ["1d", "1h"], "session": "2h"}, "is shorter than"),
    ({"window": "1d", "session": "soon"}, "not a duration"),
    ({"window": "1d", "session": "1h", "rows": 3}, "leave rows= out"),
    ({"window": "1d", "session": "1h", "hop": "1h", "ends": "hop"}, "leave ends= out"),
    ({"calendar": "day", "timezone": "UTC", "session": "1h"}, "leave calendar= out"),
    ({"window": "1d", "session": "1h", "ahead": True}, "session= chooses among"),
    ({"window": "1d", "timezone": "UTC"}, "the periods of a calendar"),
    ({"window": "1d", "running": True}, "the periods of a calendar"),
    ({"window": "1d", "periods": 2}, "the periods of a calendar"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED, ids=str)
def test_what_contradicts_itself_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        Count(**given)


def test_each_window_has_the_same_frame() -> None:
    view = FeatureView(
        "view",
        entities=[user],
        source=source,
        features={"n": LastN("n", n=5, windows=["1h", "1d"], exclude="instant")},
    )
    service = FeatureService("service", features=[view])
    rows = [
        {"key": 1, "n": i, "good": True, "at": NOON - i * H, "arrived": NOON} for i in (0, 1, 2)
    ]
    asked = [{"key": 1, "event_timestamp": NOON}]
    assert assert_parity(service, {"events": rows}, asked) == [{"n_1h": [], "n_1d": [2, 1]}]
