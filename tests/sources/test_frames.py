"""A source may be a frame: its rows are read as those of a Parquet file, and stay as they were."""

from __future__ import annotations

import datetime as dt
import decimal
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, Vector
from featurekit.aggregates import Count, Last, LastN, Sum, ValueCounts
from featurekit.core import tables
from featurekit.core.arrays import array_of
from featurekit.core.types import INT, STR, from_hint
from featurekit.errors import BadRowError, DefinitionError, FeaturekitError, SourceError
from featurekit.feed.forget import FileRows
from featurekit.offline.frame import load_frame
from featurekit.parity.compare import bits
from featurekit.sources import read_events
from featurekit.sources.rows import as_pushed, read_rows

UTC = dt.UTC
AT = dt.datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
NAN = float("nan")
LEAST = dt.timedelta(microseconds=1 - 2**63)  # for pandas, one less is missing


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'").fetchall()
        yield connection


def source(**options: Any) -> EventSource:
    return EventSource("events", timestamp_field="at", **options)


def read(con: duckdb.DuckDBPyConnection, made: EventSource, state: Path | None = None) -> list[Any]:
    relation = read_events(con, made, base=Path(), state_dir=state).relation
    return tables.rows(con, relation, {**made.schema, "__ts": INT, "__created": INT})


SCHEMA: dict[str, Any] = {
    "k": int, "f": float, "of": float | None, "oi": int | None, "s": str | None, "b": bool,
    "raw": bytes, "d": dt.date, "span": dt.timedelta | None,
    "when": dt.datetime, "items": list[int], "spans": list[dt.timedelta], "v": Vector[2],
}  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {
        "k": 1, "f": NAN, "of": None, "oi": None, "s": "a'\"\n", "b": True, "raw": b"\0\xff",
        "d": dt.date(1, 1, 1), "span": LEAST, "when": AT, "items": [],
        "spans": [dt.timedelta(1), LEAST], "v": [0.5, -0.0], "at": AT,
    },
    {
        "k": 2**63 - 1, "f": -0.0, "of": 1e300, "oi": -(2**63), "s": None, "b": False, "raw": b"",
        "d": dt.date(9999, 12, 31), "span": None, "when": AT, "items": [1, 2],
        "spans": [], "v": [1.0, float("inf")], "at": AT - dt.timedelta(microseconds=1),
    },
]  # fmt: skip


def arrow() -> pa.Table:
    declared = source(path="x.parquet", schema=SCHEMA)
    types = {n: t.arrow for n, t in declared.schema.items()} | {"at": pa.timestamp("us", "UTC")}
    return pa.table({n: array_of([r[n] for r in ROWS], t) for n, t in types.items()})


FRAMES: dict[str, Any] = {
    "arrow": arrow,
    "batch": lambda: arrow().combine_chunks().to_batches()[0],
    "reader": lambda: arrow().to_reader(max_chunksize=1),
    "polars": lambda: pl.from_arrow(arrow()),
    "lazy": lambda: pl.from_arrow(arrow()).lazy(),
    "objects of pandas": lambda: pd.DataFrame(
        {
            name: pd.Series([row[name] for row in ROWS], dtype=object)
            for name in arrow().column_names
        }
    ),
    "nullable pandas": lambda: arrow().to_pandas(types_mapper=pd.ArrowDtype),
    "relation": lambda: duckdb.connect().from_arrow(arrow().drop_columns(["span", "spans"])),
}


def test_sources_are_equal_where_kind_and_data_of_their_frames_are() -> None:
    """As those of a notebook's cell that is run twice; an edited frame is another source."""
    data = {"k": [1, 2], "at": [AT, AT]}
    one = source(frame=pl.DataFrame(data), schema={"k": int})
    assert one == source(frame=pl.DataFrame(data), schema={"k": int})
    assert one != source(frame=pl.DataFrame(data | {"k": [1, 3]}), schema={"k": int})
    assert one != source(frame=pd.DataFrame(data), schema={"k": int})


@pytest.mark.parametrize("make", FRAMES.values(), ids=list(FRAMES))
def test_a_frame_is_read_as_a_push_of_its_rows(con: duckdb.DuckDBPyConnection, make: Any) -> None:
    frame = make()
    relation = isinstance(frame, duckdb.DuckDBPyRelation)  # DuckDB's durations are intervals
    schema = {n: t for n, t in SCHEMA.items() if not relation or "span" not in n}
    made = source(frame=frame, schema=schema)
    pushed = as_pushed(made, [{n: r[n] for n in (*schema, "at")} for r in ROWS])
    for row in pushed:
        row["__created"] = row["__ts"]
    assert bits(read(con, made)) == bits(pushed)


