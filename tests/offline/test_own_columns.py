"""A column of an entity frame that is neither key nor request field comes back with the values that
it had, or is refused by its name, whatever its type is."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Count
from featurekit.core import conversions
from featurekit.core.arrays import Unmapped, in_plain_shape, plain_type
from featurekit.errors import DataError, EntityFrameError
from featurekit.offline.own_columns import carried_table
from featurekit.results import TrainingSet

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
CONVERSIONS = ("to_arrow", "to_pandas", "to_polars", "to_pylist", "to_dict", "_repr_html_")


@pytest.fixture
def store() -> Iterator[FeatureStore]:
    events = pd.DataFrame({"station": ["A", "B"], "at": AT})
    rides = EventSource("rides", frame=events, schema={"station": str}, timestamp_field="at")
    view = FeatureView(
        "rides",
        entities=[Entity("station", {"station": str})],
        source=rides,
        features={"n": Count(window="lifetime")},
    )
    with FeatureStore(definitions=[FeatureService("service", features=[view])]) as opened:
        yield opened


def numbers(type_: pa.DataType, values: list[int | None], bits: int = 64) -> pa.Array:
    return pa.array(values, pa.int64() if bits == 64 else pa.int32()).view(type_)


def plain_arrays() -> dict[str, pa.Array]:
    """An array of three values for every type of Arrow without another inside."""
    text, raw = ["a", None, "a text of more than twelve"], [b"a", None, b"\xff more than twelve"]
    arrays = [pa.nulls(3), pa.array([True, None, False])]
    arrays += [pa.array([1, None, 2], pa.type_for_alias(f"{s}int{b}"))
               for s in ("", "u") for b in (8, 16, 32, 64)]  # fmt: skip
    arrays += [pa.array([1.5, None, -0.0], t) for t in (pa.float16(), pa.float32(), pa.float64())]
    arrays += [pa.array(text, t) for t in (pa.string(), pa.large_string(), pa.string_view())]
    arrays += [pa.array(raw, t) for t in (pa.binary(), pa.large_binary(), pa.binary_view())]
    arrays.append(pa.array([b"ab", None, b"cd"], pa.binary(2)))
    for unit in ("s", "ms", "us", "ns"):
        for type_ in (pa.timestamp(unit), pa.timestamp(unit, "Europe/Oslo"), pa.duration(unit)):
            arrays.append(numbers(type_, [1, None, -1]))
    arrays += [numbers(pa.date32(), [1, None, -1], 32), numbers(pa.date64(), [86400000, None, 0])]
    arrays += [numbers(pa.time32(unit), [1, None, 2], 32) for unit in ("s", "ms")]
    arrays += [numbers(pa.time64(unit), [1000, None, 2000]) for unit in ("us", "ns")]
    month = pa.MonthDayNano([1, 2, 3])
    arrays.append(pa.array([month, None, month]))
    decimals = (pa.decimal32(5, 1), pa.decimal64(12, 1), pa.decimal128(30, 1), pa.decimal256(60, 1))
    arrays += [pa.array([Decimal("1.5"), None, Decimal(-2)], t) for t in decimals]
    return {str(array.type): array for array in arrays}


def nested(array: pa.Array) -> dict[str, pa.Array]:
    """Arrays of three values of every type that has another inside."""
    small, large = pa.array([0, 2, 2, 3], pa.int32()), pa.array([0, 2, 2, 3], pa.int64())
    at, size = pa.array([1, 0, 1], pa.int32()), pa.array([2, 0, 1], pa.int32())
    zeros, ends = pa.array([0, 0, 0], pa.int8()), pa.array([1, 2, 3], pa.int32())
    mask = pa.array([True, False, False])
    made = {
        "list": pa.ListArray.from_arrays(small, array),
        "list with null": pa.ListArray.from_arrays(small, array, mask=mask),
        "large_list": pa.LargeListArray.from_arrays(large, array),
        "fixed_size_list": pa.FixedSizeListArray.from_arrays(array, 1),
        "struct": pa.StructArray.from_arrays(
            [array], ["f"], mask=pa.array([False, False, True])
        ),
        "map": pa.MapArray.from_arrays([0, 1, 2, 3], ["x", "y", "z"], array),
        "list_view": pa.ListViewArray.from_arrays(at, size, array),
        "large_list_view": pa.LargeListViewArray.from_arrays(
            at.cast(pa.int64()), size.cast(pa.int64()), array
        ),
        "dictionary": pa.DictionaryArray.from_arrays(pa.array([0, 2, None], pa.int8()), array),
        "run_end_encoded": pa.RunEndEncodedArray.from_arrays(ends, array),
        "dense_union": pa.UnionArray.from_dense(zeros, pa.array([0, 1, 2], pa.int32()), [array]),
        "sparse_union": pa.UnionArray.from_sparse(zeros, [array]),
    }  # fmt: skip
    return {f"{kind} of {array.type}": one for kind, one in made.items()}


PLAIN = plain_arrays()
ARRAYS = PLAIN | {name: one for array in PLAIN.values() for name, one in nested(array).items()}
ARRAYS |= {
    f"list of {name}": pa.ListArray.from_arrays(pa.array([0, 2, 2, 3], pa.int32()), array)
    for name, array in ARRAYS.items()
    if any(kind in name for kind in ("_view of", "run_end_encoded of string", "union of int64"))
}
ARRAYS["uuid"] = pa.ExtensionArray.from_storage(
    pa.uuid(), pa.array([b"a" * 16, None, b"b" * 16], pa.binary(16))
)
ARRAYS["json"] = pa.ExtensionArray.from_storage(pa.json_(), pa.array(["1", None, "2"]))
ARRAYS["bool8"] = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], pa.int8()))


def labels(array: pa.Array) -> pa.Table:
    return pa.table({"station": ["B", "A", None], "event_timestamp": [AT] * 3, "own": array})


def asked(store: FeatureStore, frame: Any) -> TrainingSet:
    return store.get_historical_features(frame, "service")


def test_every_type_of_arrow_is_among_the_arrays() -> None:
    """A type that a later Arrow brings is noticed."""
    ids = {pa.lib.__dict__[name] for name in dir(pa.lib) if name.startswith("Type_")}
    not_made = {pa.lib.Type_INTERVAL_MONTHS, pa.lib.Type_INTERVAL_DAY_TIME} if hasattr(
        pa.lib, "Type_INTERVAL_DAY_TIME"
    ) else {pa.lib.Type_INTERVAL_MONTHS}  # fmt: skip
    assert ids - not_made - {one.type.id for one in ARRAYS.values()} == set()


UNIONS = {name: array for name, array in ARRAYS.items() if "union" in name}
CARRIED = {name: array for name, array in ARRAYS.items() if name not in UNIONS}


@pytest.mark.parametrize("name", CARRIED)
def test_the_plain_shape_of_every_type_has_the_same_values(name: str) -> None:
    array = CARRIED[name]
    for at in range(4):
        for length in range(4 - at):
            part = array.slice(at, length)
            made = in_plain_shape(part)
            made.validate(full=True)
            assert made.type.equals(plain_type(array.type))
            assert repr(made.to_pylist()) == repr(part.to_pylist())


@pytest.mark.parametrize("name", UNIONS)
def test_a_column_of_several_types_is_refused_by_name(name: str) -> None:
    with pytest.raises(EntityFrameError, match="column 'own' holds values of several types"):
        carried_table(labels(UNIONS[name]))
    with pytest.raises(Unmapped):
        in_plain_shape(UNIONS[name])


@pytest.mark.parametrize("name", CARRIED)
def test_pandas_and_polars_hold_a_column_or_refuse_it_by_name(name: str) -> None:
    table = carried_table(pa.table({"other": [1, 2, 3], "own": CARRIED[name]}))
    conversions_of = {"pandas": conversions.own_to_pandas, "polars": conversions.to_polars}
    for library, convert in conversions_of.items():
        refused = ""
        try:
            assert len(convert(table)) == 3
        except DataError as error:
            refused = str(error)
        assert not refused or refused.startswith("the column 'own' of the entity frame, ")
        assert not refused or f"has no form in {library}" in refused


@pytest.mark.parametrize("conversion", ["to_arrow", "to_pylist", "to_dict"])
def test_every_type_is_carried_whole(store: FeatureStore, conversion: str) -> None:
    frame = labels(pa.nulls(3)).append_column("n_of_labels", pa.array([1, 2, 3]))
    for name, array in CARRIED.items():
        frame = frame.append_column(name, array)
    training = asked(store, frame)
    made = getattr(training, conversion)()
    columns = made if conversion == "to_dict" else {}
    if conversion == "to_pylist":
        columns = {name: [row[name] for row in made] for name in made[0]}
    if conversion == "to_arrow":
        columns = {
            name: made[name].to_pylist(maps_as_pydicts="strict") for name in frame.schema.names
        }
        assert made["n"].to_pylist() == [1, 1, 0]
    for name, array in CARRIED.items():
        assert repr(columns[name]) == repr(array.to_pylist(maps_as_pydicts="strict"))
    assert "a text of more than twelve" in training._repr_html_()


def test_every_type_that_parquet_has_is_carried_from_a_file_to_a_file(
    store: FeatureStore, tmp_path: Path
) -> None:
    given, made = tmp_path / "labels.parquet", tmp_path / "made.parquet"
    frame = labels(pa.nulls(3))
    for name, array in CARRIED.items():
        with suppress(pa.ArrowNotImplementedError):
            pq.write_table(pa.table({"a": array}), io.BytesIO())
            frame = frame.append_column(name, array)
    pq.write_table(frame, given)
    asked(store, str(given)).to_parquet(made)
    read, written = pq.read_table(given), pq.read_table(made)
    assert len(frame.schema) > 300
    for name in frame.schema.names:
        assert repr(written[name].to_pylist()) == repr(read[name].to_pylist())


def test_a_type_that_parquet_lacks_is_refused_by_name(store: FeatureStore, tmp_path: Path) -> None:
    month = CARRIED["month_day_nano_interval"]
    with pytest.raises(DataError, match=r"column 'own'.* no form in Parquet"):
        asked(store, labels(month)).to_parquet(tmp_path / "made.parquet")
    assert list(tmp_path.iterdir()) == []


def _polars_columns() -> dict[str, pl.Series]:
    texts = pl.Series(["x", None, "a text of more than twelve"])
    return {
        "text": texts,
        "category": texts.cast(pl.Categorical),
        "enum": texts.cast(pl.Enum(["x", "a text of more than twelve"])),
        "list of text": pl.Series([["a"], None, []], dtype=pl.List(pl.String)),
        "array of text": pl.Series([["a"], None, ["b"]], dtype=pl.Array(pl.String, 1)),
        "struct of text": pl.DataFrame({"f": texts}).to_struct(),
        "binary": pl.Series([b"x", None, b"\xff"]),
        "decimal": pl.Series([Decimal("1.5"), None, Decimal(2)], dtype=pl.Decimal(10, 2)),
        "time": pl.Series([dt.time(1), None, dt.time(2)]),
        "null": pl.Series([None] * 3),
        "date": pl.Series([dt.date(2026, 1, 1), None, dt.date(1, 1, 1)]),
    }


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_a_frame_of_polars_is_carried(store: FeatureStore, conversion: str, lazy: bool) -> None:
    columns = _polars_columns()
    frame = pl.DataFrame({"station": ["B", None, "A"], "event_timestamp": [AT] * 3, **columns})
    training = asked(store, frame.lazy() if lazy else frame)
    made = getattr(training, conversion)()
    if conversion == "to_polars":
        assert made[list(columns)].equals(pl.DataFrame(columns), null_equal=True)
        assert made[list(columns)].dtypes == [column.dtype for column in columns.values()]
    if conversion == "to_pylist":
        for name, column in columns.items():
            assert [row[name] for row in made] == column.to_list()
    if conversion in ("to_pandas", "to_polars", "to_dict"):
        assert list(made["n"]) == [1, 0, 1]


def test_a_text_that_is_not_utf_8_is_refused_with_its_row(
    store: FeatureStore, tmp_path: Path
) -> None:
    raw = pa.array([b"ok", b"also", b"\xff"])
    bad = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    path = tmp_path / "labels.parquet"
    pq.write_table(labels(bad), path)
    inner = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), bad)
    for frame in (labels(bad), str(path), labels(inner)):
        with pytest.raises(EntityFrameError, match=r"row 2 .*column 'own': text that is not UTF-8"):
            asked(store, frame).to_pandas()


OUT_OF_PYTHON = {
    "timestamp": numbers(pa.timestamp("us"), [2**62, 0, None]),
    "zoned": numbers(pa.timestamp("s", "UTC"), [2**62, 0, None]),
    "date32": numbers(pa.date32(), [4_000_000, 0, None], 32),
    "date64": numbers(pa.date64(), [4_000_000 * 86_400_000, 0, None]),
    "duration": numbers(pa.duration("s"), [2**62, 0, None]),
    "time": numbers(pa.time64("ns"), [1, 0, None]),
}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", OUT_OF_PYTHON)
def test_what_a_library_cannot_hold_is_carried_whole_or_refused_by_name(
    store: FeatureStore, name: str, inside: bool
) -> None:
    array = OUT_OF_PYTHON[name]
    if inside:
        array = pa.StructArray.from_arrays([array], ["f"])
    arrow = asked(store, labels(array)).to_arrow()["own"].combine_chunks()
    assert arrow.equals(array)
    table = asked(store, labels(array)).to_arrow()
    for conversion in (conversions.to_pylist, conversions.to_dict):
        with pytest.raises(DataError, match="column 'own'"):
            conversion(table)
    for convert in (conversions.own_to_pandas, conversions.to_polars):
        refused = ""
        try:
            made = convert(table.select(["own"]))
        except DataError as error:
            refused = str(error)
        if refused:
            assert "column 'own'" in refused
            continue
        own = made["own"]
        back = pa.array(own, array.type) if isinstance(own, pd.Series) else own.to_arrow()
        assert back.cast(array.type).equals(array)


@pytest.mark.parametrize("inside", [False, True])
def test_a_nanosecond_counts_in_the_hash(store: FeatureStore, inside: bool) -> None:
    def hashed(ns: int) -> str:
        array = numbers(pa.time64("ns"), [ns, 0, None])
        if inside:
            array = pa.StructArray.from_arrays([array], ["f"])
        found: str = asked(store, labels(array)).manifest["content_hash"]
        return found

    assert hashed(1) != hashed(0)
    assert hashed(1) == hashed(1)


def test_a_wide_decimal_that_fits_is_one_of_polars(store: FeatureStore) -> None:
    array = pa.array([Decimal("1.5"), None, Decimal(10) ** 30], pa.decimal256(60, 2))
    made = asked(store, labels(array)).to_polars()
    assert made["own"].to_list() == [Decimal("1.5"), None, Decimal(10) ** 30]
    wide = pa.array([Decimal(10) ** 50] * 3, pa.decimal256(60, 2))
    with pytest.raises(DataError, match=r"column 'own'.*polars"):
        asked(store, labels(wide)).to_polars()


def test_views_of_text_are_the_same_labels(store: FeatureStore) -> None:
    """The keys, too, may be views or runs, and in many chunks."""
    texts = ["B", "A", None, "B"]
    plain = pa.table({"station": texts, "event_timestamp": [AT] * 4, "own": texts})
    views = pa.chunked_array(
        [pa.array(texts[:1], pa.string_view()), pa.array(texts[1:], pa.string_view())]
    )
    runs = pa.RunEndEncodedArray.from_arrays(pa.array(range(1, 5), pa.int32()), pa.array(texts))
    expected = asked(store, plain).to_pylist()
    for column in (views, runs):
        frame = plain.set_column(0, "station", column).set_column(2, "own", column)
        assert asked(store, frame).to_pylist() == expected


def test_a_category_of_pandas_is_carried(store: FeatureStore) -> None:
    frame = labels(pa.nulls(3)).to_pandas()
    frame["own"] = pd.Categorical(["x", None, "y"])
    assert asked(store, frame).to_arrow()["own"].to_pylist() == ["x", None, "y"]
    assert asked(store, frame).to_pandas()["own"].equals(frame["own"])


def test_no_label_at_all_keeps_the_types(store: FeatureStore) -> None:
    frame = labels(pa.nulls(3))
    for name, array in CARRIED.items():
        frame = frame.append_column(name, array)
    made = asked(store, frame.slice(0, 0)).to_arrow()
    for name, array in CARRIED.items():
        assert made[name].type.equals(plain_type(array.type))
