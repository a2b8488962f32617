"""Joins the many small segments of a log of pushes into few, while others push and read.

Sixty-four segments of one level become one of the next, so that n pushes leave about
64 · log64(n) files and every row is copied log64(n) times. A joined segment names those in whose
place it stands; a reader leaves these out, so that it sees each event once whenever it looks. They
stay on disk for as long as a reader that began before may want them.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featurekit.push_log import (
    REPLACES,
    forget_recent,
    level,
    log_folder,
    put_segment,
    recent,
    replaced_by,
    schema_text,
    segment_names,
    written_schema,
)

FAN = 64
GRACE_S = 3600.0
"""How long a reader may take that found a segment before it was joined into another."""


def compact(state_dir: Path, source: str, *, fan: int = FAN, grace_s: float = GRACE_S) -> int:
    """Join what is due; the number of segments that were joined into others.

    Nothing is done while another process does it. The events and their order by T6 stay the same.
    """
    folder = log_folder(state_dir, source)
    if not folder.is_dir():
        return 0
    joined = 0
    with alone_in(folder) as alone:
        if not alone:
            return 0
        _clean(folder, grace_s)
        while due := _due(folder, fan):
            _join(folder, due)
            joined += len(due)
    return joined


@contextlib.contextmanager
def alone_in(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether no other process rewrites the folder's segments; it is kept out meanwhile. With
    `wait` it is, when the other one has ended."""
    with (folder / ".rewriting").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _due(folder: Path, fan: int) -> list[str]:
    """The names of segments of one level and one schema, `fan` of them or more."""
    by_level: dict[int, list[str]] = {}
    for name in segment_names(folder):
        by_level.setdefault(level(name), []).append(name)
    for _, found in sorted(by_level.items()):
        if len(found) < fan:
            continue
        alike: dict[Any, list[str]] = {}
        for name in found:
            alike.setdefault(written_schema(folder, name) or _schema(folder / name), []).append(
                name
            )
        for same in alike.values():
            if len(same) >= fan:
                return same
    return []


@functools.lru_cache(maxsize=4096)  # what a segment holds may change, its columns never
def _schema(path: Path) -> str:
    import pyarrow.parquet as pq

    return schema_text(pq.read_schema(path))


def _read(path: Path) -> Any:
    """A segment's rows: by itself, since `read_table` first makes a data set of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.BufferReader(path.read_bytes())) as file:
        return file.read(use_threads=False)


def _join(folder: Path, names: list[str]) -> None:
    import pyarrow as pa

    known = recent(folder, names)
    tables = [known[n].table if n in known else _read(folder / n) for n in names]
    table = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    # What they stand for may not have been removed yet.
    gone = {n for name in names if level(name) for n in replaced_by(folder / name)}
    replaced = {*names, *(n for n in gone if (folder / n).exists())}
    table = table.replace_schema_metadata({REPLACES: json.dumps(sorted(replaced))})
    first = min(name.split("-")[0] for name in names)
    put_segment(folder / f"{first}-{uuid.uuid4().hex}-L{level(names[0]) + 1}.parquet", table)
    forget_recent(folder, names)


def _clean(folder: Path, grace_s: float) -> None:
    """Remove what has been joined into others for long enough, and what a lost process began."""
    before = time.time() - grace_s
    with os.scandir(folder) as found:
        names = [entry.name for entry in found]
    for path in (folder / name for name in names if name.endswith(".writing")):
        with contextlib.suppress(FileNotFoundError):  # it has its name by now
            if path.stat().st_mtime <= before:
                path.unlink()
    joined = (folder / name for name in names if "-L" in name and level(name))
    old = [path for path in joined if path.stat().st_mtime <= before]
    for name in {name for path in old for name in replaced_by(path)}:
        (folder / name).unlink(missing_ok=True)