UNITS = ["s", "ms", "us", "ns"]
LIBRARIES = ["arrow", "polars", "pandas"]


@pytest.mark.parametrize(
    ("library", "unit"),
    [(one, unit) for one in LIBRARIES for unit in UNITS if (one, unit) != ("polars", "s")],
)
def test_every_unit_of_an_instant_and_a_duration_is_read(
    con: duckdb.DuckDBPyConnection, library: str, unit: str
) -> None:
    table = pa.table(
        {
            "at": pa.array([-1, 1_700_000_000], pa.timestamp(unit)),
            "span": pa.array([-1, 3], pa.duration(unit)),
        }
    )
    frame: Any = table
    if library == "polars":
        frame = pl.from_arrow(table)
    if library == "pandas":
        frame = table.to_pandas()
    made = source(frame=frame, schema={"span": dt.timedelta}, timezone="Europe/Berlin")
    ns = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    hour = 3_600_000_000
    assert [(r["span"] // dt.timedelta(microseconds=1), r["__ts"]) for r in read(con, made)] == [
        (-ns // 1000, -ns // 1000 - hour),
        (3 * ns // 1000, 1_700_000_000 * ns // 1000 - hour),
    ]


def test_a_float_of_pandas_is_null_where_the_column_is_optional_or_an_int(
    con: duckdb.DuckDBPyConnection,
) -> None:
    frame = pd.DataFrame({"i": [1.0, NAN], "of": [NAN, 2.0], "f": [NAN, 3.0], "at": [AT] * 2})
    made = source(frame=frame, schema={"i": int | None, "of": float | None, "f": float})
    found = [(r["i"], r["of"], r["f"]) for r in read(con, made)]
    assert bits(found) == bits([(1, None, NAN), (None, 2.0, 3.0)])


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", "b"], dtype="category"),
        pd.Series(["a", "b"], dtype="string"),
        pd.Series(["a", "b"], dtype=pd.ArrowDtype(pa.large_string())),
        pl.Series(["a", "b"], dtype=pl.Categorical),
        pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"])),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array(["a", "b"], pa.string_view()),
    ],
    ids=str,
)
def test_texts_of_every_kind_are_texts(con: duckdb.DuckDBPyConnection, column: Any) -> None:
    makers = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    made = makers[type(column).__module__.split(".")[0]]({"s": column, "at": [AT, AT]})
    declared = source(frame=made, schema={"s": str})
    assert [r["s"] for r in read(con, declared)] == ["a", "b"]
    assert [r["s"] for r in as_pushed(declared, made)] == ["a", "b"]
    asked = load_frame(con, made.rename(columns={"at": "event_timestamp"}) if isinstance(
        made, pd.DataFrame) else pa.table(made).rename_columns(["s", "event_timestamp"]),
        join_keys={"s": STR}, request={})  # fmt: skip
    assert con.execute(f"SELECT s FROM {asked.table} ORDER BY __rid").fetchall() == [("a",), ("b",)]


def test_a_column_of_nulls_alone_is_read(con: duckdb.DuckDBPyConnection) -> None:
    for frame in (
        pa.table({"s": pa.nulls(2), "n": pa.nulls(2), "at": [AT, AT]}),
        pl.DataFrame({"s": [None, None], "n": [None, None], "at": [AT, AT]}),
        pd.DataFrame({"s": [None, None], "n": [NAN, NAN], "at": [AT, AT]}),
    ):
        made = source(frame=frame, schema={"s": str | None, "n": int | None})
        assert [(r["s"], r["n"]) for r in read(con, made)] == [(None, None)] * 2


def test_a_frame_without_rows_is_a_source_without_events(con: duckdb.DuckDBPyConnection) -> None:
    table = arrow().slice(0, 0)
    for frame in (table, pl.from_arrow(table), table.to_pandas()):
        assert read(con, source(frame=frame, schema=SCHEMA)) == []


@pytest.mark.parametrize("library", ["arrow", "polars", "pandas"])
def test_a_row_that_does_not_fit_is_named_or_set_aside(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, library: str
) -> None:
    table = pa.table({"n": [1, None, 3], "at": [AT] * 3})
    frames = {"arrow": table, "polars": pl.from_arrow(table), "pandas": table.to_pandas()}
    frame, schema = frames[library], {"n": int}
    with pytest.raises(BadRowError, match=r"'events', its frame, row 1 .*'n': null"):
        read(con, source(frame=frame, schema=schema))
    made = source(frame=frame, schema=schema, on_bad_row="quarantine")
    checked = read_events(con, made, base=Path(), state_dir=tmp_path)
    assert (checked.rows, checked.quarantined) == (2, 1)
    kept = pq.read_table(tmp_path / "quarantine" / "events.parquet").to_pylist()
    assert [row["n"] for row in kept] == [None]


def test_an_object_that_no_column_holds_is_named(con: duckdb.DuckDBPyConnection) -> None:
    frame = pd.DataFrame({"n": [1, "two", 3], "at": [AT] * 3})
    for how in ("error", "quarantine"):
        with pytest.raises(BadRowError, match=r"'events', its frame, row 1.*'two'"):
            read(con, source(frame=frame, schema={"n": int}, on_bad_row=how))


def test_a_column_of_another_type_says_so(con: duckdb.DuckDBPyConnection) -> None:
    table = pa.table({"n": ["a"], "at": [AT]})
    with pytest.raises(SourceError, match="'events', its frame, column 'n': declared int, the f"):
        read(con, source(frame=table, schema={"n": int}))


HALVES = pa.array([np.float16(1), np.float16(2)])
SPARSE = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), HALVES])
DENSE = pa.UnionArray.from_dense(
    pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([1]), pa.array(["a"])]
)
RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array([1.5]))
PAIRS = pa.FixedSizeListArray.from_arrays(pa.array([np.float16(0.5)] * 4), 2)


