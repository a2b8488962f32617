"""Checks the arrivals that pushed rows bring against the store's clock (S3)."""

from __future__ import annotations

from pathlib import Path

from featurekit.core.types import instant
from featurekit.sources.check import BadRow
from featurekit.sources.quarantine import set_aside
from featurekit.sources.rows import TakenRows, row_error, write_aside


def bound_arrivals(taken: TakenRows, now: int, tolerance_us: int, state_dir: Path | None) -> None:
    """Let a row with an arrival up to `tolerance_us` after the clock, `now`, arrive at the clock.

    A row with a later one is bad: BadRowError, or it is set aside, as the source declares. Rows
    without an arrival of their own stay as they are.
    """
    if not taken.own:
        return
    created = taken.created
    if max(at for at in created if at is not None) <= now:
        return
    reasons: dict[int, str] = {}
    for row, at in enumerate(created):
        if at is None or at <= now + tolerance_us:
            continue
        reason = f"it arrives after the store's clock, which says {instant(now).isoformat()}"
        if taken.source.on_bad_row == "error":
            column = taken.source.created_timestamp_column or "__created"
            raise row_error(
                taken.source, BadRow(taken.number(row), column, reason, instant(at).isoformat())
            )
        reasons[row] = reason
    if reasons:
        _set_aside(taken, reasons, state_dir)
        taken.quarantined += len(reasons)
    kept = [row for row in range(len(created)) if row not in reasons]
    bounded = [None if (at := created[row]) is None else min(at, now) for row in kept]
    taken.replace_arrivals(bounded, kept)


def _set_aside(taken: TakenRows, reasons: dict[int, str], state_dir: Path | None) -> None:
    """Keep the rows as they came, with their reasons."""
    column = taken.source.created_timestamp_column
    told = {taken.number(row): f"{column}: {reason}" for row, reason in reasons.items()}
    if isinstance(taken.given, (list, tuple)):
        lines = [
            {"row": row, "reason": reason, "values": dict(taken.given[row])}
            for row, reason in told.items()
        ]
        set_aside(taken.source, state_dir, lines)
    else:
        write_aside(taken.source, taken.given, told, state_dir)
