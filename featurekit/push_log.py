"""The offline log of pushed events: Parquet segments beside the repo, read with the source's files.

A segment is written whole under another name and then renamed, so that a reader sees all of a push
or nothing of it.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from featurekit.define import EventSource
from featurekit.to_duckdb import quote, text_literal
from featurekit.types import Type


def log_folder(state_dir: Path, source: str) -> Path:
    """Where the segments of a source lie."""
    return state_dir / "log" / source


def write_segment(state_dir: Path, source: EventSource, rows: Any) -> Path:
    """Keep the rows of a push, an Arrow table with `__ts` and `__created`; the segment's path."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: _stored(rows[name], type_) for name, type_ in source.schema.items()}
    columns |= {name: rows[name] for name in ("__ts", "__created")}
    folder = log_folder(state_dir, source.name)
    folder.mkdir(parents=True, exist_ok=True)
    # Names sort by time of writing; no result depends on it (T6).
    first = min(rows["__created"].to_pylist(), default=0)
    path = folder / f"{first:020d}-{uuid.uuid4().hex}.parquet"
    hidden = path.with_suffix(".writing")
    with hidden.open("wb") as file:
        pq.write_table(pa.table(columns), file)
        file.flush()
        os.fsync(file.fileno())
    hidden.rename(path)
    return path


def _stored(column: Any, type_: Type) -> Any:
    """The column as DuckDB's canonical types have it."""
    import pyarrow as pa

    stored = {"datetime": pa.timestamp("us"), "timedelta": pa.int64()}.get(type_.name)
    return column if stored is None else column.cast(stored)


def segments(state_dir: Path, source: str) -> list[Path]:
    """Every whole segment of a source, in the order of their names."""
    return sorted(log_folder(state_dir, source).glob("*.parquet"))


def log_sql(paths: list[Path], source: EventSource) -> str:
    """The logged events as a relation with the source's columns, `__ts` and `__created`."""
    files = ", ".join(text_literal(str(p)) for p in paths)
    columns = [f"{quote(n)}::{t.duckdb} AS {quote(n)}" for n, t in source.schema.items()]
    return f"(SELECT {', '.join([*columns, '__ts', '__created'])} FROM read_parquet([{files}]))"
