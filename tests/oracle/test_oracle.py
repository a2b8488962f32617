"""Examples worked out by hand from the sentences of docs/rules.md: the oracle itself is right."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest
from awkward import SCHEMA, Window, edges, entity_keys, events, instants, windows
from family import EACH, W, inputs, shown
from hypothesis import given, settings
from hypothesis import strategies as st
from monoids import monoid_of

from featurekit.aggregates import (
    Aggregate,
    Count,
    CountDistinct,
    Last,
    Max,
    Mean,
    Min,
    Sum,
    TimeSince,
)
from featurekit.core.types import INT
from featurekit.define.definitions import Entity, EventSource, FeatureView
from featurekit.language.transform import Transform, feature
from oracle import (
    ERROR,
    NOT_FOUND,
    NULL_VALUE,
    OUTSIDE_MAX_AGE,
    PRESENT,
    Erred,
    _finish,
    _seconds,
    bits,
    request_value,
    value,
)

S = 1_000_000
HOUR = 3600 * S
NAN, INF, MAX_DOUBLE = math.nan, math.inf, 1.7976931348623157e308
PAIR = Entity("pair", {"key": int, "key2": str})
KEY = {"key": 1, "key2": "a"}


def view(definition: Any, *, ttl: str | None = None, sequence: str | None = None) -> FeatureView:
    source = EventSource(
        "events",
        path="events.parquet",
        schema=SCHEMA,
        timestamp_field="at",
        created_timestamp_column="arrived",
        sequence=sequence,
    )
    return FeatureView(
        "view", entities=[PAIR], source=source, features={"feature": definition}, ttl=ttl
    )


def event(ts: int = 0, *, created: int | None = None, **columns: Any) -> dict[str, Any]:
    row = {**KEY, "amount": 1.0, "qty": 1, "flag": None, "name": None, **columns}
    return row | {"__ts": ts, "__created": ts if created is None else created}


def read(definition: Any, rows: list[dict[str, Any]], t: int = 0, **options: Any) -> Any:
    key = options.pop("key", KEY)
    found, status = value(view(definition, **options), "feature", rows, key, t)
    return bits(found), status


def of_amounts(aggregate: type[Aggregate], *amounts: float) -> Any:
    return read(aggregate("amount", window="10s"), [event(amount=a) for a in amounts])


def of_quantities(aggregate: type[Aggregate], *quantities: int) -> Any:
    return read(aggregate("qty", window="10s"), [event(qty=q) for q in quantities])


def present(result: Any) -> Any:
    return bits(result), PRESENT


NONE, ERRED = (bits(None), NULL_VALUE), (bits(None), ERROR)


@feature
def ten_over(qty: int) -> int:
    return 10 // qty


@feature
def ten_over_or_none(qty: int) -> int | None:
    return None if qty == 3 else 10 // qty


@feature
def ten_over_exceeds_two(qty: int) -> bool:
    return 10 // qty > 2


@feature
def one_or_two(qty: int) -> int:
    return 1 if 10 // qty > 2 else 2


@feature
def doubled(qty: int) -> int:
    return qty * 2


@feature
def as_float(qty: int) -> float:
    return qty


@feature
def as_float_or_none(qty: int) -> float | None:
    return qty


@feature
def as_int(flag: bool | None) -> int:
    return flag is not None and flag


@feature
def root(amount: float) -> float:
    return amount**0.5


@feature
def ten_times(amount: float) -> float:
    return amount * 10


@feature
def one_over(amount: float) -> float:
    return 1.0 / amount


# T3: what counts as of t


def test_an_event_at_t_counts():
    assert read(Count(window="10s"), [event(5)], 5) == present(1)


def test_an_event_after_t_waits_and_is_not_counted():
    rows = [event(0), event(6)]
    assert read(Count(window="10s"), rows, 5) == present(1)


@pytest.mark.parametrize(("t", "count"), [(6, 1), (7, 2)])
def test_a_late_event_is_invisible_before_it_arrived(t, count):
    rows = [event(0), event(5, created=7)]
    assert read(Count(window="10s"), rows, t) == present(count)


def test_an_event_created_before_its_own_instant_counts_from_its_instant():
    assert read(Count(window="10s"), [event(5, created=1)], 4) == (bits(0), NOT_FOUND)
    assert read(Count(window="10s"), [event(5, created=1)], 5) == present(1)


def test_a_late_row_is_not_the_latest_before_it_arrived():
    rows = [event(0, qty=1), event(5, created=9, qty=2)]
    assert read("qty", rows, 8) == present(1)
    assert read("qty", rows, 9) == present(2)


# T4, T5: windows


@pytest.mark.parametrize(("t", "count"), [(10 * S - 1, 1), (10 * S, 0), (10 * S + 1, 0)])
def test_a_window_is_open_at_t_minus_its_length(t, count):
    assert read(Count(window="10s"), [event(0)], t) == present(count)


@pytest.mark.parametrize(("t", "count"), [(3 * S - 1, 0), (3 * S, 1), (13 * S - 1, 1), (13 * S, 0)])
def test_an_offset_moves_both_ends_back(t, count):
    assert read(Count(window="10s", offset="3s"), [event(0)], t) == present(count)


def test_an_offset_does_not_move_the_instant_of_arrival():
    rows = [event(0), event(0, created=12 * S)]
    assert read(Count(window="10s", offset="3s"), rows, 12 * S - 1) == present(1)
    assert read(Count(window="10s", offset="3s"), rows, 12 * S) == present(2)


@pytest.mark.parametrize(
    ("ts", "count"), [(HOUR, 0), (HOUR + 1, 1), (3 * HOUR + 30, 1), (3 * HOUR + 31, 0)]
)
def test_a_hop_moves_the_open_end_down_and_leaves_t(ts, count):
    rows = [event(0), event(ts)]
    found, _ = read(Count(window="2h", hop="1h"), rows, 3 * HOUR + 30)
    assert found == bits(count)


@pytest.mark.parametrize(("ts", "count"), [(-2 * HOUR, 0), (-2 * HOUR + 1, 1)])
def test_a_hop_floors_before_the_epoch(ts, count):
    rows = [event(-9 * HOUR), event(ts)]
    assert read(Count(window="1h", hop="1h"), rows, -1) == present(count)


def test_a_window_that_starts_on_a_multiple_of_its_hop_stays():
    assert read(Count(window="1h", hop="1h"), [event(0)], HOUR) == present(0)


def test_a_hop_is_applied_after_the_offset():
    # At 2h + 10 µs: (floor((2h + 10 - 30 - 1h) / 1h) · 1h, 2h + 10 - 30], which is (0, 2h - 20].
    rows = [event(0), event(1), event(HOUR), event(2 * HOUR - 20), event(2 * HOUR - 19)]
    aggregate = Count(window="1h", hop="1h", offset=dt.timedelta(microseconds=30))
    assert read(aggregate, rows, 2 * HOUR + 10) == present(3)


# T4, V1: latest rows


@pytest.mark.parametrize("t", [0, 10 * S - 1])
def test_a_row_within_the_ttl_is_read(t):
    assert read("qty", [event(0, qty=7)], t, ttl="10s") == present(7)


def test_a_row_as_old_as_the_ttl_is_outside_and_never_not_found():
    assert read("qty", [event(0)], 10 * S, ttl="10s") == (bits(None), OUTSIDE_MAX_AGE)


def test_an_expired_row_with_an_erring_transform_is_outside():
    assert read(ten_over, [event(qty=0)], 10 * S, ttl="10s") == (bits(None), OUTSIDE_MAX_AGE)


def test_the_latest_row_is_read_whole_with_its_nulls():
    assert read("name", [event(0, name="old"), event(1, name=None)], 1) == NONE


def test_an_entity_without_events_is_not_found():
    assert read("qty", [event(qty=1)], key={"key": 2, "key2": "a"}) == (bits(None), NOT_FOUND)


# S2: keys


@pytest.mark.parametrize("key", [True, "1", 2, None])
def test_keys_of_other_types_or_null_never_meet(key):
    found = read(Count(window="1s"), [event()], key={"key": key, "key2": "a"})
    assert found == (bits(0), NOT_FOUND)


def test_an_event_with_a_null_key_belongs_to_no_entity():
    found = read(Count(window="1s"), [event(key=None)], key={"key": None, "key2": "a"})
    assert found == (bits(0), NOT_FOUND)


def test_all_join_keys_must_agree():
    rows = [event(), event(key2="a "), event(key=2)]
    assert read(Count(window="1s"), rows) == present(1)


# T6: order


def test_the_later_event_is_the_latest():
    assert read("qty", [event(2, qty=2), event(1, qty=1)], 5) == present(2)


def test_of_one_instant_the_last_to_arrive_is_the_latest():
    assert read("qty", [event(0, created=3, qty=1), event(0, created=2, qty=9)], 5) == present(1)


def test_of_one_arrival_the_sequence_decides():
    rows = [event(amount=9.0, qty=1), event(amount=1.0, qty=2)]
    assert read("qty", rows) == present(1)
    assert read("qty", rows, sequence="qty") == present(2)


def test_a_null_in_the_row_comes_first():
    assert read("name", [event(name=""), event(name=None)]) == present("")


@pytest.mark.parametrize(
    ("low", "high"), [(-0.0, 0.0), (INF, NAN), (-INF, -5e-324), (-5e-324, -0.0), (0.0, 5e-324)]
)
def test_floats_are_ordered_with_negative_zero_before_zero_and_nan_last(low, high):
    rows = [event(amount=high), event(amount=low)]
    assert read("amount", rows) == read("amount", rows[::-1]) == present(high)


def test_strings_are_ordered_by_code_points():
    assert read("name", [event(name="\U00010000"), event(name="\uffff")]) == present("\U00010000")


def test_false_comes_before_true():
    assert read("flag", [event(flag=True), event(flag=False), event(flag=None)]) == present(True)


def test_columns_decide_in_the_order_of_the_schema():
    rows = [event(amount=1.0, qty=9), event(amount=2.0, qty=1)]
    assert read("qty", rows) == present(1)


# Sum and Mean


@pytest.mark.parametrize(
    ("amounts", "total"),
    [
        ([1e308, 1e308, -1e308], 1e308),
        ([0.1] * 10, 1.0),  # 0.9999999999999999 where each addition is rounded
        ([0.1, 0.2], 0.30000000000000004),
        ([1e16, 1.0, -1e16], 1.0),
        ([2.0**53, 1.0], 2.0**53),
        ([2.0**53, 1.0, 5e-324], 2.0**53 + 2),
        ([5e-324, 5e-324], 1e-323),
        ([-0.0], 0.0),
        ([-0.0, -0.0], 0.0),
        ([1.5, -1.5], 0.0),
        ([MAX_DOUBLE, 9.9e291], MAX_DOUBLE),  # below half a unit in the last place
        ([NAN, 1.0], NAN),
        ([INF, -INF], NAN),
        ([INF, 1.0], INF),
        ([-INF, MAX_DOUBLE, MAX_DOUBLE], -INF),
        ([INF, NAN], NAN),
    ],
)
def test_a_sum_of_floats_is_exact_and_rounded_once(amounts, total):
    assert of_amounts(Sum, *amounts) == of_amounts(Sum, *amounts[::-1]) == present(total)


@pytest.mark.parametrize("amounts", [[1e308, 1e308], [-MAX_DOUBLE] * 2, [MAX_DOUBLE, 2.0**970]])
def test_a_finite_sum_beyond_the_doubles_is_an_error(amounts):
    assert of_amounts(Sum, *amounts) == of_amounts(Mean, *amounts) == ERRED


def test_a_sum_of_ints_is_exact():
    assert of_quantities(Sum, 2**62, 2**62, -1) == present(2**63 - 1)
    assert of_quantities(Sum, 2**63 - 1, 1, -1) == present(2**63 - 1)
    assert of_quantities(Sum, -(2**63)) == present(-(2**63))


@pytest.mark.parametrize("quantities", [[2**63 - 1, 1], [-(2**63), -1]])
def test_a_sum_of_ints_outside_int64_is_an_error(quantities):
    assert of_quantities(Sum, *quantities) == ERRED


def test_a_sum_of_bools_is_an_int():
    rows = [event(flag=True), event(flag=True), event(flag=None), event(flag=False)]
    assert read(Sum("flag", window="1s"), rows) == present(2)


def test_a_mean_is_the_rounded_sum_divided_by_the_count():
    # The exact mean of three doubles 0.1 is 0.1; their sum rounds to 0.30000000000000004.
    assert of_amounts(Mean, 0.1, 0.1, 0.1) == present(0.10000000000000002)
    assert of_amounts(Mean, *[0.1] * 10) == present(0.1)
    assert of_amounts(Mean, -0.0) == present(0.0)


def test_a_mean_of_ints_has_no_int64_to_leave():
    assert of_quantities(Mean, 2**63 - 1, 2**63 - 1) == present(2.0**63)
    assert of_quantities(Mean, 1, 2) == present(1.5)
    assert of_quantities(Mean, 2) == present(2.0)


@pytest.mark.parametrize(("amounts", "mean"), [([NAN], NAN), ([INF, 1], INF), ([INF, -INF], NAN)])
def test_a_mean_of_nan_and_infinities_is_as_a_sum(amounts, mean):
    assert of_amounts(Mean, *map(float, amounts)) == present(mean)


# Min, Max, Last, Count, CountDistinct


def test_min_and_max_tell_the_zeros_apart():
    assert of_amounts(Min, 0.0, -0.0) == of_amounts(Min, -0.0, 0.0) == present(-0.0)
    assert of_amounts(Max, 0.0, -0.0) == of_amounts(Max, -0.0, 0.0) == present(0.0)


@pytest.mark.parametrize("aggregate", [Min, Max])
def test_min_and_max_with_a_nan_are_nan(aggregate):
    amounts = (1.0, NAN, -INF, INF)
    assert of_amounts(aggregate, *amounts) == present(NAN)
    assert of_amounts(aggregate, *amounts[::-1]) == present(NAN)


def test_last_is_the_last_input_that_is_not_none():
    rows = [event(2, name=None), event(1, name="b"), event(0, name="a")]
    assert read(Last("name", window="1s"), rows, 2) == present("b")


def test_last_of_a_tie_follows_the_row():
    rows = [event(amount=NAN, qty=1), event(amount=INF, qty=2)]
    assert read(Last("qty", window="1s"), rows) == present(1)


def test_count_counts_rows_or_inputs_that_are_not_none():
    rows = [event(), event(), event(name="a")]
    assert read(Count(window="1s"), rows) == present(3)
    assert read(Count("name", window="1s"), rows) == present(1)


def test_distinct_counts_hold_the_zeros_and_all_nans_for_one():
    assert of_amounts(CountDistinct, 0.0, -0.0, NAN, -NAN, 1.0, 1.0) == present(3)


def test_none_is_no_distinct_value():
    rows = [event(name=None), event(name=""), event(name=" ")]
    assert read(CountDistinct("name", window="1s"), rows) == present(2)


@pytest.mark.parametrize("t", [-1, 2 * S])
@pytest.mark.parametrize(
    ("aggregate", "empty"),
    [(Sum, None), (Mean, None), (Min, None), (Max, None), (Last, None), (Count, 0),
     (CountDistinct, 0)],
)  # fmt: skip
def test_an_empty_window_is_none_or_zero(aggregate, empty, t):
    status = NOT_FOUND if t < 0 else NULL_VALUE if empty is None else PRESENT
    assert read(aggregate("amount", window="1s"), [event()], t) == (bits(empty), status)


# where, default, errors


def test_where_keeps_only_true_and_none_counts_as_false():
    rows = [event(flag=True, qty=1), event(flag=False, qty=2), event(flag=None, qty=4)]
    assert read(Sum("qty", window="1s", where="flag"), rows) == present(1)


def test_an_erring_where_skips_its_event():
    rows = [event(qty=0), event(qty=2), event(qty=9)]
    assert read(Count(window="1s", where=ten_over_exceeds_two), rows) == present(1)


def test_an_erring_input_is_skipped():
    rows = [event(qty=0), event(qty=2), event(qty=3)]
    assert read(Count(ten_over_or_none, window="1s"), rows) == present(1)
    assert read(Sum(ten_over_or_none, window="1s"), rows) == present(5)


def test_inputs_that_all_err_leave_an_empty_window():
    assert read(Sum(ten_over, window="1s"), [event(qty=0)]) == NONE


def test_a_default_replaces_none_and_counts_as_present():
    aggregate = Sum("qty", window="1s", default=7)
    assert read(aggregate, [event()], 2 * S) == present(7)
    assert read(aggregate, [event()], -1) == (bits(7), NOT_FOUND)


def test_a_default_takes_the_type_of_the_result():
    assert read(Sum("amount", window="1s", default=0), [event()], 2 * S) == present(0.0)
    assert read(Mean("qty", window="1s", default=0), [event()], 2 * S) == present(0.0)
    assert read(Sum("flag", window="1s", default=False), [event()], 2 * S) == present(0)


def test_a_default_never_absorbs_an_error():
    rows = [event(qty=2**63 - 1), event()]
    assert read(Sum("qty", window="1s", default=0), rows) == ERRED


# R3: transforms


def test_a_transform_reads_the_latest_row():
    assert read(ten_over, [event(0, qty=0), event(1, qty=3)], 1) == present(3)


@pytest.mark.parametrize("transform", [ten_over, one_or_two])
def test_a_division_by_zero_is_an_error_wherever_it_is_evaluated(transform):
    assert read(transform, [event(qty=0)]) == ERRED


def test_an_int_outside_int64_is_an_error():
    assert read(doubled, [event(qty=2**62 - 1)]) == present(2**63 - 2)
    assert read(doubled, [event(qty=2**62)]) == ERRED


def test_a_complex_result_is_an_error():
    assert read(root, [event(amount=-1.0)]) == ERRED


def test_inf_appears_where_python_returns_it():
    assert read(ten_times, [event(amount=1e308)]) == present(INF)
    assert read(one_over, [event(amount=0.0)]) == ERRED


@pytest.mark.parametrize("transform", [as_float, as_float_or_none])
def test_an_int_becomes_the_float_that_is_declared(transform):
    assert read(transform, [event(qty=2**53 + 1)]) == present(2.0**53)


def test_a_bool_becomes_the_int_that_is_declared():
    assert read(as_int, [event(flag=True)]) == present(1)


@pytest.mark.parametrize(
    ("qty", "expected"),
    [
        ((4, PRESENT), (2, PRESENT)),
        ((3, NOT_FOUND), (None, NULL_VALUE)),
        ((0, PRESENT), (None, ERROR)),
        ((None, ERROR), (None, ERROR)),
    ],
)
def test_a_request_time_transform_errs_with_its_inputs(qty, expected):
    assert request_value(ten_over_or_none, {"qty": qty, "other": (None, ERROR)}) == expected


def test_a_transform_that_reads_an_erring_feature_errs_though_it_takes_none():
    assert request_value(as_int, {"flag": (None, NULL_VALUE)}) == (0, PRESENT)
    assert request_value(as_int, {"flag": (None, ERROR)}) == (None, ERROR)


# bits


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, 1.0), (0.0, -0.0), ("1", 1), ("a", b"a"), (None, NAN), ([1], [1.0]),
     (dt.date(2024, 1, 1), dt.datetime(2024, 1, 1))],
)  # fmt: skip
def test_bits_tell_types_and_zeros_apart(one, other):
    assert bits(one) != bits(other)


def test_bits_hold_every_nan_for_one():
    assert bits(NAN) == bits(-NAN) == bits(INF - INF)


# A2


@pytest.mark.parametrize(
    ("aggregate", "type_"),
    [*EACH, (TimeSince(**W), INT), (TimeSince(**W, since="first"), INT)],
    ids=lambda x: shown(x) if isinstance(x, Aggregate) else str(x),
)
def test_every_aggregate_is_a_commutative_monoid(aggregate, type_):
    monoid = monoid_of(aggregate)

    @settings(max_examples=max(10, settings().max_examples // 4))
    @given(inputs(aggregate, type_), st.randoms(use_true_random=False), st.integers(1, 5))
    def check(values, shuffler, groups):
        expected = told(lambda: meaning(aggregate, values))
        pairs = list(enumerate(values))
        assert told(lambda: monoid.finish(monoid.of(pairs))) == expected
        shuffler.shuffle(pairs)
        states = [monoid.of(pairs[i::groups]) for i in range(groups)]
        states.append(monoid.empty)
        while len(states) > 1:
            shuffler.shuffle(states)
            states.append(monoid.merge(states.pop(), states.pop()))
        assert told(lambda: monoid.finish(states[0])) == expected

    check()


def meaning(aggregate: Aggregate, values: list[Any]) -> Any:
    """What the oracle says of inputs; of a TimeSince, of instants, as of 0."""
    if isinstance(aggregate, TimeSince):
        return _seconds(aggregate, values, 0)
    return _finish(aggregate, values)


def told(compute: Any) -> Any:
    try:
        return bits(compute())
    except Erred:
        return ERRED


# The strategies


@given(st.data())
def test_the_oracle_answers_all_awkward_data_whatever_its_order(data):
    views = [
        view(kind(column, window="1h", hop=hop, offset=offset))
        for kind in (Count, CountDistinct, Sum, Mean, Min, Max, Last)
        for column, hop, offset in [("amount", None, None), ("qty", "7s", "1h")]
    ]
    views += [view("name", ttl="1d"), view(ten_over), view(doubled)]
    rows = data.draw(events())
    t = data.draw(instants(rows, windows(*views)))
    key = data.draw(entity_keys(PAIR.join_keys, rows))
    for one in views:
        found, status = value(one, "feature", rows, key, t)
        again = value(one, "feature", rows[::-1], key, t)
        assert (bits(found), status) == (bits(again[0]), again[1])


def test_edges_hold_every_instant_at_which_a_value_can_change():
    at = edges([event(5, created=9)], [Window(100, hop_us=10, offset_us=40)])
    # Known at 9; in the window from 5 + 40 on, while floor((t - 140) / 10) * 10 < 5.
    assert {8, 9, 44, 45, 149, 150} <= set(at)


def test_a_transform_remains_callable():
    assert isinstance(ten_over, Transform)
    assert ten_over(5) == 2
