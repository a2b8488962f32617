"""Turns CSV files into scans of text, and text strictly into values of declared types (S1, S4).

A file is read once, in one pass that sees every line and column. What it found is kept as Parquet
in the state folder, under the hash of the file: a row of texts for each record, and for a record
that was set aside its text and the reason. Every later read is of that copy. A header is required.
An unquoted empty field is null, a quoted one is the empty string.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

from featurekit.core.files import whole, write_whole
from featurekit.core.formats import ISO
from featurekit.core.gone import Gone
from featurekit.core.sql import parquet_sql, quote, text_literal
from featurekit.core.types import STR, Type
from featurekit.define.definitions import EventSource
from featurekit.define.dialect import Dialect
from featurekit.errors import SourceError
from featurekit.sources import parquet
from featurekit.sources.check import BadRow, Column, Marks, ReasonInRow, shortened
from featurekit.sources.decoded import encoder, looks_like, opened, pieces, shown
from featurekit.sources.files import snapshot
from featurekit.sources.identity import Identity, folder_in, kept_folder, path_hash
from featurekit.sources.protocol import FileColumn, FileInfo
from featurekit.sources.readings import CSV_COMMA_TEXT, CSV_TEXT, NAN, Reading, text_instants
from featurekit.sources.records import LINE, Record, Records, line_ends

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = [
    "columns",
    "kept",
    "marks",
    "readable",
    "reading",
    "rejected",
    "rewrite",
    "scan",
    "snapshot",
    "without",
]

_LINE, _FAULT, _TEXT = "__featurekit_line", "__featurekit_fault", "__featurekit_text"
_OWN = (_LINE, _FAULT, _TEXT)
_FORMAT = 2
"""The version of the copies, and of the rules by which records are told apart."""
_ABOUT = b"featurekit"
_BATCH = 1 << 16
_STEP = 1 << 20
T = TypeVar("T")
DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
# The texts that float() reads, without underscores, and with blanks as the only spaces.
FLOAT = (
    "(?i) *[+-]?(?:(?:[0-9]+[{point}]?[0-9]*|[{point}][0-9]+)(?:e[+-]?[0-9]+)?|inf|infinity|nan) *"
)

_fault = Reading(
    lambda _: quote(_FAULT), problems=((f"{quote(_FAULT)} IS NOT NULL", ReasonInRow(_FAULT)),)
)
marks = Marks(line=_LINE, aside=Column("", _TEXT, STR.or_none(), _fault))


# --- the copy -------------------------------------------------------------------------------------


def readable(
    source: EventSource, file: FileInfo, state_dir: Path | None, *, most: int | None = None
) -> str:
    """The path of the kept copy of the file's records, which is made if it is absent (S4). With
    `most`, that of a copy of the first records, which is kept for as long as the process lives.
    SourceError for a file that cannot be read to its end, or whose header names no columns."""
    if most is None:
        return str(copy_of(file.path, source.dialect, state_dir))
    first = kept_folder(None) / f"{_stem(file.path, source.dialect)}-first.parquet"
    _write_copy(Path(file.path), source.dialect, first, most=most)
    return str(first)


def copy_of(path: str, dialect: Dialect, state_dir: Path | None) -> Path:
    """The kept copy of the records of the file at `path`; see `readable`."""
    identity = Identity.of(Path(path), state_dir)
    folder = kept_folder(state_dir)
    stem = _stem(path, dialect)
    copy = folder / _copy_name(stem, identity)
    if not _is_whole(copy):
        _write_copy(Path(path), dialect, copy)
        identity.check()
        write_whole(_sum_file(copy), _sum(copy))
        for old in folder.glob(f"{stem}-*"):
            if old.stem != copy.stem:
                old.unlink(missing_ok=True)
    return copy


def _sum_file(copy: Path) -> Path:
    """The file that has the checksum of a copy: Parquet's own do not cover all of it."""
    return copy.with_suffix(".sum")


