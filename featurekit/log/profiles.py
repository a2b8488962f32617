"""Keeps profiles of what was served: counts of each service, by parts of time, that merge.

A profile is plain data, in which everything is a count, a sum, an extreme or a set. So neither the
order of rows nor their grouping leaves a trace (A2), and the profile of a long time is merged from
those of its parts. A file has what one reading of the log added, and the names of what was read;
it is there whole or not at all, so that each row counts once.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurekit.aggregates.quantiles import bucket, edges
from featurekit.core.few import LEAST_ENTITIES
from featurekit.errors import DataError
from featurekit.log.profile_places import Overtaken, ProfilePlace

FORMAT = 1
MOST_DISTINCT = 1_000
"""A column of more distinct values than that has none of them counted."""
_TRIES = 20
_DAY_US = 86_400_000_000
Profile = dict[str, Any]
"""What is counted of the rows of a service: `rows`, rows of `versions`, `columns` by name and type,
and `repeats` of entities by view and keys."""


# --- merging --------------------------------------------------------------------------------------


def merged(one: Profile, other: Profile) -> Profile:
    """The profile of the rows of both."""
    return {
        "rows": one["rows"] + other["rows"],
        "versions": _added(one["versions"], other["versions"]),
        "columns": _each(one["columns"], other["columns"], _by_type),
        "repeats": _each(one["repeats"], other["repeats"], _by_keys),
    }


def _by_type(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return _each(one, other, merged_column)


def _by_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return _each(one, other, _added)


def _each(
    one: Mapping[str, Any], other: Mapping[str, Any], merge: Callable[[Any, Any], Any]
) -> dict[str, Any]:
    made = dict(one)
    for name, value in other.items():
        made[name] = merge(made[name], value) if name in made else value
    return made


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return _each(one, other, lambda a, b: a + b)


def merged_column(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What is counted of a column in the rows of both."""
    values = None
    if one["values"] is not None and other["values"] is not None:
        values = _each(one["values"], other["values"], _value)
        if len(values) > MOST_DISTINCT:
            values = None
    return {
        "type": one["type"],
        "present": one["present"] + other["present"],
        "null": one["null"] + other["null"],
        "statuses": _added(one["statuses"], other["statuses"]),
        "buckets": _added(one["buckets"], other["buckets"]),
        "values": values,
        "least": _end(min, one["least"], other["least"]),
        "greatest": _end(max, one["greatest"], other["greatest"]),
        "sum": one["sum"] + other["sum"],
        "registers": _each(one["registers"], other["registers"], max),
    }


