"""Turns local times of a named zone into microseconds UTC, in Python and in DuckDB SQL (T1, T2).

Zones come from the pinned `tzdata` package alone: `zoneinfo` by itself prefers the system's files,
and DuckDB's ICU carries its own. The SQL is a tree of CASEs over the clock changes that the data
can meet, so DuckDB never looks up a zone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from featurekit.core.types import EPOCH, INSTANT_MAX, INSTANT_MIN, MICROSECOND, micros
from featurekit.errors import DefinitionError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_NAIVE_EPOCH = EPOCH.replace(tzinfo=None)
_DAY = dt.timedelta(days=1)
_SECOND = dt.timedelta(seconds=1)
# No two changes of tzdata 2026 are closer than 6.9 days (Recife, 2000); a test checks that this
# step misses none.
_PROBE = dt.timedelta(days=2)
# tzdata's tables end in 2087, and its rules repeat with the calendar every 400 years. So a date
# such as 9999-12-31 is read 400 · k years earlier, which avoids listing 16,000 changes.
_FOLD_FROM = 2100
_FOLD_YEARS = 400
_FOLD_US = 146_097 * _DAY // MICROSECOND
# No clock changed before 1844 (Kosrae's date line), so before 1800 every zone has its first offset.
_FIRST_YEAR = 1800


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Every zone of the pinned tzdata, as the package itself lists them."""
    from importlib import resources

    return frozenset((resources.files("tzdata") / "zones").read_text("ascii").split())


@lru_cache(maxsize=1024)
def _load(name: str) -> ZoneInfo:
    from importlib import resources
    from zoneinfo import ZoneInfo

    file = resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
    with file.open("rb") as opened:
        return ZoneInfo.from_file(opened, key=name)


def zone(name: str) -> ZoneInfo:
    """The zone `name` of the pinned tzdata; `DefinitionError` with a hint if there is none (T2)."""
    if not isinstance(name, str) or name not in zone_names():
        raise DefinitionError(
            f"{name!r} is not a time zone of tzdata {tzdata_version()}; {_hint(name)}"
        )
    return _load(name)


def _hint(name: Any) -> str:
    from difflib import get_close_matches

    folded = {known.lower(): known for known in sorted(zone_names())}
    close = get_close_matches(str(name)[:64].lower(), folded, n=1) if isinstance(name, str) else []
    cities = {known.rpartition("/")[2]: folded[known] for known in folded}
    if not close and isinstance(name, str):
        found = get_close_matches(name[:64].lower().replace(" ", "_"), cities, n=1, cutoff=0.75)
        close = [cities[city].lower() for city in found]
    example = folded[close[0]] if close else "Europe/London"
    return f'write its IANA name, as in "{example}"'


@lru_cache(maxsize=1)
def tzdata_version() -> str:
    """The version of the IANA database in the pinned package, such as "2026f" (T2)."""
    from importlib import import_module

    return str(import_module("tzdata").IANA_VERSION)


def _offset(name: str, local: dt.datetime) -> dt.timedelta:
    """Local time minus UTC at a naive local time: fold=0, or the offset before a gap (T1)."""
    offset = zone(name).utcoffset(local.replace(fold=0))
    if offset is None:
        raise DefinitionError(f"the zone {name!r} has no offset at {local}")
    return offset


@lru_cache(maxsize=16384)
def _changes_in(name: str, year: int) -> tuple[dt.datetime, ...]:
    """The local times of `year` at which `_offset` changes, in whole seconds, ascending.

    It probes the very function that the SQL reproduces, so gaps and folds need no rules of their
    own.
    """
    start = dt.datetime(year, 1, 1)
    end = dt.datetime.max.replace(microsecond=0) if year == 9999 else dt.datetime(year + 1, 1, 1)
    changes = []
    offset_at = zone(name).utcoffset
    at, offset = start, offset_at(start)
    while at < end:
        until = at + _PROBE if end - at > _PROBE else end
        after = offset_at(until)
        if after != offset:
            changes.append(_first_with(name, at, until))
        at, offset = until, after
    return tuple(changes)


def _first_with(name: str, low: dt.datetime, high: dt.datetime) -> dt.datetime:
    """The first whole second in (low, high] that has the offset of `high`, found by bisection."""
    before = _offset(name, low)
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if _offset(name, middle) == before:
            low = middle
        else:
            high = middle
    return high


