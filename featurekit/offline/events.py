"""A source's events in DuckDB."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EventRows:
    """A source's rows in DuckDB: columns of the schema, `__ts`, `__created`.

    `prompt`: every event arrived when it happened, so that __created adds nothing (T3). `rows`: how
    many there are, where that is known.
    """

    relation: str
    prompt: bool
    rows: int | None = None