def ways_in(made: dict[str, Any], schema: dict[str, Any]) -> list[Any]:
    """How the columns of a table come in: as a source's frame, as a push, as an entity frame."""
    table = pa.table({"k": [1, 2], **made, "at": pa.array([AT] * 2)})
    declared = {"k": int, **schema}

    def framed() -> Any:
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'").fetchall()
            return [r["v"] for r in read(con, source(frame=table, schema=declared))]

    def pushed() -> Any:
        taken = read_rows(source(path="x.csv", schema=declared), table, state_dir=None)
        return [r["v"] for r in taken.pushed]

    def asked() -> Any:
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'").fetchall()
            types = {name: from_hint(hint) for name, hint in schema.items()}
            frame = table.rename_columns([*table.column_names[:-1], "event_timestamp"])
            loaded = load_frame(con, frame, join_keys={"k": INT}, request=types)
            return [r["v"] for r in tables.rows(con, loaded.table, types)]

    return [framed, pushed, asked]


@pytest.mark.parametrize(
    "column",
    [SPARSE, DENSE, pa.StructArray.from_arrays([HALVES], ["a"]), PAIRS,
     pa.StructArray.from_arrays([RUNS], ["a"]), pa.ListArray.from_arrays([0, 1, 2], DENSE),
     pa.MapArray.from_arrays([0, 1, 2], pa.array(["a", "b"]), HALVES),
     pa.ListViewArray.from_arrays([0, 1], [1, 1], HALVES),
     pa.array([None, None], pa.month_day_nano_interval())],
    ids=lambda column: str(column.type),
)  # fmt: skip
def test_a_type_that_duckdb_or_parquet_lacks_is_refused_by_name(column: Any) -> None:
    for way in ways_in({"v": column}, {"v": float | None}):
        with pytest.raises(
            FeaturekitError,
            match=r"column 'v'(: declared|: expected| holds values of several types)",
        ):
            way()


@pytest.mark.parametrize(
    ("column", "hint", "values"),
    [(RUNS, float, [1.5, 1.5]), (HALVES, float, [1.0, 2.0]), (PAIRS, Vector[2], [[0.5, 0.5]] * 2)],
    ids=["run ends", "half floats", "vectors of half floats"],
)
def test_a_form_that_duckdb_lacks_is_read_by_its_values(
    column: Any, hint: Any, values: list[Any]
) -> None:
    assert [way() for way in ways_in({"v": column}, {"v": hint})] == [values] * 3


