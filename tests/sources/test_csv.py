"""S1, S4: what files of CSV give, in whatever way they are written."""

from __future__ import annotations

import bz2
import contextlib
import csv
import datetime as dt
import encodings
import gzip
import json
import lzma
import os
import pkgutil
import random
import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekit.core.coerce import Misfit, canonical
from featurekit.core.gone import Gone
from featurekit.core.types import BOOL, DATE, DATETIME, FLOAT, INT, INT_MAX, STR, micros
from featurekit.define.definitions import EventSource
from featurekit.define.dialect import Dialect
from featurekit.errors import BadRowError, DefinitionError, EntityFrameError, SourceError
from featurekit.offline.csv_frame import csv_frame
from featurekit.sources import CheckedFiles, events, read_events, read_rows, records
from featurekit.sources import csv as kind
from featurekit.sources.csv import copy_of
from featurekit.sources.protocol import FileInfo
from featurekit.sources.raw import file_rows, value_of
from featurekit.sources.readings import CSV_COMMA_TEXT, CSV_TEXT
from featurekit.sources.rewrite import remove_rows
from featurekit.sources.rows import as_pushed

RETAIL = Path(__file__).parents[3] / "shared" / "data" / "online_retail.parquet"
SCHEMA = {"uid": int, "v": str | None}


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def source(name: str = "x.csv", **options: Any) -> EventSource:
    return EventSource("x", path=name, **{"schema": SCHEMA, "timestamp_field": "ts", **options})