def _sum(copy: Path) -> bytes:
    _USED.pop(copy, None)
    _USED[copy] = None
    about = copy.stat()
    return _sum_now(copy, about.st_ino, about.st_mtime_ns, about.st_size)


def check_copies_again(state_dir: Path) -> None:
    """SourceError where a copy in the state folder that this process has used is another one now,
    whatever its times and size say; the copy is removed. It is asked where a query could not read
    one."""
    for copy in reversed(list(_USED)):  # those of the query first
        if not copy.is_relative_to(folder_in(state_dir)):
            continue
        with suppress(FileNotFoundError):
            about = copy.stat()
            found = _sum_now.__wrapped__(copy, about.st_ino, about.st_mtime_ns, about.st_size)
            if _sum_file(copy).read_bytes() != found:
                _sum_now.cache_clear()
                copy.unlink()
                raise SourceError(
                    f"{copy}, the kept copy of a CSV file, was damaged while it was in use, and is "
                    "removed; run this again, which makes it anew"
                )


_USED: dict[Path, None] = {}
"""The copies that were used, the last one last."""


@lru_cache(maxsize=4096)
def _sum_now(copy: Path, inode: int, mtime_ns: int, size: int) -> bytes:
    """The checksum of a copy, which is not read again while it is the same file."""
    del inode, mtime_ns
    found = 0
    with copy.open("rb") as file:
        while part := file.read(_STEP):
            found = crc32(part, found)
    return b"%08x %d" % (found, size)


def kept(source: EventSource, file: FileInfo, state_dir: Path) -> Collection[str]:
    """The names of the copy of the file's records as they are now and of its checksum, if there are
    copies."""
    stem = _stem(file.path, source.dialect)
    if not any(folder_in(state_dir).glob(f"{stem}-*.parquet")):
        return ()
    name = _copy_name(stem, Identity.of(Path(file.path), state_dir))
    return name, _sum_file(Path(name)).name


def texts_of(copy: Path) -> tuple[pa.Table, list[BadRow]]:
    """The texts of a copy by the names of its header, without the records that were set aside, and
    those records."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(copy, partitioning=None)
    aside = pc.is_valid(table[_FAULT])
    # Not pc.indices_nonzero: Arrow 26.0.0 ends the process where there is no row.
    rows = [row for row, found in enumerate(aside.to_pylist()) if found]
    faults = [
        BadRow(row, None, fault, shortened(repr(text)), line)
        for row, line, fault, text in zip(
            rows, *(table[name].filter(aside).to_pylist() for name in _OWN), strict=True
        )
    ]
    return table.filter(pc.invert(aside)).drop_columns(list(_OWN)), faults


def _stem(path: str, dialect: Dialect) -> str:
    how = json.dumps([_FORMAT, asdict(dialect)], sort_keys=True)
    return f"{path_hash(path)}-{hashlib.sha256(how.encode()).hexdigest()[:12]}"


def _copy_name(stem: str, identity: Identity) -> str:
    return f"{stem}-{identity.digest[:32]}.parquet"


def _about(copy: Path) -> dict[str, Any]:
    """What a copy says of itself. Raises what reading raises, and KeyError."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(copy)
    about: dict[str, Any] = json.loads((metadata.metadata or {})[_ABOUT])
    if metadata.num_rows != about["rows"] + about["rejects"]:
        raise KeyError("rows")
    return about


def _is_whole(copy: Path) -> bool:
    import pyarrow as pa

    with suppress(OSError, pa.ArrowException, KeyError, ValueError):
        return _sum_file(copy).read_bytes() == _sum(copy) and bool(_about(copy))
    return False


