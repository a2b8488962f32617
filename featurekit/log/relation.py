"""Turns the log of pushed events into a relation of DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featurekit.core.sql import quote
from featurekit.define.definitions import EventSource
from featurekit.log.segments import INSTANTS, looked, segment_column


def log_sql(con: Any, paths: Sequence[Path], source: EventSource) -> str:
    """The logged events as a relation of `con` with the source's columns, `__ts` and `__created`.

    A column that was added to the schema after a push is null in the rows of that push. SourceError
    if the log does not fit today's schema: another type, or a null in a column that may not be None
    (S1). A journal is read now, once; reading the relation again does not read the journal again.
    """
    parts = []
    for path in paths:
        found = looked(con, path)
        if found is not None:
            columns = [segment_column(found, source, name, t) for name, t in source.schema.items()]
            parts.append(f"SELECT {', '.join([*columns, *INSTANTS])} FROM {found.relation}")
    if not parts:
        typed = [
            *((n, t.duckdb) for n, t in source.schema.items()),
            *((n, "BIGINT") for n in INSTANTS),
        ]
        return f"(SELECT {', '.join(f'NULL::{t} AS {quote(n)}' for n, t in typed)} WHERE FALSE)"
    return f"({' UNION ALL '.join(parts)})"
