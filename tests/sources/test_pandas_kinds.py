"""Every kind of column that pandas has is read with its values, or refused by its name: as a
source's frame, a push, a label and a row of a lookup."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import EventSource
from featurekit.core import tables
from featurekit.core.types import from_hint
from featurekit.errors import FeaturekitError
from featurekit.offline.frame import load_frame
from featurekit.online.lookup.rows import given, typed_column
from featurekit.parity.compare import bits
from featurekit.sources import read_events
from featurekit.sources.rows import read_rows

UTC = dt.UTC
AT = [dt.datetime(2026, 1, 1, tzinfo=UTC)] * 2
DAYS = pd.to_datetime(["2026-01-01", "2026-01-02"], utc=True)
INSTANTS = [dt.datetime(2026, 1, 1, tzinfo=UTC), dt.datetime(2026, 1, 2, tzinfo=UTC)]
HOURS = pd.to_timedelta([1, 2], "h")
SPANS = [dt.timedelta(hours=1), dt.timedelta(hours=2)]
NAN = float("nan")
DAY = dt.date(2026, 1, 1)
PERIODS = pd.period_range("2026-01-01", periods=2, freq="D")
INTERVALS = pd.interval_range(0, 2)
BOOL8 = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))


def sparse(values: Any) -> Any:
    return pd.Series(pd.arrays.SparseArray(values))


def of(values: Any, dtype: Any) -> Any:
    return pd.Series(values, dtype=dtype)


CARRIED: dict[str, tuple[Any, Any, list[Any]]] = {
    "Sparse int": (sparse([0, 5]), int, [0, 5]),
    "Sparse float": (sparse([1.5, np.nan]), float | None, [1.5, None]),
    "Sparse NaN": (sparse([-0.0, np.nan]), float, [-0.0, NAN]),
    "Sparse bool": (sparse([True, False]), bool, [True, False]),
    "Sparse instants": (sparse(DAYS.tz_localize(None)), dt.datetime, INSTANTS),
    "Categorical str": (of(["a", None], "category"), str | None, ["a", None]),
    "Categorical int": (of([7, 9], "category"), int, [7, 9]),
    "Categorical float": (of([1.5, np.nan], "category"), float | None, [1.5, None]),
    "Categorical bool": (of([True, False], "category"), bool, [True, False]),
    "Categorical instants": (pd.Series(DAYS).astype("category"), dt.datetime, INSTANTS),
    "Categorical spans": (pd.Series(HOURS).astype("category"), dt.timedelta, SPANS),
    "Int64": (of([2**63 - 1, None], "Int64"), int | None, [2**63 - 1, None]),
    "Int8": (of([-1, None], "Int8"), int | None, [-1, None]),
    "UInt64": (of([1, None], "UInt64"), int | None, [1, None]),
    "Int64 as float": (of([1, 2], "Int64"), float, [1.0, 2.0]),
    "Float64": (of([-0.0, None], "Float64"), float | None, [-0.0, None]),
    "boolean": (of([True, None], "boolean"), bool | None, [True, None]),
    "string": (of(["a", None], "string"), str | None, ["a", None]),
    "timedelta": (pd.Series(HOURS), dt.timedelta, SPANS),
    "timedelta of seconds": (pd.Series(HOURS).astype("timedelta64[s]"), dt.timedelta, SPANS),
    "instants": (pd.Series(DAYS), dt.datetime, INSTANTS),
    "instants of seconds": (pd.Series(DAYS).dt.as_unit("s"), dt.datetime, INSTANTS),
    "Arrow instants": (
        pd.Series(DAYS).astype(pd.ArrowDtype(pa.timestamp("ns", "UTC"))), dt.datetime, INSTANTS
    ),
    "Arrow list": (of([[1], [2]], pd.ArrowDtype(pa.list_(pa.int64()))), list[int], [[1], [2]]),
    "Arrow dictionary": (
        of(["a", "b"], pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))), str, ["a", "b"]
    ),
    "Arrow date": (
        of([DAY, DAY], pd.ArrowDtype(pa.date32())), dt.date, [DAY, DAY]
    ),
    "Arrow bool8": (BOOL8, bool, [True, False]),
}  # fmt: skip
_PERIOD, _INTERVAL = "PERIOD OF PANDAS", "INTERVAL OF PANDAS"
REFUSED: dict[str, tuple[Any, Any, str]] = {
    **{
        f"Period as {name}": (pd.Series(PERIODS), type_, _PERIOD)
        for name, type_ in {"int": int, "float": float, "datetime": dt.datetime, "str": str,
                            "date": dt.date}.items()
    },
    "Period of months": (pd.Series(PERIODS.asfreq("M")), int, _PERIOD),
    "Period of Arrow": (pa.Array.from_pandas(pd.Series(PERIODS)), int, _PERIOD),
    "Categorical of Period": (pd.Series(PERIODS).astype("category"), int, _PERIOD),
    "Interval as int": (pd.Series(INTERVALS), int, _INTERVAL),
    "Interval as str": (pd.Series(INTERVALS), str, _INTERVAL),
    "cut": (pd.cut(pd.Series([1, 5]), 2), str, _INTERVAL),
    "timedelta as int": (pd.Series(HOURS), int, "expected int|declared int"),
    "instants as int": (pd.Series(DAYS), int, "expected int|declared int"),
    "UInt64 beyond int64": (of([1, 2**64 - 1], "UInt64"), int, "64"),
    "Arrow decimal": (
        of([decimal.Decimal("1.5")] * 2, pd.ArrowDtype(pa.decimal128(5, 2))), float, "float"
    ),
    "bool8 as int": (BOOL8, int, "expected int|declared int"),
    "complex": (pd.Series([1j, 2j]), float, "'x'"),
}  # fmt: skip


def frame(column: Any, **others: Any) -> Any:
    if isinstance(column, pa.Array):
        return pa.table({"x": column, **{name: pa.array(v) for name, v in others.items()}})
    return pd.DataFrame({"x": column, **others})


def connected() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'").fetchall()
    return con


def as_source(column: Any, type_: Any) -> list[Any]:
    made = EventSource(
        "events", frame=frame(column, k=[1, 2], at=AT), schema={"k": int, "x": type_},
        timestamp_field="at",
    )  # fmt: skip
    return in_source(made)


def in_source(made: EventSource) -> list[Any]:
    with connected() as con:
        relation = read_events(con, made, base=Path(), state_dir=None).relation
        found = tables.rows(con, relation, dict(made.schema))
    return [row["x"] for row in sorted(found, key=lambda row: row["k"])]


def as_push(column: Any, type_: Any) -> list[Any]:
    made = EventSource(
        "events", path="x.parquet", schema={"k": int, "x": type_}, timestamp_field="at"
    )
    rows = read_rows(made, frame(column, k=[1, 2], at=AT), state_dir=None).pushed
    return [row["x"] for row in rows]


def as_label(column: Any, type_: Any) -> list[Any]:
    wanted = {"x": from_hint(type_)}
    with connected() as con:
        read = load_frame(con, frame(column, event_timestamp=AT), join_keys={}, request=wanted)
        relation = f"(SELECT x FROM {read.table} ORDER BY __rid)"
        return [row["x"] for row in tables.rows(con, relation, wanted)]


def as_label_column(column: Any, type_: Any) -> list[Any]:
    wanted = {"x": from_hint(type_)}
    columns = {"x": column, "event_timestamp": AT}
    with connected() as con:
        read = load_frame(con, columns, join_keys={}, request=wanted)
        relation = f"(SELECT x FROM {read.table} ORDER BY __rid)"
        return [row["x"] for row in tables.rows(con, relation, wanted)]


def as_lookup(column: Any, type_: Any) -> list[Any]:
    return typed_column(_given(frame(column)), "x", from_hint(type_))


def as_lookup_column(column: Any, type_: Any) -> list[Any]:
    return typed_column(_given({"x": column}), "x", from_hint(type_))


def _given(rows: Any) -> Any:
    return given(rows)


WAYS: tuple[Callable[[Any, Any], list[Any]], ...] = (
    as_source, as_push, as_label, as_label_column, as_lookup, as_lookup_column,
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", CARRIED)
def test_a_kind_that_pandas_has_is_read_with_its_values(kind: str, way: Any) -> None:
    column, type_, expected = CARRIED[kind]
    assert [bits(value) for value in way(column, type_)] == [bits(value) for value in expected]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", REFUSED)
def test_a_kind_that_has_no_such_value_is_refused_by_its_name(kind: str, way: Any) -> None:
    column, type_, said = REFUSED[kind]
    with pytest.raises(FeaturekitError, match=said) as caught:
        way(column, type_)
    assert "'x'" in str(caught.value)
    if said == _PERIOD:
        assert ".dt.to_timestamp()" in str(caught.value)


@pytest.mark.parametrize("way", [as_source, as_push], ids=lambda way: way.__name__)
def test_a_period_in_the_place_of_the_timestamp_is_told_what_to_write(way: Any) -> None:
    data = pd.DataFrame({"x": [1, 2], "at": PERIODS})
    options: dict[str, Any] = {"schema": {"x": int}, "timestamp_field": "at"}
    if way is as_source:
        read: Any = lambda: in_source(EventSource("events", frame=data, **options))  # noqa: E731
    else:
        made = EventSource("events", path="x.parquet", **options)
        read = lambda: read_rows(made, data, state_dir=None)  # noqa: E731
    with pytest.raises(FeaturekitError, match=r"'at'.*PERIOD.*to_timestamp") as caught:
        read()
    assert "epoch_s" not in str(caught.value)


def test_a_period_in_the_place_of_a_labels_instant_is_told_what_to_write() -> None:
    data = pd.DataFrame({"k": [1, 2], "event_timestamp": PERIODS})
    with connected() as con, pytest.raises(FeaturekitError, match=r"PERIOD.*to_timestamp"):
        load_frame(con, data, join_keys={"k": from_hint(int)}, request={})


@pytest.mark.parametrize("column", [pd.Series(PERIODS), pd.cut(pd.Series([1, 5]), 2)])
def test_no_training_set_carries_what_says_nothing_without_pandas(column: Any) -> None:
    data = pd.DataFrame({"k": [1, 2], "event_timestamp": AT, "own": column})
    with connected() as con, pytest.raises(FeaturekitError, match=r"'own' is P?I?.*OF PANDAS"):
        load_frame(con, data, join_keys={"k": from_hint(int)}, request={})


def test_a_period_in_a_parquet_file_is_no_int(tmp_path: Path) -> None:
    data = pd.DataFrame({"k": [1, 2], "x": PERIODS, "at": AT})
    pq.write_table(pa.Table.from_pandas(data), tmp_path / "x.parquet")
    made = EventSource(
        "events", path=str(tmp_path / "x.parquet"), schema={"k": int, "x": int},
        timestamp_field="at",
    )  # fmt: skip
    with pytest.raises(FeaturekitError, match=r"'x'.*PERIOD OF PANDAS.*to_timestamp"):
        in_source(made)
