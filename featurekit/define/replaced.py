"""Finds the definitions of a list that others of it read in an older form: a cell of a notebook was
run again, and what reads it was not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from featurekit.aggregates.base import Aggregate
from featurekit.define.definitions import Entity, FeatureService, FeatureView
from featurekit.define.parameters import read_transform
from featurekit.errors import CompileError, DefinitionError
from featurekit.language.transform import Transform

Part = Entity | Transform
Holder = FeatureView | FeatureService


class Use(NamedTuple):
    """An entity or a `@feature`, and the view or service that reads it."""

    part: Part
    by: Holder


def replaced(given: Iterable[Any], holders: Iterable[Holder]) -> Iterator[DefinitionError]:
    """An error for each entity and `@feature` that is read in two forms under one name, or was
    given in another form than it is read in."""
    known: dict[Any, list[Use]] = {}
    for use in _uses(holders):
        known.setdefault(part_key(use.part), []).append(use)
    for uses in known.values():
        first = uses[0]
        other = None if _of_a_maker(first.part) else _other(first.part, uses[1:])
        if other is not None:
            yield DefinitionError(
                f"{_named(first.part)} has two forms: {_held(first.by)} reads one, and "
                f"{_held(other.by)} the other; make both once more from the one that you mean, and "
                "what holds them, and give these"
            )
    for part in _parts(given):
        uses = known.get(part_key(part), [])
        older = _other(part, uses)
        if older is not None and not any(_same(part, use.part) for use in uses):
            yield DefinitionError(
                f"{_named(part)} was made anew, and {_held(older.by)} still reads the older one; "
                f"make {older.by.name!r} once more, and what holds it, and give these as well"
            )


def unused(given: Iterable[Any], holders: Iterable[Holder]) -> str | None:
    """The first entity or `@feature` of the given that no view and no service reads, in words; None
    where each is read."""
    used = {part_key(use.part) for use in _uses(holders)}
    return next((_named(part) for part in _parts(given) if part_key(part) not in used), None)


def part_key(part: Part) -> tuple[str, ...]:
    """What is the same for an entity or a `@feature` and one that takes its place."""
    if isinstance(part, Entity):
        return ("Entity", part.name)
    return ("@feature", part.function.__module__, part.function.__qualname__)


def _parts(given: Iterable[Any]) -> Iterator[Part]:
    return (one for one in given if isinstance(one, Entity | Transform))


def _uses(holders: Iterable[Holder]) -> Iterator[Use]:
    for holder in holders:
        if isinstance(holder, FeatureService):
            yield from (Use(one, holder) for one in holder.features if isinstance(one, Transform))
            continue
        yield from (Use(entity, holder) for entity in holder.entities)
        for value in holder.features.values():
            inside = (*value.inputs, value.where) if isinstance(value, Aggregate) else (value,)
            yield from (Use(one, holder) for one in inside if isinstance(one, Transform))


def _of_a_maker(part: Part) -> bool:
    """Whether a function made it, which may make many that are meant to differ."""
    return isinstance(part, Transform) and "<locals>" in part.function.__qualname__


def _other(part: Part, uses: Iterable[Use]) -> Use | None:
    return next((use for use in uses if not _same(part, use.part)), None)


def _same(one: Part, other: Part) -> bool:
    """Whether two of one key compute the same."""
    if not isinstance(one, Transform) or not isinstance(other, Transform):
        return one == other
    if one.function is other.function:
        return True
    if one.on_unsupported != other.on_unsupported:
        return False
    field = one.field or other.field
    try:
        return _compiled(one, field) == _compiled(other, field)
    except (CompileError, DefinitionError):
        return False


def _compiled(transform: Transform, field: str | None) -> str:
    from featurekit.language import walk, wire

    made = Transform(transform.function, on_unsupported=transform.on_unsupported, field=field)
    return wire.fingerprint(walk.rename(read_transform(made)))


def _named(part: Part) -> str:
    return f"Entity {part.name!r}" if isinstance(part, Entity) else f"@feature {part.name!r}"


def _held(holder: Holder) -> str:
    return f"{type(holder).__name__} {holder.name!r}"