def _value(one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    """The rows that have a value, and who has it by each key: hashes, or None for enough."""
    mine, theirs = [*one[1]], [*other[1]]
    mine += [[]] * (len(theirs) - len(mine))
    theirs += [[]] * (len(mine) - len(theirs))
    return [one[0] + other[0], [_holders(a, b) for a, b in zip(mine, theirs, strict=True)]]


def _holders(one: Sequence[str] | None, other: Sequence[str] | None) -> list[str] | None:
    if one is None or other is None:
        return None
    both = sorted({*one, *other})
    return both if len(both) < LEAST_ENTITIES else None


def _end(least: Callable[[Iterable[Any]], Any], one: Any, other: Any) -> Any:
    known = [value for value in (one, other) if value is not None]
    return least(known) if known else None


def without_few(profile: Profile) -> Profile:
    """The profile without what few entities have: their values and hashes, and the exact extremes,
    in whose place the ends of their buckets stand."""
    columns = {
        name: {kind: _without_few(column) for kind, column in types.items()}
        for name, types in profile["columns"].items()
    }
    return {**profile, "columns": columns}


def _without_few(column: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(column)
    if column["values"] is not None and column["type"] != "bool":
        made["values"] = {text: told for text, told in column["values"].items() if is_often(told)}
    for name, side in (("least", 0), ("greatest", 1)):
        value = column[name]
        if value is not None and abs(value) != float("inf"):
            made[name] = edges(bucket(float(value)))[side]
    return made


def is_often(told: Sequence[Any]) -> bool:
    """Whether so many entities have a value that it may be told."""
    return bool(told[1]) and all(one is None for one in told[1])


# --- files ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reading of a log added: profiles by service and by the microsecond at which a part
    of time begins, each `every` microseconds long. `taken` has what was read of each log: names of
    files, or the last id of a stream. `replaces` names files whose content is in this one."""

    every: int
    profiles: dict[str, dict[int, Profile]]
    taken: dict[str, list[str]] = field(default_factory=dict)
    replaces: tuple[str, ...] = ()

    def encoded(self) -> bytes:
        """Its bytes, which are the same for the same rows."""
        told = {
            "format": FORMAT,
            "every": self.every,
            "profiles": self.profiles,
            "taken": {log: sorted(names) for log, names in self.taken.items()},
            "replaces": sorted(self.replaces),
        }
        return zlib.compress(json.dumps(told, sort_keys=True, separators=(",", ":")).encode())


def read(place: ProfilePlace) -> dict[str, Reading]:
    """The readings that are in force, by their names. DataError for one that cannot be read."""
    return _listed(place)[1]


def _listed(place: ProfilePlace) -> tuple[list[str], dict[str, Reading]]:
    """All names that are there, and the readings that are in force."""
    found: dict[str, Reading] = {}
    names = place.names()
    for name in names:
        try:
            found[name] = _decoded(place.get(name))
        except FileNotFoundError:  # merged into another one meanwhile, which is read below
            return _listed(place)
        except (OSError, ValueError, KeyError, TypeError, zlib.error) as error:
            raise DataError(
                f"{place.shown(name)} cannot be read: {error}; put it back from a copy, or remove "
                "the folder, so that profiles are made anew of what the log still has"
            ) from None
    replaced = {name for one in found.values() for name in one.replaces}
    if place.shared:
        last = max((name for name, one in found.items() if one.replaces), default="")
        replaced |= {name for name in found if name < last}
    return names, {name: one for name, one in found.items() if name not in replaced}


def _decoded(data: bytes) -> Reading:
    told = json.loads(zlib.decompress(data))
    if told["format"] != FORMAT:
        raise ValueError(f"format {told['format']}, and this featurekit reads {FORMAT}")
    profiles = {
        service: {int(start): one for start, one in parts.items()}
        for service, parts in told["profiles"].items()
    }
    return Reading(told["every"], profiles, told["taken"], tuple(told["replaces"]))


def together(readings: Iterable[Reading], every: int) -> Reading:
    """All readings as one. DataError where one has parts of another length."""
    made = Reading(every, {})
    for one in readings:
        if one.every != every:
            raise DataError(
                f"profiles are kept by parts of {one.every // 1_000_000:,} s, and the settings say "
                f"{every // 1_000_000:,} s; put `every` back, or remove the folder of profiles"
            )
        for service, parts in one.profiles.items():
            mine = made.profiles.setdefault(service, {})
            for start, profile in parts.items():
                mine[start] = merged(mine[start], profile) if start in mine else profile
        for log, names in one.taken.items():
            made.taken[log] = sorted({*made.taken.get(log, ()), *names})
    return made


def compact(place: ProfilePlace, every: int, *, since: int) -> None:
    """Make one reading of all, without parts of before `since`, and without the names of files that
    their log has no longer. The place is `held`; a crash leaves the old readings beside the new
    one, which says that they are not read."""
    there, before = _listed(place)
    whole = together(before.values(), every)
    kept = {
        service: {start: one for start, one in parts.items() if start >= since}
        for service, parts in whole.profiles.items()
    }
    still = _still_elsewhere if place.shared else _still
    taken = {log: still(log, names, since - every) for log, names in whole.taken.items()}
    _replace(place, there, Reading(every, kept, taken, tuple(before)))


def _replace(place: ProfilePlace, there: Sequence[str], reading: Reading) -> None:
    """Add a reading in the place of all that was there when it was made."""
    place.add(reading.encoded())
    for name in there:
        place.remove(name)


def _still(log: str, names: list[str], since: int) -> list[str]:
    if log.startswith("stream:"):
        return sorted(names, key=lambda id_: tuple(map(int, id_.split("-"))))[-1:]
    return [name for name in names if (Path(log) / name).exists()]


def _still_elsewhere(log: str, names: list[str], since: int) -> list[str]:
    """As `_still`, where a file may lie on another machine: its name begins with the instant of its
    first row, so what is older than all that is kept may go."""
    if log.startswith("stream:"):
        return _still(log, names, since)
    return [name for name in names if not name[:20].isdigit() or int(name[:20]) >= since - _DAY_US]


def forget_few(place: ProfilePlace) -> None:
    """Take out of all profiles what few entities have, after one of them was forgotten."""
    if not place.exists():
        return
    for _ in range(_TRIES):
        try:
            with place.held():
                _forget_few(place)
            return
        except Overtaken as error:
            told = error
    raise told


def _forget_few(place: ProfilePlace) -> None:
    there, before = _listed(place)
    if not before:
        return
    every = next(iter(before.values())).every
    whole = together(before.values(), every)
    stripped = {
        service: {start: without_few(profile) for start, profile in parts.items()}
        for service, parts in whole.profiles.items()
    }
    _replace(place, there, Reading(every, stripped, whole.taken, tuple(before)))