class Folder:
    """A folder with one source's file."""

    def __init__(self, con: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self.con, self.folder, self.state = con, folder, folder / "state"

    def write(self, data: str | bytes, name: str = "x.csv") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def read(self, name: str = "x.csv", **options: Any) -> CheckedFiles:
        return read_events(
            self.con, source(name, **options), base=self.folder, state_dir=self.state
        )

    def rows(self, name: str = "x.csv", **options: Any) -> list[Any]:
        read = self.read(name, **options)
        columns = "* EXCLUDE (__ts, __created)"
        found = self.con.execute(f"SELECT {columns} FROM {read.relation}").fetchall()
        assert len(found) == read.rows
        return found

    def aside(self) -> list[dict[str, Any]]:
        path = self.state / "quarantine" / "x.parquet"
        return pq.read_table(path).sort_by("__source_row").to_pylist() if path.exists() else []


@pytest.fixture
def folder(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> Folder:
    return Folder(con, tmp_path)


# --- what is set aside ----------------------------------------------------------------------------


def test_a_quoting_fault_takes_no_neighbour_with_it(folder: Folder) -> None:
    folder.write('uid,n,v,ts\n1,1,"6" pipe",2024-01-01\n2,2,a,2024-01-02\n3,3,b,2024-01-03\n')
    read = folder.read(on_bad_row="quarantine")
    assert (read.rows, read.quarantined) == (2, 1)
    assert folder.rows(on_bad_row="quarantine") == [(2, "a"), (3, "b")]
    (row,) = folder.aside()
    assert (row["__line"], row["__source_row"]) == (2, 0)
    assert row["__text"] == '1,1,"6" pipe",2024-01-01\n'
    assert row["reason"] == "field 3 goes on after the quote that closes it"


def test_an_error_names_the_line_and_says_what_stands_there(folder: Folder) -> None:
    folder.write('uid,v,ts\n1,"a\nb",2024-01-01\n2,"6" pipe",2024-01-01\n')
    said = r'row 1 \(the first is 0\), line 4: field 2 goes on after .*: .2,"6" pipe"'
    with pytest.raises(BadRowError, match=said):
        folder.read()


def test_the_first_bad_row_is_told_whatever_makes_it_bad(folder: Folder) -> None:
    folder.write("uid,v,ts\n1,a,2024-01-01\nx,a,2024-01-01\n3\n")
    with pytest.raises(BadRowError, match=r"row 1 .*, line 3, column 'uid': no int"):
        folder.read()
    folder.write("uid,v,ts\n1,a,2024-01-01\n3\nx,a,2024-01-01\n")
    with pytest.raises(BadRowError, match=r"row 1 .*, line 3: 1 field where the header names 3"):
        folder.read()


def test_rows_of_all_faults_are_kept_together_in_the_order_of_the_file(folder: Folder) -> None:
    folder.write(b"uid,v,ts\n1,a,2024-01-01\n2\nx,a,2024-01-01\n3,\xff,2024-01-01\n\n4,a,nope\n")
    read = folder.read(on_bad_row="quarantine")
    assert (read.rows, read.quarantined) == (1, 4)
    assert [(r["__line"], r["uid"], r["reason"].split(":")[0]) for r in folder.aside()] == [
        (3, None, "1 field where the header names 3"),
        (4, "x", "uid"),
        (5, None, "field 2 has bytes that are no utf-8; another one is declared with encoding=…"),
        (7, "4", "ts"),
    ]
    assert folder.aside()[2]["__text"] == "3,\\xff,2024-01-01\n"


def test_text_that_no_query_reads_is_checked_all_the_same(folder: Folder) -> None:
    folder.write("uid,v,note,ts\n1,a,é,2024-01-01\n2,b,x,2024-01-01\n".encode("latin-1"))
    read = folder.read(on_bad_row="quarantine")
    assert (read.rows, read.quarantined) == (1, 1)
    query = f"SELECT count(*) FROM {read.relation}"
    assert folder.con.execute(query).fetchall() == [(1,)]
    with pytest.raises(BadRowError, match=r"line 2: field 3 has bytes that are no utf-8"):
        folder.read()


@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_line_that_is_neither_a_row_nor_set_aside_is_noticed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """Lines are rows and rejects: what lost one is a bug, and nothing of it is kept."""
    folder.write('uid,v,ts\n1,a,2024-01-01\n\n2,"b\nb",2024-01-01\n3\n4,"d"d,2024-01-01\n')
    assert folder.read(on_bad_row="quarantine").rows == 2
    whole, rest = records.Records.with_blocks, kept(folder)

    def losing(*given: Any) -> Iterator[records.Record]:
        yield from (r for number, r in enumerate(whole(*given)) if number != place)

    monkeypatch.setattr(records.Records, "with_blocks", losing)
    for path in rest:
        path.unlink()
    with pytest.raises(AssertionError, match=r"7 lines came in, [56] went out"):
        folder.read(on_bad_row="quarantine", timezone="Europe/London")
    assert kept(folder) == []


@pytest.mark.parallel
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_long_text_of_lines_in_a_large_file_is_one_value(folder: Folder, end: str) -> None:
    text = end.join(f'{n},"",{n}'.replace('""', '""""') for n in range(200_000))
    small = end.join(f'{n},"a{end}b",2024-01-01' for n in range(100_000))
    folder.write(end.join(["uid,v,ts", f'-1,"{text}",2024-01-01', small]))
    read = folder.read()
    assert read.rows == 100_001
    query = f"SELECT max(len(v)), sum(uid), count(DISTINCT v) FROM {read.relation}"
    unquoted = text.replace('""', '"')
    assert folder.con.execute(query).fetchall() == [(len(unquoted), 4_999_949_999, 2)]


# --- headers --------------------------------------------------------------------------------------


def test_a_column_without_a_name_is_there_and_is_not_asked_for(folder: Folder) -> None:
    folder.write(",uid,v,ts,\n0,1,a,2024-01-01,\n1,2,b,2024-01-02,x\n")
    assert folder.rows() == [(1, "a"), (2, "b")]


def test_a_delimiter_at_the_end_of_every_line_but_the_header_is_told(folder: Folder) -> None:
    folder.write("uid,v,ts\n1,a,2024-01-01,\n")
    with pytest.raises(BadRowError, match=r"line 2: 4 fields .* the line ends in a delimiter"):
        folder.read()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\n1,a,2024-01-01\n", "its first line is empty; write a header"),
        (b"\xef\xbb\xbf", "its first line is empty"),
        (b",,\n1,2,3\n", "its first line is empty"),
        (b"uid,uid,ts\n", "names 'uid' twice"),
        (b'uid,"v,ts\n1,2,3\n', "field 2 has a quote that is never closed"),
        ("uid,v,tsé\n".encode("latin-1"), "bytes that are no utf-8; say which encoding="),
        ("uid,v,ts\n".encode("utf-16"), 'it is UTF-16; write encoding="utf-16"'),
        (gzip.compress(b"uid,v,ts\n", mtime=0), 'it is packed; write compression="gzip"'),
        (bz2.compress(b"uid,v,ts\n"), 'it is packed; write compression="bz2"'),
        (lzma.compress(b"uid,v,ts\n"), 'it is packed; write compression="xz"'),
        (b"PK\x03\x04\0\0", "it is a zip archive or an Excel file"),
        (b"PAR1\0\0", 'it is Parquet; write format="parquet"'),
        (b"uid,v\0,ts\n", "it has NUL characters; write the file without them"),
        (b"uid;v;ts\n1;2;3\n", "its header is one column, 'uid;v;ts': write delimiter=';'"),
        (b"UID,v,ts\n", "there is no column 'uid'; did you mean 'UID'"),
    ],
)
def test_a_header_that_is_none_is_an_error(folder: Folder, data: bytes, said: str) -> None:
    path = folder.write(data)
    with pytest.raises(SourceError, match=said) as caught:
        folder.read()
    assert str(path) in str(caught.value)


WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize(("marked", "packed"), [(False, False), (True, True)])
@pytest.mark.parametrize("declared", ["utf-8", "latin-1", *WIDE])
@pytest.mark.parametrize("written", WIDE)
def test_a_wide_encoding_is_read_or_named(
    folder: Folder, written: str, declared: str, marked: bool, packed: bool
) -> None:
    """What the hint says to write reads the file."""
    data = "uid,v,ts\n1,a,2024-01-01\n".encode(written)
    if marked and written[-3:] in ("-le", "-be"):
        data = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff", "utf-32-le": b"\xff\xfe\0\0",
                "utf-32-be": b"\0\0\xfe\xff"}[written] + data  # fmt: skip
    name = "x.csv.gz" if packed else "x.csv"
    folder.write(gzip.compress(data, mtime=0) if packed else data, name)
    options: dict[str, Any] = {"name": name, "encoding": declared}
    said = ""
    try:
        assert folder.rows(**options) == [(1, "a")]
    except SourceError as error:
        said = str(error)
    if said:
        found = re.search('write encoding="([a-z0-9-]+)"', said)
        assert found is not None, said
        assert folder.rows(**options | {"encoding": found[1]}) == [(1, "a")]
    assert said or declared[:6] == written[:6]


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        ("k,event_timestamp\n".encode("utf-16"), "x.csv", "it is UTF-16; write the file in UTF-8"),
        ("k,event_timestamp\n".encode("utf-16-le"), "x.csv", "it is UTF-16-LE; write the file in"),
        (
            gzip.compress("k,v\n".encode("utf-16"), mtime=0),
            "x.csv.gz",
            "it is UTF-16; write the file in",
        ),
        (gzip.compress(b"k,v\n", mtime=0), "x.csv", "it is packed; unpack it"),
        (b"k,v\n", "x.csv.gz", "cannot be read to its end as gzip"),
        (b"PAR1\0\0", "x.csv", "it is Parquet; end its name in .parquet"),
        ("k,é\n".encode("latin-1"), "x.csv", "bytes that are no utf-8; write the file in UTF-8"),
        (b"k,v\n1,\xff\n", "x.csv", "; write the file in UTF-8"),
    ],
)
def test_labels_are_not_told_to_declare_what_they_cannot(
    tmp_path: Path, data: bytes, name: str, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(EntityFrameError, match=re.escape(said)) as caught:
        csv_frame(path, {})
    assert re.search("encoding=|compression=|format=", str(caught.value)) is None


def test_every_codec_of_python_reads_a_file_or_says_why_not(tmp_path: Path) -> None:
    names = {module.name for module in pkgutil.iter_modules(encodings.__path__)}
    text, tried = "a,b\n1,x\n2,é\n", 0
    files = [text.encode(name) for name in ("utf-8", "utf-16", "utf-16-le", "utf-32-be")]
    files += [
        bytes(range(256)),
        b"a,b\n1,\x80\xff\x1b$B\n",
        b"~{\xff~}\n+//-\n\\ud800\n",
        b"a",
        b"",
    ]
    path = tmp_path / "x.csv"
    for name in sorted(names):
        try:
            dialect = source(encoding=name).dialect
        except DefinitionError:
            continue
        tried += 1
        for data in files:
            path.write_bytes(data)
            with contextlib.suppress(SourceError):
                copy_of(str(path), dialect, tmp_path)
    assert tried > 90


def test_columns_that_differ_in_case_alone_are_those_of_the_header(folder: Folder) -> None:
    folder.write("V,v,uid,v_1,ts\nA,a,1,x,2024-01-01\n")
    assert folder.rows() == [(1, "a")]
    assert folder.rows(schema={"uid": int, "V": str}) == [(1, "A")]
    assert folder.rows(schema={"uid": int, "v_1": str}) == [(1, "x")]


def test_a_schema_whose_names_differ_in_case_alone_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"'v' and 'V'.* differ in case alone"):
        source(schema={"v": int, "V": int})


# --- how files are written ------------------------------------------------------------------------

LINES = 'uid;v;ts\n1;"é;€";2024-01-01\n2;"x\ny";2024-01-02\n'
PACKED = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252", "gb18030"]
)
def test_files_of_any_encoding_are_read(folder: Folder, encoding: str) -> None:
    folder.write(LINES.encode(encoding))
    assert folder.rows(encoding=encoding, delimiter=";") == [(1, "é;€"), (2, "x\ny")]


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("said", [False, True])
def test_packed_files_are_read(folder: Folder, ending: str, said: bool) -> None:
    name = "x.csv" if said else f"x.csv.{ending}"
    folder.write(PACKED[ending](LINES.encode()), name)
    names = {"gz": "gzip", "bz2": "bz2", "xz": "xz", "zst": "zstd"}
    how = {"compression": names[ending]} if said else {}
    assert folder.rows(name, delimiter=";", **how) == [(1, "é;€"), (2, "x\ny")]


