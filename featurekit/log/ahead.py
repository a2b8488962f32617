"""Sets rows of the log aside that were stamped after the store's clock (S3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from featurekit.core.files import write_whole
from featurekit.core.status import NEVER
from featurekit.core.types import instant
from featurekit.define.definitions import EventSource
from featurekit.log import journal
from featurekit.log.compaction import alone_in
from featurekit.log.journal import SUFFIX
from featurekit.log.segments import (
    log_folder,
    put_journal,
    put_segment,
    read_segment,
    segments,
)
from featurekit.sources.quarantine import fresh

_CREATED = "__created"


def set_ahead_aside(source: EventSource, state_dir: Path, latest: Callable[[], int]) -> int:
    """Move the rows that arrived after `latest` says from the log to the rows set aside; their
    number.

    `latest` is asked once the rows were read, since the clock goes on. The rows are kept with their
    reason in `state_dir`/quarantine/<source>.pushed-<n>.parquet, and are written there first.
    """
    newest = max(map(_newest, segments(state_dir, source.name)), default=NEVER)
    if newest == NEVER or newest <= latest():
        return 0
    folder, moved = log_folder(state_dir, source.name), 0
    with alone_in(folder, wait=True):
        found = sorted(path for path in folder.iterdir() if path.suffix in (".parquet", SUFFIX))
        for path in found:
            if path.suffix == SUFFIX:
                journal.end(path)  # a writer that appends to it goes on in another
        counted = {*segments(state_dir, source.name)}
        for path in found:
            # Of a segment that was joined into another one, the rows are counted there.
            moved += _strip(source, state_dir, path, latest, counted=path in counted)
    return moved


def _strip(
    source: EventSource, state_dir: Path, path: Path, latest: Callable[[], int], *, counted: bool
) -> int:
    """Rewrite a segment without such rows; how many of them were kept, if they are `counted`."""
    import pyarrow.compute as pc

    table = read_segment(path)
    if table is None:
        return 0
    ahead = pc.greater(table[_CREATED], latest())
    late = table.filter(ahead)
    if not late.num_rows:
        return 0
    if counted:
        _keep(source, state_dir, late)
    put = put_journal if path.suffix == SUFFIX else put_segment
    put(path, table.filter(pc.invert(ahead)))
    return int(late.num_rows) if counted else 0


def _keep(source: EventSource, state_dir: Path, rows: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = source.created_timestamp_column or "arrival"
    reasons = [
        f"{column}: it arrived at {instant(at).isoformat()}, after the store's clock"
        for at in rows[_CREATED].to_pylist()
    ]
    made = pa.BufferOutputStream()
    pq.write_table(rows.append_column("reason", pa.array(reasons)), made)
    with fresh(source, state_dir, "parquet") as path:
        write_whole(path, made.getvalue(), durable=True)


def _newest(path: Path) -> int:
    """The newest arrival of a segment; NEVER for one without rows."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if path.suffix == SUFFIX:
        table = read_segment(path)
    else:
        table = pq.read_table(path, columns=[_CREATED], partitioning=None)
    newest = None if table is None else pc.max(table[_CREATED]).as_py()
    return NEVER if newest is None else int(newest)
