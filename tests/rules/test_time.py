"""T: instants, what is known as of one, windows, order, ids, horizons."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import pyarrow as pa
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature
from featurekit.aggregates import Aggregate, Count, Sum
from featurekit.errors import AsOfTooOld, DefinitionError
from featurekit.testing import assert_parity
from rules.asking import (
    ERRED,
    EXPIRED,
    NOON,
    NULL,
    D,
    H,
    One,
    S,
    ask,
    empty,
    instant,
    present,
    table,
)

MODULE = """
from datetime import datetime
from zoneinfo import ZoneInfo
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, LastN, Sum

user = Entity("user", {"key": int})
times = {"timestamp_field": "at", "created_timestamp_column": "arrived"}

def source(name, *, schema, **options):
    return EventSource(name, path=f"{name}.parquet", schema=schema, **times, **options)

def view(name, of, features, **options):
    return FeatureView(name, entities=[user], source=of, features=features, **options)

plain = {"key": int, "n": int | None, "x": float}
events = source("events", schema=plain)
numbered = source("numbered", schema={**plain, "number": int}, sequence="number")
local = source("local", schema={"key": int, "at": datetime}, timezone="Europe/London")
stamps = {"schema": {"key": int, "at": datetime}, "timezone": "Europe/London"}
texts = source("texts", **stamps, timestamp_format={"at": "%d.%m.%Y %H:%M"})
counts = source("counts", **stamps, timestamp_format={"at": "epoch_ms"})
days = source("days", **stamps)
named = source("named", schema={**plain, "id": str}, event_id="id", dedupe_within="1h")
versions = source("versions", schema={**plain, "id": str, "op": str}, event_id="id", op="op",
                  dedupe_within="1d")
clicks = EventSource("clicks", path="clicks.parquet", schema={"key": int}, timestamp_field="at")

@feature
def hour_in_london(at: datetime) -> int:
    return at.astimezone(ZoneInfo("Europe/London")).hour

@feature
def age(as_of: datetime, at: datetime) -> float:
    return (as_of - at).total_seconds()

@feature
def age_of_n(as_of: datetime, n: int | None) -> int | None:
    return None if n is None else as_of.microsecond // n

@feature
def zone(as_of: datetime) -> str:
    return as_of.isoformat()

@feature
def asked(as_of: datetime) -> int:
    return as_of.microsecond

timed = source("timed", schema={**plain, "at": datetime})
asking = FeatureService("asking", features=[
    view("timed_row", timed, {"age": age, "age_of_n": age_of_n, "zone": zone, "n": "n"}, ttl="10s",
         history="1d"),
    asked,
])

