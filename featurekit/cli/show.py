"""Turns what several verbs find into what they show of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurekit.core.screen import Screen
    from featurekit.define.repo import Repo
    from featurekit.project.publishing import Published
    from featurekit.project.registry import Change, Pin
    from featurekit.store import FeatureStore

_SHORT = 12
_ACTIONS = {
    "add": "+ add",
    "change": "~ change",
    "describe": "  describe",
    "remove": "- remove",
    "omit": "! omit",
}
_DIFF = {"+": "green", "-": "red"}


def short(fingerprint: str | None) -> str | None:
    """The beginning of a fingerprint, which tells versions apart for people."""
    return fingerprint and fingerprint[:_SHORT]


def change_document(change: Change) -> dict[str, Any]:
    """A change as programs read it."""
    return {
        "action": change.action,
        "kind": change.kind,
        "name": change.name,
        "old": change.old,
        "new": change.new,
        "features": list(change.details),
        "types": dict(change.features),
        "reasons": list(change.reasons),
        "breaking": list(change.breaking),
    }


def show_changes(screen: Screen, changes: Sequence[Change], *, in_full: bool = False) -> None:
    """A table of changes, or that there are none; `in_full` with the reasons of each, and with the
    types of new features."""
    if not changes:
        screen.line("No changes.")
        return
    rows = []
    for c in changes:
        prints = [p for p in (short(c.old), short(c.new)) if p]
        rows.append(
            (
                _ACTIONS[c.action],
                c.kind,
                c.name,
                " → ".join(dict.fromkeys(prints)),
                " ".join(c.details),
            )
        )
    columns = ("action", "kind", "name", "fingerprint", "features")
    width = 5 if any(c.details for c in changes) else 4
    screen.table(columns[:width], [row[:width] for row in rows])
    for change in changes:
        if in_full:
            _show_reasons(screen, change)
        for what in change.breaking:
            screen.line(f"breaking: service {change.name}: {what}", style="bold red")
    if in_full and any(c.breaking for c in changes):
        screen.line("apply refuses what breaks callers, unless --allow-breaking is given")


def published_document(published: Published) -> dict[str, Any]:
    """What another tool's registry gets, as programs read it."""
    return {
        "action": published.action,
        "kind": published.kind,
        "name": published.name,
        "why": published.why or None,
    }


def show_published(screen: Screen, published: Sequence[Published]) -> None:
    """A table of what another tool's registry gets; nothing where there is nothing."""
    if published:
        screen.line("\nIn the registry that it is published to:")
        rows = [(_ACTIONS[p.action], p.kind, p.name, p.why) for p in published]
        screen.table(("action", "kind", "name", "why"), rows)


def _show_reasons(screen: Screen, change: Change) -> None:
    """What is new in a view or service with its types, or why it has another fingerprint."""
    if change.reasons:
        screen.line(f"\n{change.kind} {change.name} changes:", style="bold")
        for reason in change.reasons:
            screen.line(f"  {reason}", style=_DIFF.get(reason.strip()[:1], ""))
    elif change.features and change.action == "add":
        screen.line(f"\n{change.kind} {change.name}:", style="bold")
        screen.table(("feature", "type"), list(change.features.items()))


def notes_of(store: FeatureStore) -> dict[str, Any]:
    """What to know of the definitions: sources whose rows do not say when they arrived (T3), those
    whose ids are to be remembered and that have none, features of which DuckDB computes parts by
    calling Python, and patterns that may take long. `unnamed` are views and services that a module
    made and does not hold, `deprecated` what is to be given up, and `forgetting` are forgettings
    that did not end."""
    from featurekit.define.parameters import slow_patterns
    from featurekit.project.carried import unended

    repo = store.repo
    read = {s.name: s for v in repo.compiled_views.values() for s in v.source.sources}
    unknown = [n for n, s in sorted(read.items()) if not s.arrival_known]
    lost = [
        {
            "kind": type(d).__name__,
            "name": d.name,
            "place": None if d.place is None else str(d.place),
        }
        for d in repo.unnamed
    ]
    return {
        "arrival_unknown": unknown,
        "ids_unknown": [
            name
            for name in sorted(read)
            if (source := store.parts.source(name)).event_id is None and source.dedupe_within
        ],
        "python_in_duckdb": python_in_duckdb(repo),
        "slow_patterns": slow_patterns(repo.transforms()),
        "unnamed": lost,
        "deprecated": [one.to_dict() for one in repo.deprecations()],
        "forgetting": [
            {"entity": t.entity, "applied_by": t.applied_by, "applied_at": t.applied_at}
            for t in unended(store.registry.tombstones())
        ],
        "pinned": [pin_document(store, one) for one in store.pins()],
    }


