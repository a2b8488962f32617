"""S: what is read of files and pushes, whose keys are whose, the store's clock."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
import redis

from featurekit import Entity, EventSource, FeatureStore
from featurekit.errors import BadRowError, DefinitionError, EntityFrameError, SourceError
from featurekit.sources import read_events, read_rows
from rules.asking import NOON, NULL, One, S, ask, empty, instant, present, table, write_repo

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count

user = Entity("user", {"key": int})

def source(name, **options):
    schema = {"key": int | None, "n": int, "x": float | None, "name": str | None}
    return EventSource(name, path=f"{name}.parquet", schema=schema, timestamp_field="at",
                       created_timestamp_column="arrived", **options)

def service(name, of):
    row = FeatureView(f"{name}_row", entities=[user], source=of,
                      features={"n": "n", "x": "x", "name": "name"})
    window = FeatureView(f"{name}_window", entities=[user], source=of,
                         features={"rows": Count(window="1d"), "xs": Count("x", window="1d")})
    return FeatureService(name, features=[row, window])

strict = service("strict", source("events"))
lenient = service("lenient", source("kept", on_bad_row="quarantine"))
"""
TYPES = {"n": pa.int64(), "x": pa.float64(), "name": pa.string()}
TABLES = {"events": table(**TYPES), "kept": table(**TYPES)}
GOOD: dict[str, Any] = {"n": 1, "x": 1.0, "name": "a"}
NAN = float("nan")


# --- S1: values -----------------------------------------------------------------------------------


def test_nan_is_a_value_and_never_null(one: One) -> None:
    one.push("events", 0, **GOOD | {"x": NAN})
    found = one.ask("strict", 5)
    assert (found["x"], found["xs"]) == (present(NAN), present(1))


def test_null_is_no_value(one: One) -> None:
    one.push("events", 0, **GOOD | {"x": None})
    found = one.ask("strict", 5)
    assert (found["x"], found["rows"], found["xs"]) == (NULL, present(1), present(0))


def test_a_nan_of_pandas_in_an_optional_column_is_null(one: One) -> None:
    one.store.push("events", pd.DataFrame([one.event(0, **GOOD | {"x": NAN})]))
    assert one.ask("strict", 5)["x"] == NULL


def test_nanoseconds_are_floored(one: One) -> None:
    at = pd.Timestamp(NOON) + pd.Timedelta(nanoseconds=1999)
    one.store.push("events", pd.DataFrame([one.event(0, **GOOD) | {"at": at}]))
    assert one.ask("strict", 1)["rows"] == present(1)


BAD = {
    "a null in a column that has none": {"n": None},
    "an int outside int64": {"n": 2**63},
    "a value of another type": {"n": "1"},
    "a float for an int": {"n": 1.0},
    "a lone surrogate": {"name": "\ud800"},
}


@pytest.mark.parametrize("wrong", BAD.values(), ids=BAD)
def test_a_bad_row_is_an_error_that_names_its_column_and_itself(
    one: One, wrong: dict[str, Any]
) -> None:
    (column,) = wrong
    rows = [one.event(0, **GOOD), one.event(0, **GOOD | wrong)]
    with pytest.raises(BadRowError, match=rf"row 1 .*column '{column}'"):
        one.store.push("events", rows)
    assert one.ask("strict", 5)["rows"] == empty(0)


def offline(folder: Path, made: pa.Table, service: str = "strict") -> Any:
    """A training set of a store whose files hold `made`."""
    store = FeatureStore(write_repo(folder, MODULE, {**TABLES, "events": made, "kept": made}))
    frame = [{"key": 1, "event_timestamp": instant(5)}]
    return store.get_historical_features(frame, service)


def row(**columns: Any) -> dict[str, Any]:
    return {"key": 1, "at": NOON, "arrived": NOON, **GOOD, **columns}


def test_a_bad_row_of_a_file_is_an_error_that_names_its_column_and_itself(tmp_path: Path) -> None:
    made = table(row(), row(n=None), **TYPES)
    with pytest.raises(BadRowError, match=r"row 1 .*column 'n'"):
        offline(tmp_path / "repo", made).to_arrow()