windows = FeatureService("windows", features=[view("window", events, {
    "count": Count(window="10s"),
    "before": Count(window="10s", offset="5s"),
    "hourly": Count(window="10m", hop="1h"),
    "sevens": Count(window="10m", hop="7h"),
    "ever": Count(window="lifetime"),
})])
latest = FeatureService("latest", features=[view("row", events, {"n": "n"})])
fresh = FeatureService("fresh", features=[view("fresh_row", events, {"n": "n"}, ttl="10s")])
visits = FeatureService("visits", features=[
    view("fresh_window", events, {"ever": Count(window="lifetime")}, ttl="10s")
])
order = FeatureService("order", features=[view("all", events, {
    "xs": LastN("x", n=9, window="1d")
})])
by_number = FeatureService("by_number", features=[view("numbers", numbered, {"n": "n"})])
at_home = FeatureService("at_home", features=[
    view("home", local, {"at": "at", "hour": hour_in_london})
])
of_texts = FeatureService("of_texts", features=[view("from_texts", texts, {"at": "at"})])
of_counts = FeatureService("of_counts", features=[view("from_counts", counts, {"at": "at"})])
of_days = FeatureService("of_days", features=[view("from_days", days, {"at": "at"})])
once = FeatureService("once", features=[view("ids", named, {
    "count": Count(window="7d"), "sum": Sum("x", window="7d")
})])
corrected = FeatureService("corrected", features=[view("ops", versions, {
    "count": Count(window="7d"), "sum": Sum("x", window="7d")
})])
prompt = FeatureService("prompt", features=[
    view("clicked", clicks, {"count": Count(window="10s")})
])
past = FeatureService("past", features=[
    view("history", events, {"count": Count(window="10s")}, history="5s")
])
"""
PLAIN = {"n": pa.int64(), "x": pa.float64()}
TABLES = {
    "events": table(**PLAIN),
    "numbered": table(**PLAIN, number=pa.int64()),
    "local": table(),
    "texts": table(at=pa.string()),
    "counts": table(at=pa.int64()),
    "days": table(at=pa.date32()),
    "timed": table(**PLAIN),
    "named": table(**PLAIN, id=pa.string()),
    "versions": table(**PLAIN, id=pa.string(), op=pa.string()),
    "clicks": table({"key": 1, "at": NOON}),
}
N, X = {"n": 1, "x": 1.0}, {"n": None, "x": 1.0}


# --- T1, T2 ---------------------------------------------------------------------------------------


def at_home(one: One, local: dt.datetime) -> dict[str, object]:
    """What both paths say of an event at a local time of London."""
    arrived = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    one.store.push("local", [{"key": one.key, "at": local, "arrived": arrived}])
    return ask(one.store, "at_home", {"key": one.key}, arrived)


def test_a_naive_instant_is_a_local_time_of_its_source(one: One) -> None:
    found = at_home(one, dt.datetime(2024, 7, 1, 12))
    assert found["at"] == present(dt.datetime(2024, 7, 1, 11, tzinfo=dt.UTC))


def test_an_ambiguous_local_time_is_the_earlier_instant(one: One) -> None:
    found = at_home(one, dt.datetime(2024, 10, 27, 1, 30))
    assert found["at"] == present(dt.datetime(2024, 10, 27, 0, 30, tzinfo=dt.UTC))


def test_a_local_time_that_does_not_exist_has_the_offset_before_the_gap(one: One) -> None:
    found = at_home(one, dt.datetime(2024, 3, 31, 1, 30))
    assert found["at"] == present(dt.datetime(2024, 3, 31, 1, 30, tzinfo=dt.UTC))


def test_an_aware_instant_is_itself(one: One) -> None:
    summer = dt.datetime(2024, 7, 1, 12, tzinfo=dt.UTC)
    assert at_home(one, summer)["at"] == present(summer)


@pytest.mark.parametrize(
    ("source", "given", "expected"),
    [
        ("texts", "01.07.2024 12:30", dt.datetime(2024, 7, 1, 11, 30)),
        ("counts", 1_719_833_400_123, dt.datetime(2024, 7, 1, 11, 30, 0, 123_000)),
        ("days", dt.date(2024, 7, 1), dt.datetime(2024, 6, 30, 23)),
    ],
)
def test_timestamps_of_texts_numbers_and_dates_are_instants(
    one: One, source: str, given: object, expected: dt.datetime
) -> None:
    arrived = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    one.store.push(source, [{"key": one.key, "at": given, "arrived": arrived}])
    found = ask(one.store, f"of_{source}", {"key": one.key}, arrived)
    assert found["at"] == present(expected.replace(tzinfo=dt.UTC))


def test_a_zone_inside_a_transform_is_the_same_on_both_paths(one: One) -> None:
    assert at_home(one, dt.datetime(2024, 7, 1, 12))["hour"] == present(12)


# --- T3: what counts as of t ----------------------------------------------------------------------


def test_an_event_at_the_instant_counts(one: One) -> None:
    one.push("events", 0, **N)
    assert one.ask("windows", 0)["count"] == present(1)


def test_an_event_after_the_instant_does_not_count(one: One) -> None:
    one.push("events", 1, arrived=0, **N)
    assert one.ask("windows", 0)["count"] == empty(0)
    assert one.ask("windows", 1)["count"] == present(1)


def test_a_late_event_is_invisible_before_it_arrived(one: One) -> None:
    asked = {"key": one.key}
    one.push("events", 0, **N)
    before = ask(one.store, "windows", asked, instant(2 * S))["count"]
    one.push("events", 1 * S, arrived=3 * S, **N)
    after = one.ask("windows", 3 * S)["count"]
    frame = [{**asked, "event_timestamp": instant(2 * S)}]
    again = one.store.get_historical_features(frame, "windows").to_arrow()
    assert (before, after) == (present(1), present(2))
    assert again["count"].to_pylist() == [1]


def test_a_late_row_is_not_the_latest_before_it_arrived(one: One) -> None:
    one.push("events", 0, n=1, x=0.0)
    assert one.ask("latest", 3 * S - 1)["n"] == present(1)
    one.push("events", 1 * S, arrived=3 * S, n=2, x=0.0)
    assert one.ask("latest", 3 * S)["n"] == present(2)
    frame = [{"key": one.key, "event_timestamp": instant(t)} for t in (3 * S - 1, 3 * S)]
    again = one.store.get_historical_features(frame, "latest").to_arrow()
    assert again["n"].to_pylist() == [1, 2]


def test_a_live_push_is_stamped_with_its_arrival(store: FeatureStore, one: One) -> None:
    """A push without the column of arrivals is not known before the push, and is afterwards."""
    row = one.event(0, **N)
    del row["arrived"]
    begun = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    store.push("events", [row])
    ended = store.get_online_features("windows", [{"key": one.key}]).as_of
    frame = [{"key": one.key, "event_timestamp": t} for t in (begun, ended)]
    found = store.get_historical_features(frame, "windows").to_arrow()
    assert found["ever"].to_pylist() == [0, 1]
    assert ask(store, "windows", {"key": one.key}, ended)["ever"] == present(1)


def test_without_a_column_of_arrivals_a_row_arrives_when_it_happens(store: FeatureStore) -> None:
    store.materialize(views=["clicked"])
    frame = [{"key": 1, "event_timestamp": instant(t)} for t in (-1, 0)]
    found = store.get_historical_features(frame, "prompt").to_arrow()
    assert found["count"].to_pylist() == [0, 1]
    assert ask(store, "prompt", {"key": 1}, NOON)["count"] == present(1)


# --- T4, T5: windows ------------------------------------------------------------------------------


def test_a_window_is_open_at_its_beginning(one: One) -> None:
    one.push("events", 0, **N)
    assert one.ask("windows", 10 * S - 1)["count"] == present(1)
    assert one.ask("windows", 10 * S)["count"] == present(0)


def test_an_offset_moves_both_ends_back(one: One) -> None:
    one.push("events", 0, **N)
    found = [one.ask("windows", t)["before"] for t in (5 * S - 1, 5 * S, 15 * S - 1, 15 * S)]
    assert found == [present(0), present(1), present(1), present(0)]


def test_an_offset_does_not_move_the_instant_of_arrival(one: One) -> None:
    one.push("events", 0, arrived=7 * S, **N)
    assert one.ask("windows", 7 * S)["before"] == present(1)


def test_a_lifetime_has_no_beginning(one: One) -> None:
    one.push("events", -9_000 * D, **N)
    assert one.ask("windows", 0)["ever"] == present(1)


def test_a_row_as_old_as_the_ttl_is_outside_and_never_not_found(one: One) -> None:
    one.push("events", 0, **N)
    assert one.ask("fresh", 10 * S - 1)["n"] == present(1)
    assert one.ask("fresh", 10 * S)["n"] == EXPIRED
    assert one.ask("fresh", 900 * D)["n"] == EXPIRED


def test_a_ttl_on_windows_is_about_the_latest_event(one: One) -> None:
    one.push("events", 0, **N)
    assert one.ask("visits", 10 * S - 1)["ever"] == present(1)
    assert one.ask("visits", 10 * S)["ever"] == EXPIRED


def test_a_hop_moves_the_open_end_down_to_a_multiple_of_it(one: One) -> None:
    """At 12:35 a window of ten minutes with hop 1h is (12:00, 12:35]."""
    one.push("events", 0, **N)
    one.push("events", 1, **N)
    assert one.ask("windows", 35 * 60 * S)["hourly"] == present(1)


def test_a_hop_is_counted_from_the_epoch(one: One) -> None:
    """NOON is 476,268 hours after it, two more than a multiple of seven."""
    assert (NOON - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(hours=1) == 476_268
    one.push("events", -2 * H, **N)
    one.push("events", -2 * H + 1, **N)
    assert one.ask("windows", 0)["sevens"] == present(1)


def test_a_hop_floors_before_the_epoch(one: One) -> None:
    """At 23:35 of 1969-12-31 it is (23:00, 23:35]."""
    epoch = -(NOON - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    one.push("events", epoch - H, **N)
    one.push("events", epoch - H + 1, **N)
    assert one.ask("windows", epoch - 25 * 60 * S)["hourly"] == present(1)


# --- T6: order ------------------------------------------------------------------------------------


def test_the_later_event_is_the_latest_in_whatever_order_they_come(one: One) -> None:
    one.store.push("events", [one.event(2, n=2, x=0.0), one.event(1, arrived=2, n=1, x=0.0)])
    assert one.ask("latest", 5)["n"] == present(2)


def test_of_one_instant_the_last_to_arrive_is_the_latest(one: One) -> None:
    one.push("events", 0, arrived=2, n=1, x=9.0)
    one.push("events", 0, arrived=1, n=2, x=9.0)
    assert one.ask("latest", 5)["n"] == present(1)


def test_a_late_row_of_the_same_instant_is_the_latest_once_it_has_arrived(one: One) -> None:
    one.push("events", 0, n=1, x=9.0)
    one.push("events", 0, arrived=2, n=2, x=0.0)
    assert one.ask("latest", 2)["n"] == present(2)


def test_of_one_arrival_the_sequence_decides(one: One) -> None:
    one.push("numbered", 0, number=2, n=1, x=0.0)
    one.push("numbered", 0, number=1, n=2, x=9.0)
    assert one.ask("by_number", 5)["n"] == present(1)


def test_then_the_row_s_own_values_decide_nulls_first(one: One) -> None:
    one.push("events", 0, n=1, x=0.0)
    one.push("events", 0, n=None, x=9.0)
    assert one.ask("latest", 5)["n"] == present(1)


@pytest.mark.parametrize("places", [(3, 2, 1, 0), (1, 3, 0, 2)])
def test_floats_are_ordered_with_minus_zero_before_zero_and_nan_last(
    one: One, places: tuple[int, ...]
) -> None:
    ordered = [-0.0, 0.0, 1.0, float("nan")]
    for place in places:
        one.push("events", 0, n=None, x=ordered[place])
    assert one.ask("order", 5)["xs"] == present(ordered)


# --- T7: ids of events ----------------------------------------------------------------------------


def test_of_copies_the_first_known_one_counts(one: One) -> None:
    one.push("named", 0, id=f"a{one.key}", n=None, x=1.0)
    one.push("named", 1, id=f"a{one.key}", n=None, x=2.0)
    assert one.ask("once", 5) == {"count": present(1), "sum": present(1.0)}


def test_a_copy_of_another_entity_is_a_copy(one: One, store: FeatureStore) -> None:
    other = One(store)
    one.push("named", 0, id=f"a{one.key}", **X)
    other.push("named", 1, id=f"a{one.key}", **X)
    assert other.ask("once", 5)["count"] == empty(0)


def test_a_copy_after_the_id_is_forgotten_is_a_new_event(one: One) -> None:
    one.push("named", 0, id=f"a{one.key}", **X)
    one.push("named", H, id=f"a{one.key}", **X)
    assert one.ask("once", H)["count"] == present(1)
    one.push("named", H + 1, id=f"a{one.key}", **X)
    assert one.ask("once", H + 1)["count"] == present(2)


def test_a_correction_counts_from_its_arrival(one: One) -> None:
    name = f"a{one.key}"
    one.push("versions", 0, id=name, op="upsert", n=None, x=1.0)
    assert one.ask("corrected", 5)["sum"] == present(1.0)
    one.push("versions", 0, arrived=9, id=name, op="upsert", n=None, x=4.0)
    assert one.ask("corrected", 9) == {"count": present(1), "sum": present(4.0)}


def test_a_deletion_takes_its_event_away_from_its_arrival_on(one: One) -> None:
    name = f"a{one.key}"
    one.push("versions", 0, id=name, op="upsert", **X)
    assert one.ask("corrected", 5)["count"] == present(1)
    one.push("versions", 0, arrived=9, id=name, op="delete", **X)
    assert one.ask("corrected", 9)["count"] == empty(0)


def clicks(**options: object) -> EventSource:
    return EventSource(
        "clicks", path="c.parquet", schema={"key": int, "id": str}, timestamp_field="at",
        event_id="id", **options,
    )  # fmt: skip


def test_what_reaches_back_without_end_has_to_say_how_long_ids_are_remembered() -> None:
    user = Entity("user", {"key": int})
    for features in ({"id": "id"}, {"ever": Count(window="lifetime")}):
        view = FeatureView("v", entities=[user], source=clicks(), features=features)
        with pytest.raises(DefinitionError, match="dedupe_within"):
            assert_parity(FeatureService("s", features=[view]), {}, [])


# --- T8: what a state answers ---------------------------------------------------------------------


def test_an_instant_before_the_newest_arrival_is_too_old(one: One) -> None:
    one.push("events", 0, **N)
    with pytest.raises(AsOfTooOld):
        one.ask("windows", -1)


def test_history_moves_the_horizon_back(one: One) -> None:
    one.push("events", 0, **N)
    one.push("events", 5 * S, **N)
    assert one.ask("past", 0)["count"] == present(1)
    with pytest.raises(AsOfTooOld):
        one.ask("past", -1)


def test_a_request_without_an_instant_has_one_which_is_returned(
    one: One, store: FeatureStore
) -> None:
    one.push("events", 0, **N)
    found = store.get_online_features("latest", [{"key": one.key}, {"key": -1}])
    again = ask(store, "latest", {"key": one.key}, found.as_of)
    assert again["n"] == present(found.columns["n"][0])


# --- T9 -------------------------------------------------------------------------------------------


def test_a_transform_of_the_latest_row_may_take_the_instant(one: One) -> None:
    one.push("timed", -3 * S, n=4, x=0.5)
    assert one.ask("asking", 5)["age"] == present(3.000005)
    assert one.ask("asking", 6 * S)["age"] == present(9.0)


def test_a_request_time_transform_may_take_the_instant(one: One) -> None:
    assert one.ask("asking", 5)["asked"] == present(5)


def test_the_instant_is_aware_and_in_utc(one: One) -> None:
    one.push("timed", 0, n=4, x=0.5)
    assert one.ask("asking", 5)["zone"] == present("2024-05-01T12:00:00.000005+00:00")


def test_the_instant_leaves_statuses_as_they_are(one: One) -> None:
    assert one.ask("asking", 5)["age"] == empty(None)
    one.push("timed", 0, n=None, x=0.5)
    assert one.ask("asking", 5)["age_of_n"] == NULL
    one.push("timed", 0, n=0, x=0.5)
    assert one.ask("asking", 5)["age_of_n"] == ERRED
    assert one.ask("asking", 10 * S)["age_of_n"] == EXPIRED


@feature
def since(as_of: dt.datetime, at: dt.datetime) -> float:
    return (as_of - at).total_seconds()


@feature
def recent(as_of: dt.datetime, at: dt.datetime) -> bool:
    return as_of > at


@pytest.mark.parametrize(
    "aggregate", [Sum(since, window="1d"), Count(window="1d", where=recent)], ids=["input", "where"]
)
def test_an_aggregate_s_input_and_where_cannot_take_the_instant(aggregate: Aggregate) -> None:
    source = EventSource(
        "clicks", path="c.parquet", schema={"key": int, "at": dt.datetime}, timestamp_field="at"
    )
    user = Entity("user", {"key": int})
    view = FeatureView("v", entities=[user], source=source, features={"age": aggregate})
    with pytest.raises(DefinitionError, match="takes the instant 'as_of', which an event"):
        assert_parity(FeatureService("s", features=[view]), {}, [])


def test_the_name_of_the_instant_is_reserved() -> None:
    source = EventSource(
        "clicks", path="c.parquet", schema={"key": int, "as_of": dt.datetime},
        timestamp_field="as_of",
    )  # fmt: skip
    user = Entity("user", {"key": int})
    row = FeatureView("v", entities=[user], source=source, features={"seen": "as_of"})
    with pytest.raises(DefinitionError, match="names the instant that is asked for"):
        Entity("user", {"as_of": int})
    with pytest.raises(DefinitionError, match="names the instant that is asked for"):
        FeatureView("v", entities=[user], source=source, features={"as_of": "as_of"})
    with pytest.raises(DefinitionError, match="names the instant that is asked for"):
        FeatureService("s", features=[row], request={"as_of": dt.datetime})

    @feature
    def hour(as_of: dt.datetime) -> int:
        return as_of.hour

    view = FeatureView("v", entities=[user], source=source, features={"hour": hour})
    with pytest.raises(DefinitionError, match="has a column of that name"):
        assert_parity(FeatureService("s", features=[view]), {}, [])


def test_an_instant_of_another_type_is_refused() -> None:
    @feature
    def hour(as_of: str) -> str:
        return as_of

    source = EventSource("clicks", path="c.parquet", schema={"key": int}, timestamp_field="at")
    view = FeatureView("v", entities=[Entity("user", {"key": int})], source=source,
                       features={"n": hour})  # fmt: skip
    with pytest.raises(DefinitionError, match="the instant asked for is datetime"):
        assert_parity(FeatureService("s", features=[view]), {}, [])


# --- T10 to T12: what is not built is refused -----------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        {"include_request": True},
    ],
    ids=str,
)
def test_a_frame_that_is_not_built_is_refused(frame: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=next(iter(frame))):
        Count(window="1d", **frame)


def labels_of(
    events: Sequence[tuple[int, int]], known_at: int, *, settle: str | None = None
) -> tuple[object, str]:
    """The label at NOON of the ten seconds ahead, of events that happened and arrived so long after
    it."""
    user = Entity("user", {"key": int})
    rows = [{"key": 1, "at": instant(at), "arrived": instant(known)} for at, known in events]
    source = EventSource(
        "events",
        frame=table(*rows),
        schema={"key": int},
        timestamp_field="at",
        created_timestamp_column="arrived",
    )
    back = FeatureView("back", entities=[user], source=source, features={"n": Count(window="10s")})
    ahead = FeatureView(
        "ahead",
        entities=[user],
        source=source,
        features={"count": Count(window="10s", ahead=True, settle=settle)},
    )
    with FeatureStore(definitions=[FeatureService("back", features=[back]), ahead]) as store:
        made = store.get_historical_features(
            [{"key": 1, "event_timestamp": NOON}],
            "back",
            labels=["ahead:count"],
            statuses=True,
            known_at=instant(known_at),
        )
        (row,) = made.to_pylist()
    return row["count"], row["count__status"]


def test_a_label_counts_what_lies_ahead_of_its_instant() -> None:
    at = (0, 1, 10 * S, 10 * S + 1)
    assert labels_of([(us, us) for us in at], H) == (2, "PRESENT")


def test_a_label_counts_what_had_arrived_by_the_run_s_end() -> None:
    events = [(S, S), (2 * S, H), (3 * S, H + 1), (H, H)]
    assert labels_of(events, H) == (2, "PRESENT")
    assert labels_of([*events, (D, D)], D) == (3, "PRESENT")


def test_a_label_is_not_yet_known_until_its_window_lies_before_the_newest_arrival() -> None:
    assert labels_of([(S, 10 * S)], H) == (None, "NOT_YET")
    assert labels_of([(S, 10 * S + 1)], H) == (1, "PRESENT")


def test_a_label_is_not_yet_known_until_its_window_lies_before_the_run_s_end() -> None:
    assert labels_of([(S, S), (D, D)], 10 * S) == (None, "NOT_YET")
    assert labels_of([(S, S), (H, H)], H, settle="1h") == (None, "NOT_YET")
    assert labels_of([(S, S), (2 * H, 2 * H)], 2 * H, settle="1h") == (1, "PRESENT")


def test_a_label_is_never_a_feature() -> None:
    user, ahead = Entity("user", {"key": int}), Count(window="1d", ahead=True)
    labels = FeatureView("labels", entities=[user], source=clicks(), features={"n": ahead})
    with pytest.raises(DefinitionError, match=r"'served'.*'labels' has labels \(n\)"):
        FeatureStore(definitions=[FeatureService("served", features=[labels])]).plan()
    with pytest.raises(DefinitionError, match="a label is never a feature"):
        FeatureView(
            "mixed",
            entities=[user],
            source=clicks(),
            features={"n": ahead, "back": Count(window="1d")},
        )


def test_an_event_takes_nothing_of_itself_and_no_view_is_a_part_of_a_union() -> None:
    user = Entity("user", {"key": int})
    rows = FeatureView("rows", entities=[user], source=clicks(), features={"key": "key"})
    with pytest.raises(DefinitionError, match="a list of EventSources and their mappings"):
        FeatureView(
            "v", entities=[user], sources=[clicks(), rows], features={"n": Count(window="1d")}
        )
    with pytest.raises(DefinitionError, match="does not say when rows arrived"):
        clicks().join(rows, on="key")


def test_an_aggregate_per_period_is_refused() -> None:
    with pytest.raises(TypeError, match="per"):
        Sum("x", window="7d", per="1d")
