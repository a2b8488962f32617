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
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featurekit.push_log import REPLACES, level, log_folder, put_segment, replaced_by, segments

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
        while due := _due(segments(state_dir, source), fan):
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


def _due(paths: list[Path], fan: int) -> list[Path]:
    """Segments of one level and one schema, `fan` of them or more."""
    by_level: dict[int, list[Path]] = {}
    for path in paths:
        by_level.setdefault(level(path), []).append(path)
    for _, found in sorted(by_level.items()):
        if len(found) < fan:
            continue
        alike: dict[Any, list[Path]] = {}
        for path in found:
            alike.setdefault(_schema(path), []).append(path)
        for same in alike.values():
            if len(same) >= fan:
                return same
    return []


@functools.lru_cache(maxsize=4096)  # what a segment holds may change, its columns never
def _schema(path: Path) -> str:
    import pyarrow.parquet as pq

    text: str = pq.read_schema(path).remove_metadata().to_string()
    return text


def _read(path: Path) -> Any:
    """A segment's rows: by itself, since `read_table` first makes a data set of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.BufferReader(path.read_bytes())) as file:
        return file.read(use_threads=False)


def _join(folder: Path, paths: list[Path]) -> None:
    import pyarrow as pa

    table = pa.concat_tables([_read(p).replace_schema_metadata() for p in paths])
    names = {p.name for p in paths}
    # What they stand for may not have been removed yet.
    for path in paths:
        names |= {n for n in replaced_by(path) if (folder / n).exists()}
    table = table.replace_schema_metadata({REPLACES: json.dumps(sorted(names))})
    first = min(p.name.split("-")[0] for p in paths)
    put_segment(folder / f"{first}-{uuid.uuid4().hex}-L{level(paths[0]) + 1}.parquet", table)


def _clean(folder: Path, grace_s: float) -> None:
    """Remove what has been joined into others for long enough, and what a lost process began."""
    before = time.time() - grace_s
    for path in folder.glob("*.writing"):
        with contextlib.suppress(FileNotFoundError):  # it has its name by now
            if path.stat().st_mtime <= before:
                path.unlink()
    old = [p for p in folder.glob("*.parquet") if level(p) and p.stat().st_mtime <= before]
    for name in {name for path in old for name in replaced_by(path)}:
        (folder / name).unlink(missing_ok=True)
