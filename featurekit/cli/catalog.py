"""Turns the items of a catalog into tables for people, and JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import argument
from featurekit.cli.show import short
from featurekit.core.screen import shown

if TYPE_CHECKING:
    from featurekit.core.screen import Screen
    from featurekit.define.deprecated import Deprecation
    from featurekit.results import Item


SOUGHT = (
    argument("--owner", metavar="NAME", help="only of this owner; a part of the name will do"),
    argument(
        "--tag",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="only with this tag; may be given several times",
    ),
    argument("--deprecated", action="store_true", help="only what is to be given up"),
)
"""The options of verbs that look something up."""


def plural(kind: str) -> str:
    """The word for several of a kind."""
    return "entities" if kind == "entity" else f"{kind}s"


def item_document(item: Item) -> dict[str, Any]:
    """An item as programs read it."""
    return {
        "kind": item.kind,
        "name": item.name,
        "type": item.type,
        "description": item.description,
        "owner": item.owner,
        "tags": dict(item.tags),
        "version": item.version,
        "state": item.state,
        "fresh_until": item.fresh_until,
        "place": item.place,
        "deprecated": item.deprecated and item.deprecated.to_dict(),
        **item.details,
    }


def show_items(screen: Screen, items: Sequence[Item], *, kinds: bool = False) -> None:
    """A table of items: a line each, with their kinds where these differ."""
    rows = []
    for item in items:
        fresh = item.fresh_until and item.fresh_until.replace(microsecond=0)
        kind = [item.kind] if kinds else []
        rows.append(
            [
                item.name,
                *kind,
                item.type,
                item.owner or None,
                short(item.version),
                item.state,
                fresh,
                item.deprecated and _kept_until(item.deprecated),
            ]
        )
    head = [
        "name",
        *(["kind"] if kinds else []),
        "type",
        "owner",
        "version",
        "state",
        "fresh until",
        "deprecated",
    ]
    kept = [i for i in range(len(head)) if i < 2 or any(row[i] is not None for row in rows)]
    screen.table([head[i] for i in kept], [[row[i] for i in kept] for row in rows])


def show_item(screen: Screen, item: Item) -> None:
    """All there is to know of an item."""
    screen.line(f"{item.kind} {item.name}", style="bold")
    if item.description:
        screen.line(item.description)
    rows = [
        ("type", item.type),
        ("owner", item.owner or None),
        ("tags", dict(item.tags) or None),
        ("version", item.version),
        ("state", item.state),
        ("fresh until", item.fresh_until),
        ("deprecated", item.deprecated and item.deprecated.text),
        ("written at", item.place),
        *((name.replace("_", " "), _cell(value)) for name, value in item.details.items()),
    ]
    screen.table(("", ""), [(name, shown(value)) for name, value in rows if value is not None])


def _kept_until(found: Deprecation) -> str:
    return f"{found.said.day}{' (over)' if found.overdue() else ''}"


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {one}" for name, one in value.items()) or None
    return ", ".join(map(str, value)) or None if isinstance(value, list) else value
