"""Joins the many small segments of a log of pushes into few, while other processes push and read.

Sixty-four segments of one level become one of the next. So n segments leave about 64 · log64(n)
files, and every row is copied log64(n) times. A journal that has ended becomes a segment by itself.
A joined segment names the segments that it replaces, and a reader leaves those out: so it sees each
event once at any time. The replaced files stay on disk for as long as a reader that began earlier
may need them.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from featurekit.core.files import WRITING, locked
from featurekit.log import journal
from featurekit.log.journal import SUFFIX, claims_in, with_claims
from featurekit.log.segments import (
    REPLACES,
    level,
    log_folder,
    put_segment,
    read_segment,
    replaced_by,
    schema_of,
    segment_names,
)

FAN = 64
_BEGUN = 1 << 16
"""A journal may have up to this many bytes and still hold no push: more than a schema takes."""
PATIENCE_S = 60.0
GRACE_S = 3600.0
"""How long a reader may still read a segment after it was joined into another."""


Open = Callable[[list[str]], Sequence[str]]
"""Those of some claims that somebody may still look for in the log."""


def _every(claims: list[str]) -> Sequence[str]:
    return claims


def compact(
    state_dir: Path,
    source: str,
    *,
    fan: int = FAN,
    grace_s: float = GRACE_S,
    open_claims: Open = _every,
) -> int:
    """Join the segments that are due; returns how many were joined into others.

    It does nothing while another process joins. The events and their order by T6 stay the same.
    The claims of pushes are kept that are open.
    """
    folder = log_folder(state_dir, source)
    if not folder.is_dir():
        return 0
    joined = 0
    with alone_in(folder) as alone:
        if alone is None:
            return 0
        _clean(folder, grace_s)
        while due := _due(folder, fan):
            _join(folder, due, open_claims)
            joined += len(due)
    return joined


def alone_in(folder: Path, *, wait: bool = False) -> AbstractContextManager[int | None]:
    """Keep other processes from rewriting the folder's segments. Gives None if one is rewriting
    them now; with `wait`, if that one takes longer than a minute."""
    return locked(folder / ".rewriting", wait_s=PATIENCE_S if wait else 0.0)


def _due(folder: Path, fan: int) -> list[str]:
    """The names of at least `fan` segments of one level and one schema, or of one journal that has
    ended; empty if nothing is due."""
    by_level: dict[int, list[str]] = {}
    for name in segment_names(folder):
        if name.endswith(SUFFIX) and journal.has_ended(folder / name):
            return [name]
        by_level.setdefault(level(name), []).append(name)
    for _, found in sorted(by_level.items()):
        if len(found) < fan:
            continue
        alike: dict[str, list[str]] = {}
        for name in found:
            schema = schema_of(folder / name)
            if schema is not None:
                alike.setdefault(schema, []).append(name)
        for same in alike.values():
            if len(same) >= fan:
                return same
    return []


def _join(folder: Path, names: list[str], open_claims: Open) -> None:
    import pyarrow as pa

    for name in names:
        if name.endswith(SUFFIX):
            journal.end(folder / name)  # a later append would be lost
    read = [read_segment(folder / name) for name in names]
    claims = [c for table in read if table is not None for c in claims_in(table.schema)]
    tables = [table.replace_schema_metadata() for table in read if table is not None]
    if not tables:
        for name in names:
            (folder / name).unlink()
        return
    table = pa.concat_tables(tables)
    # The segments that these replace may still exist.
    gone = {n for name in names if level(name) for n in replaced_by(folder / name)}
    replaced = {*names, *(n for n in gone if (folder / n).exists())}
    # Asked after the files were read, to which nobody adds any more: a claim that is over by now
    # stays so.
    table = with_claims(table, open_claims(claims) if claims else ())
    about = {**(table.schema.metadata or {}), REPLACES: json.dumps(sorted(replaced))}
    table = table.replace_schema_metadata(about)
    first = min(name.split("-")[0] for name in names)
    put_segment(folder / f"{first}-{uuid.uuid4().hex}-L{level(names[0]) + 1}.parquet", table)


def _clean(folder: Path, grace_s: float) -> None:
    """Remove segments that were joined into others long enough ago, and files that a dead process
    began."""
    before = time.time() - grace_s
    with os.scandir(folder) as found:
        names = [entry.name for entry in found]
    for path in (folder / name for name in names if name.endswith(WRITING)):
        with contextlib.suppress(FileNotFoundError):  # it was renamed meanwhile
            if path.stat().st_mtime <= before:
                path.unlink()
    for path in (folder / name for name in names if name.endswith(SUFFIX)):
        about = path.stat()
        if about.st_mtime <= before and about.st_size <= _BEGUN:
            journal.discard(path)
    segments = [name for name in names if name.endswith(".parquet")]
    joined = (folder / name for name in segments if "-L" in name and level(name))
    old = [path for path in joined if path.stat().st_mtime <= before]
    for name in {name for path in old for name in replaced_by(path)}:
        (folder / name).unlink(missing_ok=True)