ZONED = pa.array([AT] * 2).cast(pa.timestamp("us", "?v?"))
FIELDS = pa.array([{"?v?": 1}, {"?v?": 2}])
WORDS = pa.array(["a", "b"])


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("?v?", [1.0, 2.0], "a column's name is not UTF-8"),
        ("z", ZONED, "the type of column 'z' has a name that is not UTF-8"),
        ("f", FIELDS, "the type of column 'f' has a name that is not UTF-8"),
        ("l", pa.ListArray.from_arrays([0, 1, 2], FIELDS), "the type of column 'l' has a name"),
        ("d", pa.DictionaryArray.from_arrays([0, 1], ZONED), "the type of column 'd' has a name"),
        (
            "m",
            pa.MapArray.from_arrays([0, 1, 2], WORDS, ZONED),
            "the type of column 'm' has a name",
        ),
    ],
    ids=["column", "zone", "field", "field in a list", "zone of a dictionary", "zone in a map"],
)
def test_a_name_that_is_no_text_is_refused(name: str, values: Any, said: str) -> None:
    table = pa.table({"k": [1, 2], name: values, "at": pa.array([AT] * 2)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    mangled = pa.ipc.open_stream(sink.getvalue().to_pybytes().replace(b"?v?", b"\xffv\xff"))
    table = mangled.read_all()
    for make in (
        lambda: source(frame=table, schema={"k": int}),
        lambda: read_rows(source(path="x.csv", schema={"k": int}), table, state_dir=None),
        lambda: load_frame(duckdb.connect(), table, join_keys={"k": INT}, request={}),
    ):
        with pytest.raises(FeaturekitError, match=said):
            make()


def test_a_decimal_is_read_as_from_a_file(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    table = pa.table({"n": [decimal.Decimal("1.10")], "at": [AT]})
    pq.write_table(table, tmp_path / "n.parquet")
    said = []
    for options in ({"frame": table}, {"path": str(tmp_path / "n.parquet")}):
        with pytest.raises(SourceError) as error:
            read(con, source(schema={"n": float}, **options))
        said.append(str(error.value).replace(str(tmp_path / "n.parquet"), "its frame"))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"frame": {"n": [1]}}, "frame: dict is no frame; give a pandas or polars frame, an Arrow"),
        ({"frame": pa.table({"m": [1], "at": [AT]})}, "its frame has no column 'n'; it has m, at"),
        ({"frame": pa.table({"nn": [1], "at": [AT]})}, "no column 'n'; did you mean 'nn'"),
        ({"frame": pd.DataFrame({"n": [1]})}, "its frame has no column 'at'; it has n"),
        ({"frame": pa.table({"n": [1], "at": [AT]}), "path": "x.csv"}, "write frame= alone, or p"),
        ({"frame": pa.table({"n": [1], "at": [AT]}), "format": "csv"}, "write frame= alone, or p"),
        ({"frame": pa.table([[1], [2]], ["n", "n"])}, "two columns are named 'n'"),
        ({"frame": pl.DataFrame({"n": [1]}).lazy().select("x")}, "LazyFrame cannot be collected"),
        ({}, "write path=, the path of its files, or frame=, a frame of its events, or origin="),
    ],
)  # fmt: skip
def test_what_is_no_frame_of_the_schema_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=f"EventSource 'events': .*{said}"):
        source(schema={"n": int}, **options)


def test_what_is_done_to_the_frame_later_changes_no_event(con: duckdb.DuckDBPyConnection) -> None:
    values = np.array([1.0, 2.0])
    frames = [
        pd.DataFrame({"f": values, "at": [AT] * 2}, copy=False),
        pl.DataFrame({"f": values, "at": [AT] * 2}),
        pa.table({"f": pa.array(values), "at": [AT] * 2}),
    ]
    made = [source(frame=frame, schema={"f": float}) for frame in frames]
    values[0] = 7.0
    frames[0].isetitem(0, [9.0, 9.0])
    assert [[r["f"] for r in read(con, one)] for one in made] == [[1.0, 2.0]] * 3


def test_a_file_that_was_cleaned_away_is_written_again(con: duckdb.DuckDBPyConnection) -> None:
    made = source(frame=pa.table({"f": [1.0], "at": [AT]}), schema={"f": float})
    (file,) = read_events(con, made, base=Path(), state_dir=None).files
    Path(file.path).unlink()
    Path(file.path).parent.rmdir()
    assert [r["f"] for r in read(con, made)] == [1.0]