def python_in_duckdb(repo: Repo) -> dict[str, list[str]]:
    """What DuckDB computes by calling Python, by the name of the feature: parts of functions (R5),
    and aggregates over the list of a window's inputs."""
    from featurekit.language.to_duckdb import python_parts

    called: dict[str, list[str]] = {}
    for view in repo.compiled_views.values():
        for feature in view.features:
            functions = [f for i in feature.reads if (f := view.slots[i].transform) is not None]
            functions += [] if feature.asked is None else [feature.asked.function]
            if feature.ahead is not None and feature.ahead.function is not None:
                functions.append(feature.ahead.function)
            parts = {p for function in functions for p in python_parts(function)}
            if feature.aggregate is not None and feature.implementation().listed:
                parts.add(f"{feature.aggregate} over lists of inputs")
            if parts:
                called[f"{view.name}.{feature.name}"] = sorted(parts)
    for service in repo.compiled_services.values():
        for output in service.outputs:
            if output.view < 0:
                parts = set(python_parts(service.transforms[output.index].function))
                if parts:
                    called[f"{service.name}.{output.name}"] = sorted(parts)
    return called


def pin_document(store: FeatureStore, one: Pin) -> dict[str, Any]:
    """A pin as programs read it, with the views that are fed for its sake alone."""
    from featurekit.project.pins import extra_views

    return {
        "service": one.service,
        "fingerprint": one.fingerprint,
        "by": one.by,
        "owner": one.owner,
        "until": one.expires,
        "pinned_at": one.pinned_at,
        "extra_views": extra_views(store.parts, one),
    }


def show_pins(screen: Screen, pins: Sequence[Mapping[str, Any]]) -> None:
    """Pins, as `pin_document` writes them, as a table."""
    screen.table(
        ("service", "version", "by", "owner", "until", "feeds for it alone"),
        [
            (
                one["service"],
                short(one["fingerprint"]),
                one["by"],
                one["owner"],
                one["until"],
                ", ".join(one["extra_views"]) or "nothing",
            )
            for one in pins
        ],
    )


def show_notes(screen: Screen, notes: Mapping[str, Any]) -> None:
    """What `notes_of` found, for people."""
    if notes["arrival_unknown"]:
        screen.line(
            f"\narrival unknown: {', '.join(notes['arrival_unknown'])} – rows of files count as "
            "known from their own instant on; name a created_timestamp_column, or say arrives="
        )
    if notes["ids_unknown"]:
        screen.line(
            f"\nids unknown: {', '.join(notes['ids_unknown'])} – dedupe_within says how long keys "
            "of pushes are known, and equal rows count each; name an event_id if they are copies"
        )
    for text in notes["slow_patterns"]:
        screen.line(f"\nwarning: {text}")
    if notes["python_in_duckdb"]:
        screen.line("\nruns as Python inside DuckDB, which is slower:")
        screen.table(
            ("feature", "parts"),
            [(name, ", ".join(found)) for name, found in notes["python_in_duckdb"].items()],
        )
    show_deprecated(screen, notes["deprecated"])
    for one in notes["forgetting"]:
        screen.line(
            f"\nunfinished: the forgetting of a {one['entity']!r} by {one['applied_by']} at "
            f"{one['applied_at'][:19]} did not end, or is under way; its events are read no more, "
            "and the log of pushes may still hold them: run it again (`featurekit forget`)",
            style="yellow",
        )
    if notes["pinned"]:
        screen.line(
            "\npinned, and fed whatever is live; views that no definition has any more cost:"
        )
        show_pins(screen, notes["pinned"])
    for one in notes["unnamed"]:
        screen.line(
            f"\nnot found: {one['place']}: {one['kind']} {one['name']!r} is made, and no name, "
            "list or dict of a module holds it; bind it to a name",
            style="yellow",
        )


def show_deprecated(screen: Screen, found: Sequence[Mapping[str, Any]]) -> None:
    """What is to be given up, with what takes its place, and what of it is past its last day."""
    if not found:
        return
    screen.line("\ndeprecated:")
    screen.table(
        ("name", "kind", "kept until", "use instead", "why"),
        [(d["name"], d["kind"], d["after"], d["use"], d["why"] or None) for d in found],
    )
    late = [f"{d['kind']} {d['name']}" for d in found if d["overdue"]]
    if late:
        screen.line(
            f"overdue: {', '.join(late)}: the last day is over, and the repo still defines it; "
            "remove it, or give it a later day",
            style="bold red",
        )


def show_bad_rows(screen: Screen, bad_rows: Mapping[str, int]) -> None:
    """How many rows of each source's files are set aside, and where they are (S1)."""
    for source, rows in bad_rows.items():
        if rows:
            screen.line(
                f"{rows} bad rows of {source}'s files are set aside and count nowhere; they are in "
                f"quarantine/{source}.* of the state folder.",
                style="yellow",
            )
