"""A file of the log of pushes that is not as it was written is an error that names it, never other
rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import EventSource
from featurekit.errors import DamagedLog
from featurekit.log import compaction, journal
from featurekit.log.relation import log_sql
from featurekit.log.segments import log_folder, read_segment, segments, write_segment
from featurekit.log.sums import check_footer
from featurekit.log.writer import PushLog
from featurekit.offline.buckets import explaining_disk

SOURCE = EventSource(
    "orders",
    path="orders.parquet",
    schema={"key": int, "x": float, "word": str | None},
    timestamp_field="at",
)


def rows(first: int, n: int = 3) -> list[dict[str, Any]]:
    return [
        {"key": i, "x": i + 0.1, "word": None if i % 3 else "é" * i, "__ts": i, "__created": 10 * i}
        for i in range(first, first + n)
    ]


def read(path: Path) -> list[Any]:
    """The rows of a segment, as a training set reads them."""
    with duckdb.connect() as con:
        return con.execute(f"SELECT * FROM {log_sql(con, [path], SOURCE)} ORDER BY ALL").fetchall()


def outcome(path: Path) -> str:
    """The rows, or the error that says that the file is damaged."""
    try:
        return repr(read_segment(path).to_pydict())
    except DamagedLog as error:
        return str(error)


def a_segment(folder: Path) -> Path:
    return write_segment(folder, SOURCE, rows(0))


def a_joined_segment(folder: Path) -> Path:
    for i in range(3):
        write_segment(folder, SOURCE, rows(3 * i))
    compaction.compact(folder, SOURCE.name, fan=3)
    (path,) = segments(folder, SOURCE.name)
    return path


def a_journal(folder: Path) -> Path:
    log = PushLog(folder)
    for i in range(3):
        log.keep(SOURCE, rows(3 * i))
    log.close()
    (path,) = segments(folder, SOURCE.name)
    return path


def an_ended_journal(folder: Path) -> Path:
    path = a_journal(folder)
    journal.end(path)
    return path


KINDS = [a_segment, a_joined_segment, a_journal, an_ended_journal]


@pytest.mark.parametrize("make", KINDS)
def test_a_flipped_bit_of_any_byte_is_an_error_that_names_the_file(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    right, known = outcome(path), path.read_bytes()
    unseen = 0
    for i in range(len(known)):
        changed = bytearray(known)
        changed[i] ^= 1 << i % 8
        path.write_bytes(changed)
        found = outcome(path)
        assert path.name in found or found == right
        unseen += found == right
    # A flip in the name under which a footer has its checksums: nothing else is wrong with it.
    assert unseen <= (15 if path.suffix == ".parquet" else 0)


@pytest.mark.parametrize("ask", [read_segment, check_footer])
def test_a_damaged_segment_is_neither_joined_nor_believed(
    tmp_path: Path, ask: Callable[[Path], Any]
) -> None:
    path = a_joined_segment(tmp_path)
    data = path.read_bytes()
    at = data.rindex(b".parquet")  # in what the footer says that it replaces
    path.write_bytes(data[:at] + b"!" + data[at + 1 :])
    with pytest.raises(DamagedLog, match="checksum of its footer"):
        ask(path)


@pytest.mark.parametrize("make", [a_segment, a_joined_segment])
def test_a_copy_of_a_segment_under_another_name_does_not_count_twice(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    other = "1" if path.name[30] == "0" else "0"
    copy = path.with_name(path.name[:30] + other + path.name[31:])
    copy.write_bytes(path.read_bytes())
    with pytest.raises(DamagedLog, match="under its own name"):
        read(copy)


def test_a_segment_of_a_release_without_checksums_is_read(tmp_path: Path) -> None:
    path = a_segment(tmp_path)
    right = read(path)
    pq.write_table(pq.read_table(path).replace_schema_metadata(), path)
    assert read(path) == right


@pytest.mark.parametrize("kind", [a_segment, a_joined_segment])
def test_damage_after_the_check_is_told_by_its_file_where_a_query_fails(
    tmp_path: Path, kind: Callable[[Path], Path]
) -> None:
    """With the times and the size of before, as by a bit that flipped on the disk."""
    path = kind(tmp_path)
    good, about, told = path.read_bytes(), path.stat(), list[str]()
    right = read(path)
    for at in range(4, len(good), 23):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
        try:
            with explaining_disk(tmp_path):
                read(path)
        except DamagedLog as error:
            told.append(str(error))
            path.write_bytes(good)
            os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
            assert read(path) == right
    assert len(told) > 5
    assert all(path.name in text for text in told)


def test_a_query_that_fails_looks_at_the_files_of_its_own_store_alone(tmp_path: Path) -> None:
    """Another store's damage is told where that store is asked."""
    own, other = tmp_path / "own", tmp_path / "other"
    path = a_segment(other)
    good, about = path.read_bytes(), path.stat()
    read(path)
    path.write_bytes(good[:20] + bytes([good[20] ^ 0x10]) + good[21:])
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(duckdb.CatalogException), explaining_disk(own), duckdb.connect() as con:
        con.execute("SELECT * FROM nothing")
    with pytest.raises(DamagedLog), explaining_disk(other), duckdb.connect() as con:
        con.execute("SELECT * FROM nothing")


def test_a_journal_that_was_cut_short_is_a_push_that_never_returned(tmp_path: Path) -> None:
    path = a_journal(tmp_path)
    whole = path.read_bytes()
    starts = [i for i in range(len(whole)) if whole.startswith(b"fkj1", i)]
    # Every length within the record's head, and every seventh of what follows.
    sizes = range(starts[-1], len(whole))
    for size in (*sizes[:64], *sizes[64::7], sizes[-1]):
        path.write_bytes(whole[:size])
        assert len(read(path)) == 6


@pytest.mark.parametrize("written", [0, 512, 1024])
def test_sectors_that_a_power_failure_left_empty_are_a_push_that_never_returned(
    tmp_path: Path, written: int
) -> None:
    path = a_journal(tmp_path)
    log = journal.read(path)
    columns = [["x" * 9] * 400 if name == "word" else [0] * 400 for name in log.schema.names]
    table = pa.table(columns, names=log.schema.names)
    data, at = path.read_bytes(), log.size
    last = journal.record(table.cast(log.schema).to_batches()[0].serialize(), at)
    kept = last[: written + (-at % 512 if written else 0)]
    path.write_bytes(data + kept + bytes(len(last) - len(kept)))
    assert len(read(path)) == 9
    path.write_bytes(data + last)
    assert len(read(path)) == 409


def test_the_folder_of_a_source_with_a_damaged_file_cannot_be_read(tmp_path: Path) -> None:
    path = a_journal(tmp_path)
    write_segment(tmp_path, SOURCE, rows(20))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert sorted(log_folder(tmp_path, SOURCE.name).iterdir()) == segments(tmp_path, SOURCE.name)
    with duckdb.connect() as con, pytest.raises(DamagedLog, match="last record"):
        log_sql(con, segments(tmp_path, SOURCE.name), SOURCE)