def _write_copy(path: Path, dialect: Dialect, copy: Path, *, most: int | None = None) -> None:
    """Write the copy of all records, every line of which is counted, or of the first ones."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = Records(pieces(path, dialect), dialect)
    names = _header(path, records, dialect)
    header_lines = records.lines
    schema = pa.schema(
        [
            *((name, pa.string()) for name in names),
            (_LINE, pa.int64()),
            (_FAULT, pa.string()),
            (_TEXT, pa.string()),
        ]
    )
    rows = rejects = lines = 0
    blocks = partial(_block, schema=schema, dialect=dialect)
    given: Iterator[Record | pa.RecordBatch] = records.with_blocks(len(names), blocks)
    if most is not None:
        given = islice(records.rest(len(names)), most)
    with (
        whole(copy) as hidden,
        pq.ParquetWriter(hidden, schema, use_dictionary=False, write_statistics=False) as writer,
    ):
        for part in _in_parts(given):
            if isinstance(part, pa.RecordBatch):
                writer.write_batch(part)
                rows, lines = rows + part.num_rows, lines + part.num_rows
                continue
            writer.write_batch(_batch(part, schema, dialect))
            whole_ones = sum(record.fields is not None for record in part)
            rows, rejects = rows + whole_ones, rejects + len(part) - whole_ones
            lines += sum(record.lines for record in part)
        counted = header_lines + lines + records.empty_lines
        if most is None and not counted == records.lines == records.lines_there:
            raise AssertionError(f"{path}: {records.lines_there} lines came in, {counted} went out")
        about = {
            "format": _FORMAT,
            "dialect": asdict(dialect),
            "lines": counted,
            "rows": rows,
            "rejects": rejects,
            "empty_lines": records.empty_lines,
        }
        writer.add_key_value_metadata({_ABOUT: json.dumps(about).encode()})


def _in_parts(given: Iterator[Record | T]) -> Iterator[list[Record] | T]:
    """Blocks, and the records between them, many at a time."""
    held: list[Record] = []
    for one in given:
        if isinstance(one, Record):
            held.append(one)
        if held and (len(held) == _BATCH or not isinstance(one, Record)):
            yield held
            held = []
        if not isinstance(one, Record):
            yield one
    if held:
        yield held


def _block(text: str, line: int, *, schema: pa.Schema, dialect: Dialect) -> pa.RecordBatch | None:
    """Lines that are plain records, split by Arrow's reader of CSV; None where it does not see a
    row in each."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pacsv

    if not (dialect.delimiter + dialect.quote).isascii() or text[0] == "\ufeff" or "\0" in text:
        return None
    names = schema.names[: -len(_OWN)]
    places = [str(place) for place, _ in enumerate(names)]
    with suppress(UnicodeEncodeError, pa.ArrowInvalid):
        data = text.encode()
        table = pacsv.read_csv(
            pa.BufferReader(data),
            pacsv.ReadOptions(column_names=places, block_size=len(data) + 1, use_threads=False),
            pacsv.ParseOptions(delimiter=dialect.delimiter, quote_char=dialect.quote or False),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        rows = table.num_rows
        if rows != line_ends(text):
            return None
        texts = [column.combine_chunks() for column in table.columns]
        if dialect.null_values:
            nulls, null = pa.array(dialect.null_values, pa.string()), pa.scalar(None, pa.string())
            texts = [pc.if_else(pc.is_in(text, nulls), null, text) for text in texts]
        lines = pa.array(range(line, line + rows), pa.int64())
        nothing = pa.nulls(rows, pa.string())
        return pa.RecordBatch.from_arrays([*texts, lines, nothing, nothing], schema=schema)
    return None


def _header(path: Path, records: Records, dialect: Dialect) -> list[str]:
    """The names of the columns; a column without a name is called by its place."""
    fields, fault = records.header()
    names = [name or "" for name in unquoting(replace(dialect, null_values=()))(fields)]
    said = "".join(names)
    if not fault and shown(said) != said:
        what = "say which encoding=… it has" if dialect.declares else "write the file in UTF-8"
        fault = f"it has bytes that are no {dialect.encoding}; {what}"
    if not fault and "\0" in said:
        fault = "it has NUL characters; write the file without them"
    if fault or dialect.encoding.startswith(("utf-16", "utf-32")):
        fault = looks_like(path, dialect) or fault
    if fault:
        raise SourceError(f"{path}: its first line cannot be read as a CSV header ({fault})")
    doubled = sorted({name for name in names if name and names.count(name) > 1})
    if doubled or not any(names):
        what = f"names {doubled[0]!r} twice" if doubled else "is empty"
        raise SourceError(f"{path}: its first line {what}; write a header of distinct names")
    own = next((name for name in names if name in _OWN), None)
    if own is not None:
        raise SourceError(f"{path}: {own!r} is featurekit's own name of a column; rename it")
    return [name or _unnamed(place, names) for place, name in enumerate(names)]


def _unnamed(place: int, names: Collection[str]) -> str:
    name = f"unnamed_{place}"
    while name in names:
        name += "_"
    return name


def _batch(records: Sequence[Record], schema: pa.Schema, dialect: Dialect) -> pa.RecordBatch:
    import pyarrow as pa

    nothing = ("",) * (len(schema) - len(_OWN))
    texts = zip(*(record.fields or nothing for record in records), strict=True)
    read = unquoting(dialect)
    arrays = [pa.array(read(column), pa.string()) for column in texts]
    arrays.append(pa.array([record.line for record in records], pa.int64()))
    if any(record.fault for record in records):
        faults = [record.fault or None for record in records]
        aside = [shown(r.text) if r.fields is None else None for r in records]
        arrays += [pa.array(faults, pa.string()), pa.array(aside, pa.string())]
    else:
        arrays += [pa.nulls(len(records), pa.string())] * 2
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def unquoting(dialect: Dialect) -> Callable[[Iterable[str]], list[str | None]]:
    """Turns fields as they are written into their texts, or None for null."""
    sign, nulls = dialect.quote, frozenset(("", *dialect.null_values))
    twice, quoted_null = sign + sign, frozenset(dialect.null_values)

    def read(fields: Iterable[str]) -> list[str | None]:
        return [
            (None if field in nulls else field)
            if field[:1] != sign or not sign
            else _unless(field[1:-1].replace(twice, sign), quoted_null)
            for field in fields
        ]

    return read


def _unless(text: str, nulls: Collection[str]) -> str | None:
    return None if text in nulls else text


# --- what a kind of source offers -----------------------------------------------------------------


def columns(
    con: duckdb.DuckDBPyConnection, path: str, schema: Mapping[str, Type]
) -> dict[str, FileColumn]:
    """The columns that the header names, all of text."""
    del schema
    kind = CSV_TEXT if _about(Path(path))["dialect"]["decimal"] == "." else CSV_COMMA_TEXT
    return {
        name: FileColumn(kind, found.held)
        for name, found in parquet.columns(con, path, {}).items()
        if name not in _OWN
    }


def scan(paths: Sequence[str], found: Mapping[str, FileColumn]) -> str:
    """A FROM item over copies with equal columns; every column is VARCHAR."""
    del found
    return parquet_sql(paths)


def rejected(
    con: duckdb.DuckDBPyConnection, path: str, found: Mapping[str, FileColumn]
) -> list[tuple[BadRow, dict[str, Any]]]:
    """None: the records that cannot be read are rows of the copy, with the reason."""
    del con, path, found
    return []


def without(path: str, found: Mapping[str, FileColumn], rows: Sequence[int], *, copy: Path) -> str:
    """Not asked for, as no record stops the scan of a copy."""
    raise AssertionError(f"{path}: {rows}, {found}, {copy}")


def rewrite(source: EventSource, path: Path, target: Path, gone: Gone) -> None:
    """Write the file without some rows; every other line stays as it is, byte for byte. It has no
    lists. SourceError where the encoding does not give the same bytes back."""
    removed = frozenset(gone.rows)
    records = Records(pieces(path, source.dialect), source.dialect)
    width = len(records.header()[0])
    lines: set[int] = set()
    for number, record in enumerate(records.rest(width)):
        if number in removed:
            lines.update(range(record.line, record.line + record.lines))
    given, same = hashlib.sha256(), hashlib.sha256()
    kept, all_ = encoder(source.dialect), encoder(source.dialect)
    with opened(target, source.dialect, "wb") as out:
        for number, line in enumerate(_lines(pieces(path, source.dialect)), start=1):
            same.update(all_.encode(line))
            if number not in lines:
                out.write(kept.encode(line))
    with opened(path, source.dialect) as file:
        while data := file.read(1 << 20):
            given.update(data)
    if given.digest() != same.digest():
        raise SourceError(
            f"{path}: its {source.dialect.encoding} is not written back byte for byte; it is as it "
            "was, take the rows out in the job that writes it"
        )


def _lines(texts: Iterator[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces, each with its line end."""
    rest = ""
    for text in texts:
        *lines, rest = LINE.findall(rest + text) or [""]
        yield from lines
    if rest:
        yield from LINE.findall(rest)


def reading(expr: str, found: str, type_: Type, *, zone_name: str) -> Reading | None:
    """How a column of text is read as `type_`; None for bytes, timedeltas and lists (S1)."""
    point = "," if found == CSV_COMMA_TEXT else "."
    match type_.name:
        case "str":
            return Reading(lambda _: expr, touch=f"{expr} IS NULL")
        case "int":
            return _int(expr, point)
        case "float":
            text = expr if point == "." else f"replace({expr}, {text_literal(point)}, '.')"
            number = f"TRY_CAST({text} AS DOUBLE)"
            value = f"CASE WHEN isnan({number}) THEN {NAN} ELSE {number} END"
            plain = f"regexp_full_match({expr}, '-?[0-9]+(?:[{point}][0-9]+)?')"
            return _parsed(expr, FLOAT.replace("{point}", point), value, "no float", plain)
        case "bool":
            value = f"CASE lower({expr}) WHEN 'true' THEN true WHEN 'false' THEN false END"
            plain = f"{expr} IN ('true', 'false')"
            return _parsed(expr, "(?i)true|false", value, "neither true nor false", plain)
        case "date":
            date = f"TRY_CAST({expr} AS DATE)"
            value = f"CASE WHEN {date} >= DATE '0001-01-01' THEN {date} END"
            plain = f"length({expr}) = 10 AND {date}::VARCHAR = {expr}"  # years of 4 digits
            return _parsed(expr, DATE, value, "no ISO date, as in 2011-03-27", plain)
        case "datetime":
            return text_instants(expr, ISO, zone_name)
    return None


def _int(expr: str, point: str) -> Reading:
    """Digits, or digits with nothing but zeros after the point, as a program writes that holds ints
    with nulls as floats; such a number is exact up to 2**53."""
    whole_part = f"TRY_CAST(split_part({expr}, {text_literal(point)}, 1) AS BIGINT)"
    exact = f"{whole_part} BETWEEN -9007199254740992 AND 9007199254740992"
    has_point = f"contains({expr}, {text_literal(point)})"
    value = (
        f"CASE WHEN NOT {has_point} THEN TRY_CAST({expr} AS BIGINT) "
        f"WHEN {exact} THEN {whole_part} END"
    )
    plain = f"TRY_CAST({expr} AS BIGINT)::VARCHAR = {expr}"
    return _parsed(expr, f"[+-]?[0-9]+(?:[{point}]0+)?", value, "no int of 64 bits", plain)


def _parsed(expr: str, pattern: str, value: str, reason: str, plain: str) -> Reading:
    """A text that the pattern knows and that has a value. `plain` is true for the usual ones of
    these and takes DuckDB less time than the pattern does."""
    # The pattern decides: DuckDB's casts accept '2.5' and '1_0' as ints.
    fits = f"regexp_full_match({expr}, {text_literal(pattern)})"
    misfit = (
        f"CASE WHEN {expr} IS NULL THEN FALSE WHEN {plain} THEN ({value}) IS NULL "
        f"ELSE NOT {fits} OR ({value}) IS NULL END"
    )
    return Reading(lambda _: value, ((misfit, reason),))
