"""Takes rows out of a source's file: writes it anew beside itself, compares it, and puts it in
place.

A Parquet file keeps its schema, metadata, compression and row groups. In a CSV file every other
line stays as it is, byte for byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.files import sync_file, whole
from featurekit.core.tables import fetch, temp_table
from featurekit.core.types import INT
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError
from featurekit.sources.check import ROW
from featurekit.sources.events import numbered_rows

if TYPE_CHECKING:
    import duckdb


def remove_rows(
    con: duckdb.DuckDBPyConnection, source: EventSource, path: Path, rows: Collection[int]
) -> None:
    """Take rows, by their numbers in the file, out of the file, atomically. SourceError if the file
    changed meanwhile, or if the other rows would not read as before; then it stays as it was."""
    before = path.stat()
    with whole(path) as hidden:
        (_write_csv if source.format == "csv" else _write_parquet)(path, hidden, rows)
        _compare(con, source, path, hidden, rows)
        shutil.copymode(path, hidden)
        sync_file(hidden)
        now = path.stat()
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise SourceError(f"{path} changed while it was rewritten; it is as it was, try again")


def _compare(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    path: Path,
    hidden: Path,
    rows: Collection[int],
) -> None:
    """Check that every other row is in the new file with the values that it had."""
    temp_table(con, "__removed", {"n": INT}, ([row] for row in rows))
    old, new = (numbered_rows(con, source, str(p)) for p in (path, hidden))
    kept = f"(SELECT * FROM {old} WHERE {ROW} NOT IN (SELECT n FROM __removed))"
    shown = f"SELECT * EXCLUDE ({ROW}), row_number() OVER (ORDER BY {ROW}) FROM"
    differing = " UNION ALL ".join(
        f"SELECT * FROM (({shown} {a}) EXCEPT ALL ({shown} {b}))"
        for a, b in ((kept, new), (new, kept))
    )
    if fetch(con, f"SELECT count(*) FROM ({differing})")[0][0]:
        raise SourceError(
            f"{path}: without the rows to remove it would not read as it did; it is as it was, "
            "take them out in the job that writes it"
        )


def _write_parquet(path: Path, target: Path, rows: Collection[int]) -> None:
    import numpy as np
    import pyarrow.parquet as pq

    removed, start = np.fromiter(rows, np.int64), 0
    with pq.ParquetFile(path) as file:
        settings = _settings(file.metadata)
    with pq.ParquetFile(path) as file, pq.ParquetWriter(target, file.schema_arrow, **settings) as w:
        for i in range(file.num_row_groups):
            group = file.read_row_group(i)
            keep = ~np.isin(np.arange(start, start + group.num_rows), removed)
            start += group.num_rows
            if keep.any():
                w.write_table(group.filter(keep), row_group_size=group.num_rows)


def _settings(metadata: Any) -> dict[str, Any]:
    """The compression of the file, and whether its instants have the old 96-bit form."""
    if not metadata.num_row_groups:
        return {}
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    codecs = {c.path_in_schema: c.compression.replace("UNCOMPRESSED", "NONE") for c in columns}
    return {
        "compression": codecs,
        "use_deprecated_int96_timestamps": any(c.physical_type == "INT96" for c in columns),
    }


def _write_csv(path: Path, target: Path, rows: Collection[int]) -> None:
    removed = frozenset(rows)
    with path.open("rb") as file, target.open("wb") as out:
        number = -1  # the header
        for record in _records(file):
            if not record.strip():
                out.write(record)  # an empty line is no row
                continue
            if number not in removed:
                out.write(record)
            number += 1


def _records(lines: Any) -> Iterator[bytes]:
    """The records of a CSV file, each with its line end; a quoted field may contain line ends."""
    record = b""
    for line in lines:
        record += line
        if record.count(b'"') % 2 == 0:
            yield record
            record = b""
    if record:
        yield record