def test_a_timestamp_that_no_datetime_holds_is_a_bad_row(tmp_path: Path) -> None:
    made = table(row(), **TYPES)
    far = pa.array([2**62], pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    with pytest.raises(BadRowError, match=r"row 0 .*column 'at'"):
        offline(tmp_path / "repo", made.set_column(1, "at", far)).to_arrow()


def test_a_bad_row_may_be_set_aside_and_is_counted_and_kept(one: One) -> None:
    rows = [one.event(0, **GOOD), one.event(0, **GOOD | {"n": None, "name": f"of {one.key}"})]
    pushed = one.store.push("kept", rows)
    assert (pushed.rows, pushed.quarantined) == (1, 1)
    assert one.ask("lenient", 5)["rows"] == present(1)
    files = (one.store.state_dir / "quarantine").glob("kept.pushed-*.jsonl")
    assert sum(f"of {one.key}" in file.read_text() for file in files) == 1


@pytest.mark.parametrize("made", [list, pa.Table.from_pylist])
def test_a_decimal_is_an_int_or_nothing(made: Any) -> None:
    def read(hint: type, text: str) -> list[Any]:
        of = EventSource("x", path="x.parquet", schema={"n": hint}, timestamp_field="at")
        rows = made([{"n": Decimal(text), "at": NOON}])
        found: list[Any] = read_rows(of, rows, state_dir=None).table["n"].to_pylist()
        return found

    assert read(int, "7.00") == [7]
    with pytest.raises(BadRowError, match="column 'n': a decimal that is no int"):
        read(int, "7.5")
    with pytest.raises(BadRowError, match="column 'n': an int outside 64 bits"):
        read(int, "1E+30")
    with pytest.raises((BadRowError, SourceError), match=r"column 'n': .*(float|rounds)"):
        read(float, "7.5")


def test_an_int_in_csv_may_have_been_written_as_a_float(tmp_path: Path) -> None:
    assert of_csv(tmp_path, "n,at\n17850.0,2024-01-01\n,2024-01-01\n") == ([(17850,), (None,)], 0)


def of_csv(folder: Path, text: str) -> tuple[list[Any], int]:
    """The rows of a CSV file, and how many were set aside."""
    (folder / "x.csv").write_text(text, encoding="utf-8")
    of = EventSource(
        "x",
        path="x.csv",
        schema={"n": int | None},
        timestamp_field="at",
        on_bad_row="quarantine",
    )
    with duckdb.connect() as con:
        read = read_events(con, of, base=folder, state_dir=folder / "state")
        found = con.execute(f"SELECT n FROM {read.relation}").fetchall()
    assert len(found) == read.rows
    return found, read.quarantined


# --- S2: keys -------------------------------------------------------------------------------------


def test_a_float_key_is_refused_at_definition() -> None:
    with pytest.raises(DefinitionError, match="never a float"):
        Entity("user", {"key": float})


@pytest.mark.parametrize("key", ["1", True, 1.0], ids=repr)
def test_a_key_of_another_type_never_meets_an_int(store: FeatureStore, key: Any) -> None:
    with pytest.raises(EntityFrameError, match="key"):
        store.get_online_features("strict", [{"key": key}])
    frame = [{"key": key, "event_timestamp": NOON}]
    with pytest.raises(EntityFrameError, match="key"):
        store.get_historical_features(frame, "strict").to_arrow()


def test_an_event_without_a_key_belongs_to_no_entity_and_is_counted(store: FeatureStore) -> None:
    keyless = {"key": None, "at": NOON, "arrived": NOON, **GOOD}
    assert store.push("events", [keyless]).null_keys == 2  # once for each of two views
    found = ask(store, "strict", {"key": None}, instant(5))
    assert (found["n"], found["rows"]) == (empty(None), empty(0))


def test_a_frame_without_a_key_column_is_an_error(store: FeatureStore) -> None:
    with pytest.raises(EntityFrameError, match="key"):
        store.get_historical_features([{"event_timestamp": NOON}], "strict").to_arrow()


def test_a_null_key_keeps_its_row(one: One) -> None:
    one.push("events", 0, **GOOD)
    frame = [{"key": key, "event_timestamp": instant(5)} for key in (None, one.key)]
    found = one.store.get_historical_features(frame, "strict", statuses=True).to_arrow()
    assert found["n"].to_pylist() == [None, 1]
    assert found["n__status"].to_pylist() == ["NOT_FOUND", "PRESENT"]


# --- S3: the clock --------------------------------------------------------------------------------


def test_the_clock_that_stamps_a_push_is_that_of_the_store(one: One, rules_url: str) -> None:
    def clock() -> dt.datetime:
        seconds, micros = server.time()
        return dt.datetime.fromtimestamp(seconds, dt.UTC) + dt.timedelta(microseconds=micros)

    rows = one.event(0, **GOOD)
    del rows["arrived"]
    with redis.Redis.from_url(rules_url) as server:
        before = clock() - dt.timedelta(microseconds=1)
        one.store.push("events", [rows])
        after = clock()
    frame = [{"key": one.key, "event_timestamp": t} for t in (before, after)]
    found = one.store.get_historical_features(frame, "strict").to_arrow()
    assert found["n"].to_pylist() == [None, 1]


def test_a_row_that_arrives_after_the_run_has_not_yet_arrived(one: One) -> None:
    one.push("events", 0, **GOOD)
    one.push("events", 1, arrived=9 * S, **GOOD | {"n": 2})
    frame = [{"key": one.key, "event_timestamp": instant(20 * S)}]
    known, later = (
        one.store.get_historical_features(frame, "strict", known_at=instant(t)).to_arrow()
        for t in (5 * S, 9 * S)
    )
    assert (known["n"].to_pylist(), later["n"].to_pylist()) == ([1], [2])


# --- S4: columns and counts -----------------------------------------------------------------------


def test_a_column_of_another_case_is_another_column(tmp_path: Path) -> None:
    made = table(row(), **TYPES)
    other = made.rename_columns(["N" if name == "n" else name for name in made.column_names])
    with pytest.raises(SourceError, match="no column 'n'; did you mean 'N'"):
        offline(tmp_path / "repo", other).to_arrow()


def test_rows_read_and_rows_set_aside_are_the_rows_that_are_there(tmp_path: Path) -> None:
    made = table(row(), row(n=None), row(n=None), **TYPES)
    sources = offline(tmp_path / "repo", made, "lenient").manifest["sources"]
    assert (sources["kept"]["rows"], sources["kept"]["quarantined"]) == (1, 2)


def test_columns_that_differ_in_case_alone_are_told_apart(tmp_path: Path) -> None:
    wrong = {"N": pa.array([8]), "Key": pa.array([9])}
    made = table(row(), **TYPES)
    made = pa.table({**wrong, **{name: made[name] for name in made.column_names}})
    assert offline(tmp_path / "repo", made).to_arrow()["n"].to_pylist() == [1]


def test_a_broken_line_of_csv_takes_no_neighbour_with_it(tmp_path: Path) -> None:
    text = 'n,at,v\n1,2024-01-01,"6" pipe"\n2,2024-01-01,x\n3,2024-01-01,y\n'
    assert of_csv(tmp_path, text) == ([(2,), (3,)], 1)


def test_a_verdict_is_kept_by_the_content_of_the_file(tmp_path: Path) -> None:
    assert of_csv(tmp_path, "n,at\n1,2024-01-01\nx,2024-01-01\n") == ([(1,)], 1)
    found = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "state" / "verdicts").iterdir()}
    assert of_csv(tmp_path, "n,at\n1,2024-01-01\nx,2024-01-01\n") == ([(1,)], 1)
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "state" / "verdicts").iterdir()}
    assert kept == found
    assert of_csv(tmp_path, "n,at\n2,2024-01-01\nx,2024-01-01\n") == ([(2,)], 1)