@pytest.mark.parametrize("ending", PACKED)
def test_a_packed_file_that_is_cut_off_is_an_error(folder: Folder, ending: str) -> None:
    data = PACKED[ending](LINES.encode() * 50)
    folder.write(data[: len(data) // 2], f"x.csv.{ending}")
    with pytest.raises(SourceError, match=r"cannot be read to its end as .*compression="):
        folder.read(f"x.csv.{ending}", delimiter=";")
    folder.write(LINES.encode(), f"x.csv.{ending}")
    with pytest.raises(SourceError, match=r"cannot be read to its end as .*compression="):
        folder.read(f"x.csv.{ending}", delimiter=";")


def test_a_byte_that_the_encoding_lacks_is_a_bad_row(folder: Folder) -> None:
    folder.write(b"uid,v,ts\n1,\x81,2024-01-01\n2,\x80,2024-01-01\n")
    read = folder.read(encoding="cp1252", on_bad_row="quarantine")
    assert (read.rows, read.quarantined) == (1, 1)
    assert folder.aside()[0]["__text"] == "1,\\x81,2024-01-01\n"


def test_decimal_commas_and_texts_that_mean_null(folder: Folder) -> None:
    folder.write(
        'uid;v;f;ts\n1,0;NA;"1,5";2024-01-01\n2;NULL;NA;2024-01-01\n3;"NA";-0,25;2024-01-01\n'
    )
    how = {"delimiter": ";", "decimal": ",", "null_values": ["NA", "NULL"]}
    schema = {"uid": int, "v": str | None, "f": float | None}
    assert folder.rows(schema=schema, **how) == [(1, None, 1.5), (2, None, None), (3, None, -0.25)]
    folder.write("uid;v;f;ts\n1;a;1.5;2024-01-01\n")
    with pytest.raises(BadRowError, match="column 'f': no float"):
        folder.rows(schema=schema, **how)


@pytest.mark.parametrize(
    ("text", "value"),
    [("17850.0", 17850), ("-3.000", -3), ("9007199254740992.0", 2**53), (str(INT_MAX), INT_MAX)],
)
def test_an_int_that_was_written_as_a_float_is_read(folder: Folder, text: str, value: int) -> None:
    folder.write(f"uid,v,ts\n{text},a,2024-01-01\n")
    assert folder.rows() == [(value, "a")]


@pytest.mark.parametrize("text", ["1.5", "9007199254740994.0", "1.", ".0", "1.0e3", "1,0", "nan"])
def test_no_other_float_is_an_int(folder: Folder, text: str) -> None:
    folder.write(f'uid,v,ts\n"{text}",a,2024-01-01\n')
    with pytest.raises(BadRowError, match="column 'uid': no int of 64 bits"):
        folder.read()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoding": "utf-9"}, "'utf-9' is no encoding of text"),
        ({"encoding": "base64"}, "'base64' is no encoding of text"),
        ({"encoding": "idna"}, "'idna' is no encoding of text"),
        ({"delimiter": ""}, "delimiter is one character"),
        ({"delimiter": ", "}, "delimiter is one character"),
        ({"delimiter": "\n"}, "delimiter is one character and no line break"),
        ({"quote": "''"}, "quote is one character"),
        ({"quote": ","}, "delimiter and quote are both ','"),
        ({"decimal": ";"}, 'decimal is "." or ","'),
        ({"null_values": "NA"}, "null_values is a list of texts"),
        ({"null_values": [None]}, "null_values is a list of texts"),
        ({"null_values": None}, "null_values is a list of texts"),
        ({"timestamp_format": ["iso"]}, "timestamp_format is "),
        ({"compression": "zip"}, "compression is one of none, gzip"),
        ({"path": "x.parquet", "delimiter": ";"}, "delimiter is about CSV files"),
        ({"path": "x.parquet", "compression": "gzip"}, "compression is about CSV files"),
    ],
)
def test_an_option_that_no_file_has_is_refused(options: dict[str, Any], said: str) -> None:
    path = options.pop("path", "x.csv")
    with pytest.raises(DefinitionError, match=f"EventSource 'x': {said}"):
        source(path, **options)


