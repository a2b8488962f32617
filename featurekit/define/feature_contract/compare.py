"""Turns two lists of features into what differs between them, feature by feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import ndiff
from typing import Literal

from featurekit.core.attributes import Named
from featurekit.define.feature_contract.document import Column, Feature

What = Literal[
    "gone",
    "new",
    "order",
    "type",
    "null rule",
    "transform",
    "version",
    "entity key",
    "request field",
    "label",
    "profile",
    "training set",
]


@dataclass(frozen=True, slots=True)
class Difference(Named):
    """What differs of `name`, a feature or another part, between one side (`was`) and the other
    (`now`); None where a side has nothing of it. `lines` are those of its definition that differ,
    with "- " or "+ " before them."""

    name: str
    what: What
    was: str | None
    now: str | None
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        was, now = ("nothing" if one is None else one for one in (self.was, self.now))
        return f"{self.name}: {self.what} {was} → {now}"


def of_features(before: Sequence[Feature], after: Sequence[Feature]) -> Iterator[Difference]:
    """What differs between the features of two sides: which are gone or new, and of those that
    both have the order, type, null rule, transform, and the version of the view."""
    was, now = ({f.name: f for f in side} for side in (before, after))
    yield from (Difference(n, "gone", f.type, None) for n, f in was.items() if n not in now)
    yield from (Difference(n, "new", None, f.type) for n, f in now.items() if n not in was)
    old = [n for n in was if n in now]
    places = {n: i for i, n in enumerate(n for n in now if n in was)}
    for place, name in enumerate(old):
        if places[name] != place:
            yield Difference(name, "order", f"place {place + 1}", f"place {places[name] + 1}")
        yield from _of_one(was[name], now[name])


def _of_one(old: Feature, new: Feature) -> Iterator[Difference]:
    if old.type != new.type:
        yield Difference(old.name, "type", old.type, new.type)
    rule, other = (f"{one.nulls} null, {one.empty!r} when empty" for one in (old, new))
    if rule != other:
        yield Difference(old.name, "null rule", rule, other)
    if old.fingerprint != new.fingerprint or old.full_name != new.full_name:
        changed = [line for line in ndiff(old.definition, new.definition) if line[0] in "+-"]
        was, now = (f"{one.full_name} {one.fingerprint[:12]}" for one in (old, new))
        told = tuple(line.rstrip() for line in changed)
        yield Difference(old.name, "transform", was, now, told)
    if old.view_version != new.view_version:
        yield Difference(old.name, "version", _version(old), _version(new))


def _version(one: Feature) -> str | None:
    return None if one.view_version is None else f"{one.view}@{one.view_version[:12]}"


def of_columns(
    what: Literal["entity key", "request field"], before: Sequence[Column], after: Sequence[Column]
) -> Iterator[Difference]:
    """What a row brings on one side, and not, or otherwise, on the other."""
    was, now = ({c.name: c.type for c in side} for side in (before, after))
    for name in {**was, **now}:
        if was.get(name) != now.get(name):
            yield Difference(name, what, was.get(name), now.get(name))
