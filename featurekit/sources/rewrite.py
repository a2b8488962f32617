"""Takes rows out of a source's file: writes it anew beside itself, compares it, and puts it in
place.

The module of the file's format writes it without the rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.core.files import sync_file, whole
from featurekit.core.tables import fetch, temp_table
from featurekit.core.types import INT
from featurekit.define.definitions import EventSource
from featurekit.define.object_stores import store_of
from featurekit.errors import SourceError
from featurekit.sources.check import ROW
from featurekit.sources.events import numbered_rows
from featurekit.sources.identity import drop_kept
from featurekit.sources.kinds import kind_of
from featurekit.sources.protocol import FileInfo

if TYPE_CHECKING:
    import duckdb


def rewriting(source: EventSource) -> Callable[[EventSource, Path, Path, Collection[int]], None]:
    """The function that writes a file of the source without some rows. SourceError if files of its
    format are not rewritten."""
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
    path: Path,
    rows: Collection[int],
    *,
    state_dir: Path | None = None,
) -> None:
    """Take rows, by their numbers in the file, out of the file, atomically, and out of what
    `state_dir` keeps of it. SourceError if files of the format are not rewritten, if the file
    changed meanwhile, or if the other rows would not read as before; then it stays as it was."""
    rewrite, before = rewriting(source), path.stat()
    with whole(path) as hidden:
        rewrite(source, path, hidden, rows)
        try:
            _compare(con, source, path, hidden, rows, state_dir)
        finally:
            drop_kept(str(hidden), state_dir)
        shutil.copymode(path, hidden)
        sync_file(hidden)
        now = path.stat()
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise SourceError(f"{path} changed while it was rewritten; it is as it was, try again")
    drop_kept(str(path), state_dir)


def _compare(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    path: Path,
    hidden: Path,
    rows: Collection[int],
    state_dir: Path | None,
) -> None:
    """Check that every other row is in the new file with the values that it had."""
    temp_table(con, "__removed", {"n": INT}, ([row] for row in rows))
    old, new = (numbered_rows(con, source, _info(p), state_dir) for p in (path, hidden))
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


def _info(path: Path) -> FileInfo:
    stat = path.stat()
    return FileInfo(str(path), stat.st_size, stat.st_mtime_ns)