def test_the_public_file_of_online_retail_is_read_by_declaration(folder: Folder) -> None:
    """Latin-1, ids that pandas wrote as floats, and American dates, as the public file has them."""
    if not RETAIL.exists():
        pytest.skip(f"the real data is not at {RETAIL}")
    table = pq.read_table(RETAIL).slice(0, 20_000)
    rows = table.to_pylist()
    rows[0]["description"] = 'CAFÉ SIGN £5 6" PIPE, "LARGE"\nBLUE'
    with (folder.folder / "x.csv").open("w", encoding="latin-1", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        for row in rows:
            at, id_ = row["invoice_date"], row["customer_id"]
            shown = f"{at.month}/{at.day}/{at.year} {at.hour}:{at:%M}"
            given = "" if id_ is None else float(id_)
            writer.writerow([*(row | {"invoice_date": shown, "customer_id": given}).values()])
    pq.write_table(pa.Table.from_pylist(rows, table.schema), folder.folder / "x.parquet")
    schema = {
        "invoice_no": str,
        "stock_code": str,
        "description": str | None,
        "quantity": int,
        "unit_price": float,
        "customer_id": int | None,
        "country": str,
    }
    zoned = {"schema": schema, "timestamp_field": "invoice_date", "timezone": "Europe/London"}
    how = {"encoding": "latin-1", "timestamp_format": "%m/%d/%Y %H:%M"}
    texts, typed = folder.read(**zoned, **how), folder.read("x.parquet", **zoned)
    assert texts.rows == typed.rows == 20_000
    query = f"(FROM {texts.relation} EXCEPT ALL FROM {typed.relation})"
    assert folder.con.execute(f"SELECT count(*) FROM {query}").fetchall() == [(0,)]


# --- both paths -----------------------------------------------------------------------------------

HOSTILE = st.text(st.sampled_from(list('ab1,;"\n\r\té€😀\0 .')), max_size=8)
TABLE = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        HOSTILE | st.none(),
        st.floats(),
        st.datetimes(dt.datetime(1900, 1, 2), dt.datetime(2100, 1, 1)),
    ),
    min_size=1,
    max_size=6,
)


def written(rows: list[Any], delimiter: str, end: str) -> str:
    """The rows as a careful writer writes them: null unquoted, every text quoted."""
    lines = [delimiter.join(["uid", "v", "f", "ts"])]
    for uid, text, number, at in rows:
        shown = "" if text is None else '"' + text.replace('"', '""') + '"'
        lines.append(delimiter.join([str(uid), shown, repr(number), at.isoformat(" ")]))
    return end.join(lines) + end