def test_the_file_goes_with_its_source(con: duckdb.DuckDBPyConnection) -> None:
    made = source(frame=pa.table({"f": [1.0], "at": [AT]}), schema={"f": float})
    (file,) = read_events(con, made, base=Path(), state_dir=None).files
    assert (
        Path(file.path).stat().st_mode & 0o077 == 0
        or Path(file.path).parent.stat().st_mode & 0o077 == 0
    )
    del made
    assert not Path(file.path).parent.exists()


# --- in a store -----------------------------------------------------------------------------------

customer = Entity("customer", {"k": int})


def service(frame: Any) -> FeatureService:
    events = source(frame=frame, schema={"k": int, "f": float})
    features = {"n": Count(window="1d"), "x": Sum("f", window="1d"), "last": Last("f", window="1d")}
    view = FeatureView("view", entities=[customer], source=events, features=features)
    return FeatureService("service", features=[view])


FRAME = pa.table({"k": [1, 1, 2], "f": [0.1, 0.2, 0.3], "at": [AT] * 3})
LABELS = [{"k": k, "event_timestamp": AT + dt.timedelta(hours=1)} for k in (1, 2, 3)]


def test_a_frame_goes_all_the_ways_that_files_go() -> None:
    with FeatureStore(definitions=[service(FRAME)]) as store:
        store.apply()
        assert store.materialize(AT + dt.timedelta(hours=1)).views[0].events == 3
        store.push("events", {"k": 3, "f": 9.0, "at": AT})
        trained = store.get_historical_features(LABELS, "service").to_pylist()
        online = store.get_online_features(
            "service", [{"k": k} for k in (1, 2)], AT + dt.timedelta(hours=1)
        ).to_pylist()
        assert [{n: row[n] for n in ("k", "n", "x", "last")} for row in trained[:2]] == online
        assert online[0]["x"] == 0.1 + 0.2
        report = store.check_parity("service", budget=500)
        assert report.ok, report
        forgot = store.forget("customer", {"k": 1})
        assert forgot.files == (FileRows("the frame of events", 2, rewritten=False),)
        with pytest.raises(SourceError, match="its frame"):
            store.forget("customer", {"k": 2}, rewrite_files=True)
        after = store.get_historical_features(LABELS, "service").to_pylist()
        assert [row["n"] for row in after] == [0, 1, 0]


def test_a_manifest_has_the_hash_of_the_frame() -> None:
    found = []
    for frame in (FRAME, FRAME, FRAME.set_column(1, "f", pa.array([0.1, 0.2, 0.4]))):
        with FeatureStore(definitions=[service(frame)]) as store:
            manifest = store.get_historical_features(LABELS, "service").manifest
            found.append((manifest["sources"]["events"]["files"], manifest["content_hash"]))
    assert found[0] == found[1] != found[2]
    assert [*found[0][0][0]] == ["frame", "bytes"]


def _dates() -> dict[str, Any]:
    days = [dt.date(2026, 1, 1), dt.date(2026, 7, 1)]
    return {
        "objects of pandas": pd.DataFrame({"k": [1, 2], "at": pd.Series(days, dtype=object)}),
        "pandas over arrow": pd.DataFrame({"k": [1, 2], "at": pd.array(days, "date32[pyarrow]")}),
        "polars": pl.DataFrame({"k": [1, 2], "at": days}),
        "arrow": pa.table({"k": [1, 2], "at": days}),
        "arrow date64": pa.table({"k": [1, 2], "at": pa.array(days, pa.date64())}),
    }


@pytest.mark.parametrize("arrival", [False, True])
@pytest.mark.parametrize("name", _dates())
def test_a_date_of_any_frame_is_the_midnight_that_begins_it(
    con: duckdb.DuckDBPyConnection, name: str, arrival: bool
) -> None:
    frame = _dates()[name]
    options: dict[str, Any] = {"created_timestamp_column": "at"} if arrival else {}
    made = source(frame=frame, schema={"k": int}, timezone="Europe/London", **options)
    days = [dt.datetime(2026, 1, 1, tzinfo=UTC), dt.datetime(2026, 6, 30, 23, tzinfo=UTC)]
    found = sorted((row["k"], row["__ts"], row["__created"]) for row in read(con, made))
    expected = [int(day.timestamp()) * 1_000_000 for day in days]
    assert found == [(k, us, us) for k, us in zip((1, 2), expected, strict=True)]


