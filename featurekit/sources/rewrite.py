"""Takes rows, and elements of lists, out of a source's file: writes it anew beside itself, compares
it, and puts it in place.

The module of the file's format writes it without them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.core.files import sync_file, whole
from featurekit.core.gone import Gone
from featurekit.core.sql import quote
from featurekit.core.tables import fetch, temp_table
from featurekit.core.types import INT
from featurekit.define.arrivals import Modified
from featurekit.define.definitions import EventSource
from featurekit.define.object_stores import store_of
from featurekit.errors import SourceError
from featurekit.sources.check import ROW
from featurekit.sources.events import numbered_rows
from featurekit.sources.identity import drop_kept
from featurekit.sources.kinds import kind_of
from featurekit.sources.modified import keep_rewritten
from featurekit.sources.protocol import FileInfo

if TYPE_CHECKING:
    import duckdb


def rewriting(source: EventSource) -> Callable[[EventSource, Path, Path, Gone], None]:
    """The function that writes a file of the source without what is gone. SourceError if files of
    its format are not rewritten."""
    if source.frame is not None:
        raise SourceError(
            f"EventSource {source.name!r}: its frame is not rewritten; define the source with a "
            "frame that lacks the rows"
        )
    if source.origin is not None:
        raise SourceError(
            f"EventSource {source.name!r}: {source.origin.text} is not rewritten; take the rows "
            "out there"
        )
    if store_of(source.path) is not None:
        raise SourceError(
            f"EventSource {source.name!r}: objects of {source.path} are not rewritten; take the "
            "rows out there"
        )
    rewrite = kind_of(source).rewrite
    if rewrite is None:
        raise SourceError(
            f"EventSource {source.name!r}: files of format {source.format!r} are not rewritten; "
            "take the rows out in the job that writes them"
        )
    return rewrite


def remove_rows(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    file: FileInfo,
    gone: Gone,
    *,
    state_dir: Path | None = None,
) -> None:
    """Take rows, by their numbers in the file, and elements of lists out of the file, atomically,
    and out of what `state_dir` keeps of it. SourceError if files of the format are not rewritten,
    if the file changed meanwhile, or if the rest would not read as before; then it stays as it
    was."""
    path = Path(file.path)
    rewrite, before = rewriting(source), path.stat()
    with whole(path) as hidden:
        rewrite(source, path, hidden, gone)
        try:
            _compare(con, source, file, hidden, gone, state_dir)
        finally:
            drop_kept(str(hidden), state_dir)
        shutil.copymode(path, hidden)
        if isinstance(source.arrives, Modified):  # the other rows arrived when they did
            os.utime(hidden, ns=(before.st_atime_ns, before.st_mtime_ns))
        sync_file(hidden)
        now = path.stat()
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise SourceError(f"{path} changed while it was rewritten; it is as it was, try again")
    drop_kept(str(path), state_dir)
    keep_rewritten(source, file, state_dir)


def _compare(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    file: FileInfo,
    hidden: Path,
    gone: Gone,
    state_dir: Path | None,
) -> None:
    """Check that everything else is in the new file with the values that it had."""
    temp_table(con, "__removed", {"n": INT}, ([row] for row in gone.rows))
    both = (file, replace(file, path=str(hidden)))
    old, new = (numbered_rows(con, source, one, state_dir) for one in both)
    kept = f"(SELECT * FROM {old} WHERE {ROW} NOT IN (SELECT n FROM __removed))"
    for number, (name, cut) in enumerate(gone.elements.items()):
        pairs = ([n, at] for n, positions in cut.items() for at in positions)
        table, column = f"__cut_{number}", quote(name)
        temp_table(con, table, {"n": INT, "i": INT}, pairs)
        left = (
            f"list_filter({column}, lambda x, i: NOT coalesce(list_contains(__at, i - 1), FALSE))"
        )
        kept = (
            f"(SELECT * EXCLUDE (n, __at) REPLACE ({left} AS {column}) FROM {kept} LEFT JOIN "
            f"(SELECT n, list(i) AS __at FROM {table} GROUP BY n) ON n = {ROW})"
        )
    shown = f"SELECT * EXCLUDE ({ROW}), row_number() OVER (ORDER BY {ROW}) FROM"
    differing = " UNION ALL ".join(
        f"SELECT * FROM (({shown} {a}) EXCEPT ALL ({shown} {b}))"
        for a, b in ((kept, new), (new, kept))
    )
    if fetch(con, f"SELECT count(*) FROM ({differing})")[0][0]:
        raise SourceError(
            f"{file.path}: without the rows to remove it would not read as it did; it is as it "
            "was, take them out in the job that writes it"
        )