@settings(max_examples=max(1, settings().max_examples // 3))  # each makes a file
@given(
    TABLE,
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-16"]),
)
def test_a_file_and_a_push_of_the_same_rows_have_the_same_values(
    con: duckdb.DuckDBPyConnection,
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Any],
    delimiter: str,
    end: str,
    encoding: str,
) -> None:
    base = tmp_path_factory.mktemp("csv")
    (base / "x.csv").write_bytes(written(rows, delimiter, end).encode(encoding))
    of = source(
        schema={"uid": int, "v": str | None, "f": float},
        delimiter=delimiter,
        encoding=encoding,
        timezone="Europe/London",
    )
    read = read_events(con, of, base=base, state_dir=None)
    from_file = con.sql(f"SELECT uid, v, f, __ts FROM {read.relation}").to_arrow_table()
    dicts = [dict(zip(("uid", "v", "f", "ts"), row, strict=True)) for row in rows]
    pushed = read_rows(of, dicts, state_dir=None).table
    as_read = as_pushed(of, file_rows(of, read.files[0], {}, state_dir=None))
    given = [[row[name] for name in ("uid", "v", "f", "__ts")] for row in as_read]
    expected = [list(row.values()) for row in pushed.select(["uid", "v", "f", "__ts"]).to_pylist()]
    found = [list(row.values()) for row in from_file.to_pylist()]
    assert repr(found) == repr(expected) == repr(given)  # -0.0 and NaN told apart from others


NUMBERS = st.text(st.sampled_from("0123456789+-.,eE_ infatyINFnNxX\t١ı"), max_size=8)
TIMES = st.text(st.sampled_from("0123456789-: TZ+.,"), max_size=20)
KNOWN = [
    "17850.0",
    " 1.5 ",
    "1,5",
    "1e400",
    "-0.0",
    "NaN",
    "True",
    "9007199254740993.0",
    "2011-03-27",
]
KNOWN += [
    str(2**63),
    str(-(2**63)),
    "2011-07-01 12:00:00,5 +01:00",
    "20110327",
    "2011-W12-1",
    "ınf",
]
USUAL = [
    *("true", "17850", "-5", "9223372036854775807", "0.1", "-12.50", "1.7976931348623157e308"),
    *("0001-01-01", "9999-12-31", "2020-02-29", "10000-01-01", "21020-02-29", "infinity"),
    *("2011-07-01 12:00:00", "2011-07-01T12:00:00.123456", "2011-02-30 00:00:00"),
    *("2011-07-01T12:00:00Z", "9999-12-31 23:59:59.999999+00:00", "2011-07-01 24:00:00"),
    *("0000-12-31 23:59:59Z", "10000-01-01 00:00:00", "2011-07-01T12:00:00+02:00", "1" * 320),
]
"""Texts as programs write them, and others that look like those: for the usual ones SQL has ways of
its own."""


@st.composite
def nearly_usual(draw: st.DrawFn) -> str:
    """A usual text of which at most one character is another one, is twice there, or is gone."""
    text = draw(st.sampled_from(USUAL))
    at = draw(st.integers(0, len(text)))
    new = draw(st.sampled_from(["", *"0123456789.-+ :TZe_"]))
    return text[:at] + new + text[at + draw(st.integers(0, 1)) :]


TYPES = (INT, FLOAT, BOOL, DATE, DATETIME, STR)


@given(
    st.lists(NUMBERS | TIMES | st.sampled_from(KNOWN) | nearly_usual(), min_size=1, max_size=50),
    st.sampled_from(".,"),
)
def test_sql_and_python_read_a_text_alike(
    con: duckdb.DuckDBPyConnection, texts: list[str], decimal: str
) -> None:
    dialect = Dialect(decimal=decimal)
    found = CSV_TEXT if decimal == "." else CSV_COMMA_TEXT
    for type_ in TYPES:
        made = kind.reading('"t"', found, type_, zone_name="UTC")
        assert made is not None
        aliases = "".join(f', {sql} AS "{name}"' for name, sql in made.prepared)
        wrong = " OR ".join(f"({condition})" for condition, _ in made.problems) or "FALSE"
        value = made.value(None) if made.micros is None else made.micros(None)
        query = (
            f"SELECT ({wrong}) IS TRUE, {value} FROM (SELECT *{aliases} FROM (SELECT unnest(?) t))"
        )
        by_sql = con.execute(query, [texts]).fetchall()
        by_python = []
        for text in texts:
            try:
                one = canonical(value_of(text, type_, dialect), type_, zone_name="UTC")
            except Misfit:
                by_python.append((True, None))
            else:
                by_python.append((False, micros(one) if type_ == DATETIME else one))
        assert repr([row if not row[0] else (True, None) for row in by_sql]) == repr(by_python)


def test_rows_of_a_file_as_a_push_brings_them_may_be_chosen(folder: Folder) -> None:
    folder.write("uid,v,ts\n1.0,a,2024-01-01\n2,,2024-01-02\n3,c,2024-01-03\n")
    (file,) = folder.read().files
    rows = file_rows(source(), file, {"uid": {1, 2}}, state_dir=folder.state)
    assert [(row["uid"], row["v"]) for row in rows] == [(1, "a"), (2, None)]


# --- what is kept ---------------------------------------------------------------------------------


def kept(folder: Folder) -> list[Path]:
    return sorted((folder.state / "verdicts").glob("*-*.parquet"))


def test_a_file_is_taken_apart_once(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("uid,v,ts\n1,a,2024-01-01\n2\n")
    how: dict[str, Any] = {"on_bad_row": "quarantine"}
    assert folder.read(**how).rows == 1
    monkeypatch.setattr(kind, "_write_copy", lambda *_: pytest.fail("taken apart again"))
    assert folder.read(**how, timezone="Europe/London").rows == 1
    (copy,) = kept(folder)
    about = json.loads(pq.read_metadata(copy).metadata[b"featurekit"])
    assert {n: about[n] for n in ("lines", "rows", "rejects", "empty_lines")} == {
        "lines": 3,
        "rows": 1,
        "rejects": 1,
        "empty_lines": 0,
    }


def test_another_content_of_the_same_size_and_time_is_another_file(folder: Folder) -> None:
    path = folder.write("uid,v,ts\n1,a,2024-01-01\n")
    os.utime(path, ns=(10**18, 10**18))
    assert folder.rows() == [(1, "a")]
    folder.write("uid,v,ts\n1,b,2024-01-01\n")
    os.utime(path, ns=(10**18, 10**18))
    assert folder.rows() == [(1, "b")]
    assert len(kept(folder)) == 1


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_verdict_is_kept_for_the_next_process(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    name = f"x.{ending}"
    folder.write("uid,v,ts\n1,a,2024-07-01\n2,b,2024-07-01\n")
    if ending == "parquet":
        columns = {"uid": [1, 2], "v": ["a", "b"], "ts": [dt.date(2024, 7, 1)] * 2}
        pq.write_table(pa.table(columns), folder.folder / name)
    first = folder.rows(name, timezone="Europe/London")
    monkeypatch.setattr(events, "_CACHE", OrderedDict())
    with monkeypatch.context() as context:
        context.setattr(events, "summarise", lambda *_: pytest.fail("checked again"))
        assert folder.rows(name, timezone="Europe/London") == first
    with pytest.raises(SourceError, match=r"column 'v'|no column 'w'"):
        folder.read(name, schema={"uid": int, "w": int})
    (folder.state / "verdicts" / "source.x.json").write_text("[1, 2")
    assert folder.rows(name, timezone="Europe/London") == first


def test_a_file_that_changes_while_it_is_read_is_an_error(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.write("uid,v,ts\n1,a,2024-01-01\n")
    taken_apart = kind._write_copy

    def meanwhile(*given: Any) -> None:
        taken_apart(*given)
        folder.write("uid,v,ts\n1,a,2024-01-01\n2,b,2024-01-01\n")

    monkeypatch.setattr(kind, "_write_copy", meanwhile)
    with pytest.raises(SourceError, match=rf"{path.name} changed while it was read"):
        folder.read()
    monkeypatch.undo()
    assert folder.rows() == [(1, "a"), (2, "b")]


def test_a_damaged_or_removed_copy_is_made_again(folder: Folder) -> None:
    folder.write("uid,v,ts\n1,a,2024-01-01\n")
    folder.read()
    (copy,) = kept(folder)
    copy.write_bytes(copy.read_bytes()[:50])
    assert folder.rows(timezone="Europe/London") == [(1, "a")]
    copy.unlink()
    assert folder.rows() == [(1, "a")]


def test_a_copy_with_a_flipped_bit_is_made_again(folder: Folder) -> None:
    """Parquet's own checksums do not cover all of it, and DuckDB checks none."""
    folder.write("uid,v,ts\n1,a,2024-01-01\n2,b,2024-01-01\n")
    folder.read()
    (copy,) = kept(folder)
    data = copy.read_bytes()
    for at in range(0, len(data), 7):
        copy.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        os.utime(copy, (at, at))  # for a clock that stands still meanwhile
        assert folder.rows() == [(1, "a"), (2, "b")]
        assert copy.read_bytes() == data


def test_rows_that_are_taken_out_of_a_file_are_in_no_copy(folder: Folder) -> None:
    path = folder.write(
        b'\xef\xbb\xbfuid,v,ts\r\n1,a,2024-01-01\r\n\r\n2,"b\r\nb",2024-01-01\r\nx\r\n3,\xe9,2024-01-01\r\n4,d,2024-01-01'
    )
    how: dict[str, Any] = {"on_bad_row": "quarantine"}
    folder.read(**how)
    remove_rows(
        folder.con, source(**how), FileInfo(str(path), 0, 0), Gone([1, 4]), state_dir=folder.state
    )
    assert (
        path.read_bytes()
        == b"\xef\xbb\xbfuid,v,ts\r\n1,a,2024-01-01\r\n\r\nx\r\n3,\xe9,2024-01-01\r\n"
    )
    assert kept(folder) == []
    assert folder.rows(**how) == [(1, "a")]


@pytest.mark.parametrize(
    ("encoding", "ending"), [("utf-16", ""), ("cp1252", ".gz"), ("utf-8", ".zst")]
)
def test_files_of_any_form_are_rewritten(folder: Folder, encoding: str, ending: str) -> None:
    name = f"x.csv{ending}"
    pack = PACKED[ending[1:]] if ending else bytes
    path = folder.write(pack(LINES.encode(encoding)), name)
    of = source(name, encoding=encoding, delimiter=";")
    remove_rows(folder.con, of, FileInfo(str(path), 0, 0), Gone([0]), state_dir=folder.state)
    assert folder.rows(name, encoding=encoding, delimiter=";") == [(2, "x\ny")]


def test_a_file_that_would_not_be_written_back_as_it_is_stays(folder: Folder) -> None:
    data = b"\xfe\xff" + LINES.encode("utf-16-be")
    path = folder.write(data)
    of = source(encoding="utf-16", delimiter=";")
    with pytest.raises(SourceError, match="its utf-16 is not written back byte for byte"):
        remove_rows(folder.con, of, FileInfo(str(path), 0, 0), Gone([0]), state_dir=folder.state)
    assert path.read_bytes() == data


# --- columns that folders' names say --------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_names_of_folders_are_columns_where_the_file_has_none(
    folder: Folder, ending: str
) -> None:
    for region, day in (
        ("e%20u", "2024-01-01"),
        ("us", "2024-01-02"),
        ("__HIVE_DEFAULT_PARTITION__", "2024-01-03"),
    ):
        path = folder.folder / f"region={region}" / f"day={day}" / f"x.{ending}"
        path.parent.mkdir(parents=True)
        table = pa.table({"uid": [int(day[-1])]})
        if ending == "csv":
            path.write_text(f"uid\n{day[-1]}\n")
        else:
            pq.write_table(table, path)
    how: dict[str, Any] = {
        "schema": {"uid": int, "region": str | None},
        "timestamp_field": "day",
        "timezone": "Europe/London",
    }
    name = f"region=*/day=*/x.{ending}"
    read = folder.read(name, **how)
    query = f"SELECT uid, region, __ts // 86400000000 FROM {read.relation} ORDER BY uid"
    days = [(dt.date(2024, 1, n) - dt.date(1970, 1, 1)).days for n in (1, 2, 3)]
    assert folder.con.execute(query).fetchall() == [
        (1, "e u", days[0]),
        (2, "us", days[1]),
        (3, None, days[2]),
    ]
    of = source(name, **how)
    pushed = [
        (row["uid"], row["region"], row["__ts"] // 86_400_000_000)
        for file in read.files
        for row in as_pushed(of, file_rows(of, file, {}, state_dir=None))
    ]
    assert sorted(pushed) == folder.con.execute(query).fetchall()


def test_a_folder_s_name_that_does_not_fit_is_a_bad_row(folder: Folder) -> None:
    folder.write("uid,v,ts\n1,a,2024-01-01\n", "n=x/x.csv")
    with pytest.raises(BadRowError, match=r"row 0 .*column 'n': no int of 64 bits: 'x'"):
        folder.read("n=*/x.csv", schema={"uid": int, "n": int})


def test_a_column_of_the_file_stands_before_a_folder_s_name(folder: Folder) -> None:
    folder.write("uid,v,ts\n1,a,2024-01-01\n", "v=b/x.csv")
    assert folder.rows("v=*/x.csv") == [(1, "a")]


def test_a_copy_that_was_damaged_is_told_to_its_own_store_alone(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("k\n1\n")
    own, other = tmp_path / "own", tmp_path / "other"
    copy = copy_of(str(tmp_path / "x.csv"), Dialect(), other)
    copy_of(str(tmp_path / "x.csv"), Dialect(), other)
    about, data = copy.stat(), copy.read_bytes()
    copy.write_bytes(data[:20] + bytes([data[20] ^ 0x10]) + data[21:])
    os.utime(copy, ns=(about.st_atime_ns, about.st_mtime_ns))
    kind.check_copies_again(own)
    with pytest.raises(SourceError, match="damaged while it was in use"):
        kind.check_copies_again(other)
    assert not copy.exists()
    kind.check_copies_again(other)


# --- lines that are read many at a time -----------------------------------------------------------


def _texts(seed: int) -> str:
    """Lines of two fields, most of them plain, with what a reader may stumble over among them."""
    rng = random.Random(seed)
    plain = [f"{n},a b{n}" for n in range(40)] + ["é,\U0001f600", " 1 ,\t", "NA,", ",", "null,nan"]
    plain += ['"a,b",""', '"NA","6"" pipe"', '"""",1', '2," "']
    odd = [
        '1,"6" pipe"', '1,6"', '1,a"b"', '"1" ,2', "1,2,3", "1", "", "\ufeff1,2",
        "1,a\0b", '1,"x\ny"', '"open,1', "1,2,", "#1,2", "1,\udcff",
    ]  # fmt: skip
    ends = rng.choice([["\n"], ["\r\n"], ["\n", "\r\n", "\r"]])
    share = rng.choice([0.0, 0.02, 0.2])
    lines = [rng.choice(odd if rng.random() < share else plain) for _ in range(rng.randrange(300))]
    text = "".join(line + rng.choice(ends) for line in ["k,v", *lines])
    return text.rstrip("\r\n") if rng.random() < 0.3 else text


@pytest.mark.parametrize("seed", range(60))
def test_lines_that_are_read_together_are_what_they_are_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """With lines, texts, nulls and what is set aside, however the text comes."""
    path = tmp_path / "x.csv"
    path.write_bytes(_texts(seed).encode(errors="surrogateescape"))
    dialect, taken = Dialect(null_values=("NA",)), []
    block = kind._block
    monkeypatch.setattr(kind, "_block", lambda *g, **h: taken.append(block(*g, **h)) or taken[-1])
    pieces = kind.pieces
    size = random.Random(seed).choice([7, 64, 1 << 20])

    def cut(*given: Any) -> Iterator[str]:
        for text in pieces(*given):
            yield from (text[i : i + size] for i in range(0, len(text), size))

    monkeypatch.setattr(kind, "pieces", cut)
    found = []
    for least in (1, 1 << 30):
        monkeypatch.setattr(records, "_LEAST", least)
        kind._write_copy(path, dialect, tmp_path / f"{least}.parquet")
        found.append(pq.read_table(tmp_path / f"{least}.parquet"))
    assert found[0].to_pylist() == found[1].to_pylist()
    about = [kind._about(tmp_path / f"{least}.parquet") for least in (1, 1 << 30)]
    assert about[0] == about[1]
    if about[0]["rows"] > 50 and size > 7 and "\n" in _texts(seed):
        assert any(one is not None for one in taken)