def test_texts_of_pandas_objects_are_read_in_the_declared_format(
    con: duckdb.DuckDBPyConnection,
) -> None:
    frame = pd.DataFrame({"k": [1], "at": pd.Series(["12/31/2025 23:00"], dtype=object)})
    made = source(frame=frame, schema={"k": int}, timestamp_format="%m/%d/%Y %H:%M")
    us = int(dt.datetime(2025, 12, 31, 23, tzinfo=UTC).timestamp()) * 1_000_000
    assert [row["__ts"] for row in read(con, made)] == [us]


ENDS = [2**63 - 1, 2**63 - 2, -(2**63) + 1, -(2**63) + 2, -1, 0, 999, 1000]


@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Oslo"])
@pytest.mark.parametrize("declared", ["UTC", "Asia/Kathmandu"])
def test_the_first_and_last_nanoseconds_are_instants(
    con: duckdb.DuckDBPyConnection, declared: str, zone: str | None, file: bool, tmp_path: Path
) -> None:
    """DuckDB takes two of them for its infinities, which pandas.Timestamp.max and .min are."""
    at = pa.array(ENDS, pa.int64()).view(pa.timestamp("ns", zone))
    table = pa.table({"k": range(len(ENDS)), "at": at})
    pq.write_table(table, tmp_path / "x.parquet")
    given: dict[str, Any] = {"path": str(tmp_path / "x.parquet")} if file else {"frame": table}
    rows = read(con, source(schema={"k": int}, timezone=declared, **given))
    found = {row["k"]: row["__ts"] for row in rows}
    local = zoneinfo.ZoneInfo(declared if zone is None else "UTC")
    for k, ns in enumerate(ENDS):
        there = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=ns // 1000)
        since = there.replace(tzinfo=local) - dt.datetime(1970, 1, 1, tzinfo=UTC)
        assert found[k] == since // dt.timedelta(microseconds=1)


def test_the_ends_of_pandas_are_instants_in_pushes_and_labels(
    con: duckdb.DuckDBPyConnection,
) -> None:
    ends = [pd.Timestamp.max, pd.Timestamp.min]
    expected = [end.value // 1000 for end in ends]
    made = source(frame=pd.DataFrame({"k": [1, 2], "at": ends}), schema={"k": int})
    assert [row["__ts"] for row in read(con, made)] == expected
    labels = pd.DataFrame({"k": [1, 2], "event_timestamp": ends})
    frame = load_frame(con, labels, join_keys={"k": INT}, request={})
    found = con.execute(f"SELECT __t FROM {frame.table} ORDER BY __rid").fetchall()
    assert [us for (us,) in found] == expected


def test_the_least_duration_goes_all_the_ways() -> None:
    """Arrow makes none of a timedelta that lies within a day of it."""
    schema = {"k": int, "v": dt.timedelta, "l": list[dt.timedelta]}
    column = array_of([LEAST], pa.duration("us"))
    lists = pa.ListArray.from_arrays([0, 1], column)
    events = source(frame=pa.table({"k": [1], "v": column, "l": lists, "at": [AT]}), schema=schema)
    features = {
        "last": Last("v", window="1d"),
        "every": LastN("v", n=2, window="1d"),
        "counts": ValueCounts("v", window="1d"),
        "list": Last("l", window="1d"),
    }
    view = FeatureView("view", entities=[customer], source=events, features=features)
    with FeatureStore(definitions=[FeatureService("service", features=[view])]) as store:
        store.apply()
        store.materialize(AT + dt.timedelta(hours=1))
        online = store.get_online_features("service", [{"k": 1}], AT + dt.timedelta(hours=1))
        assert online.columns["last"] == [LEAST]
        trained = store.get_historical_features(LABELS[:1], "service").to_arrow()
        assert online.to_arrow().equals(trained.select(["k", *features]))
        assert online.to_pandas()["last"][0] == LEAST
        assert online.to_polars()["every"].to_list() == [[LEAST]]
        store.push("events", {"k": 2, "v": LEAST, "l": [LEAST], "at": AT})
        assert store.check_parity("service", budget=300).ok