def offset_changes(name: str, low: dt.datetime, high: dt.datetime) -> list[tuple[dt.datetime, int]]:
    """Each change of the offset in (low, high]: its local time, and the offset after it in
    microseconds."""
    found = []
    for year in range(max(low.year, _FIRST_YEAR), high.year + 1):
        for change in _changes_in(name, year):
            if low < change <= high:
                found.append((change, _offset(name, change) // MICROSECOND))
    return found


def offset_us(local: dt.datetime, zone_name: str) -> int:
    """The microseconds to subtract from a naive local time of the zone to get UTC (T1)."""
    return _offset(zone_name, local) // MICROSECOND


def to_utc_us(local: dt.datetime, zone_name: str) -> int:
    """Microseconds UTC of a local time of the zone, fold=0 (T1); an aware time ignores the zone.

    At the ends of the calendar it may lie up to a day outside `INSTANT_MIN`..`INSTANT_MAX`.
    """
    if local.utcoffset() is not None:
        return micros(local)
    naive = local.replace(tzinfo=None)
    return (naive - _NAIVE_EPOCH) // MICROSECOND - offset_us(naive, zone_name)


def local_limits_us(zone_name: str) -> tuple[int, int]:
    """The first and last naive local time, in microseconds, whose UTC instant fits a datetime
    (S1)."""
    first, last = offset_us(dt.datetime.min, zone_name), offset_us(dt.datetime.max, zone_name)
    return max(INSTANT_MIN, INSTANT_MIN + first), min(INSTANT_MAX, INSTANT_MAX + last)


def to_utc_us_sql(local: str, zone_name: str, low: dt.datetime, high: dt.datetime) -> str:
    """DuckDB: BIGINT microseconds UTC of the naive TIMESTAMP expression `local` (T1).

    Exact for local times in [low, high], null for null. `local` is repeated about log2(changes)
    times a row, so it should be a column.
    """
    return utc_us_sql(f"epoch_us({local})", local, zone_name, low, high)


def utc_us_sql(
    us: str,
    local: str,
    zone_name: str,
    low: dt.datetime,
    high: dt.datetime,
    *,
    literal: str = "TIMESTAMP",
) -> str:
    """As `to_utc_us_sql`, given `us`, the floored microseconds of `local`, a column of type
    `literal`."""
    return f"({us} - {_offset_sql(local, zone_name, low, high, literal=literal)})"


def _offset_sql(
    local: str, zone_name: str, low: dt.datetime, high: dt.datetime, *, literal: str
) -> str:
    folded = _FOLD_FROM + _FOLD_YEARS
    if high.year < folded:
        return _tree(local, *_leaves(zone_name, low, high), literal=literal)
    near = _tree(local, *_leaves(zone_name, low, dt.datetime(folded, 1, 1)), literal=literal)
    from_ = dt.datetime(_FOLD_FROM, 1, 1)
    from_us = (from_ - _NAIVE_EPOCH) // MICROSECOND
    earlier = f"make_timestamp({from_us} + (epoch_us({local}::TIMESTAMP) - {from_us}) % {_FOLD_US})"
    leaves = _leaves(zone_name, from_, dt.datetime(folded, 1, 1))
    # A lambda names the folded time; otherwise each of 800 comparisons would compute it.
    tree = _tree("moved", *leaves, literal="TIMESTAMP")
    far = f"list_transform([{earlier}], lambda moved: {tree})[1]"
    if near == tree:
        return near
    # CASE, not a boolean: the branch that is not taken would leave the range of its expression.
    return f"CASE WHEN {local} < TIMESTAMP '{folded}-01-01' THEN {near} ELSE {far} END"


def _leaves(
    zone_name: str, low: dt.datetime, high: dt.datetime
) -> tuple[Sequence[dt.datetime], Sequence[int]]:
    """The changes within the range, and the offsets before, between and after them."""
    changes = offset_changes(zone_name, low, high)
    return [at for at, _ in changes], [offset_us(low, zone_name), *(us for _, us in changes)]


def _tree(
    local: str, changes: Sequence[dt.datetime], offsets: Sequence[int], *, literal: str
) -> str:
    """A balanced tree of CASEs that finds the offset of the last change at or before `local`."""
    if not changes:
        return f"{offsets[0]}::BIGINT"
    middle = len(changes) // 2
    before = _tree(local, changes[:middle], offsets[: middle + 1], literal=literal)
    after = _tree(local, changes[middle + 1 :], offsets[middle + 1 :], literal=literal)
    at = changes[middle].isoformat(sep=" ")
    return f"CASE WHEN {local} < {literal} '{at}' THEN {before} ELSE {after} END"
