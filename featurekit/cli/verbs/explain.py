"""`featurekit explain`: shows how one value came about."""

from __future__ import annotations

import datetime as dt
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import UsageError, argument, instant, pair, verb
from featurekit.cli.repo import open_store
from featurekit.cli.values import one_row
from featurekit.core.screen import Screen, shown
from featurekit.core.types import Type
from featurekit.core.types import instant as instant_of
from featurekit.core.values import ERROR
from featurekit.parity.compare import bits
from featurekit.parity.compare import shown as in_full

if TYPE_CHECKING:
    from featurekit.parity.compare import Stated
    from featurekit.parity.diagnose.explanation import Explanation, Seen


@verb(
    "The events that counted, the near misses with the rule that left each out, the nodes of "
    "the transform, the steps of the aggregate. Only reads.",
    argument("service", metavar="SERVICE", help="the service's name"),
    argument("feature", metavar="FEATURE", help="one of its features: its name, or view__feature"),
    argument(
        "values",
        nargs="*",
        type=pair,
        metavar="key=value",
        help="the join keys and request fields",
    ),
    argument("--as-of", type=instant, metavar="T", help="the instant, ISO 8601 (default: now)"),
)
def explain(arguments: Namespace, screen: Screen) -> None:
    """Show how one value came about."""
    if "=" in arguments.feature:
        raise UsageError(
            f"write a FEATURE between the SERVICE and {arguments.feature}, as in `featurekit "
            f"explain {arguments.service} spend_7d {arguments.feature}`"
        )
    if not arguments.values:
        raise UsageError(
            "write key=value for each join key and request field, as in `featurekit explain "
            f"{arguments.service} {arguments.feature} customer_id=1`"
        )
    with open_store(arguments) as store:
        service = store.repo.compiled_services.get(arguments.service)
        types: dict[str, Type] = {}
        if service is not None:  # else `explain` says which services there are
            types = {**service.join_keys, **{p.name: p.type for p in service.request}}
        row = one_row(arguments.values, types)
        made = store.explain(arguments.service, arguments.feature, row, arguments.as_of)
    screen.document(made.to_dict())
    _show_explanation(screen, made)


def _show_explanation(screen: Screen, made: Explanation) -> None:
    """The value on both paths, its events, nodes and steps."""
    row = ", ".join(f"{k} = {v!r}" for k, v in made.row.items())
    screen.line(f"{made.service}: {made.feature} for {row}", style="bold")
    screen.line(f"as of {_when(made.as_of)}: {made.definition}")
    screen.table(
        ("", "value", "status"),
        [("offline", *_stated(made.offline)), ("online", *_stated(made.online))],
    )
    verdict = {True: "every bit agrees", False: "they differ", None: "not compared"}[made.agree]
    screen.line(verdict, style={True: "green", False: "bold red", None: ""}[made.agree])
    for note in made.notes:
        screen.line(f"note: {note}", style="yellow")
    if made.window is not None:
        _show_events(screen, made)
    if made.taken:
        _show_taken(screen, made)
    if made.inputs:
        screen.line("\nWhat it reads", style="bold")
        screen.table(
            ("parameter", "from", "offline", "online"),
            [(name, kind, _pair(a), _pair(b)) for name, kind, a, b in made.inputs],
        )
    if made.steps:
        screen.line("\nThe aggregate", style="bold")
        screen.table(("step", "value"), [(name, shown(value)) for name, value in made.steps])
    if made.nodes:
        screen.line("\nThe transform, node by node", style="bold")
        screen.table(
            ("event", "node", "of", "offline", "online", ""),
            [
                (
                    "" if n.event is None else str(n.event),
                    n.text,
                    ", ".join(f"{name} = {_cell(value)}" for name, value in n.inputs),
                    _cell(n.offline),
                    _cell(n.online),
                    "" if bits(n.offline) == bits(n.online) else "differs",
                )
                for n in made.nodes
            ],
        )


def _show_events(screen: Screen, made: Explanation) -> None:
    assert made.window is not None
    low, high = made.window
    begin = "the beginning" if low is None else _when(low)
    screen.line(f"\nEvents; those in ({begin}, {_when(high)}] count", style="bold")
    if not made.events:
        screen.line("none of this entity")
        return
    late = any(e.row["__ts"] != e.row["__created"] for e in made.events)
    columns = [n for n in made.events[0].row if not n.startswith("__") and n not in made.row]
    valued = any(e.value is not True for e in made.events)
    head = ["", "happened", *(["arrived"] if late else []), *columns]
    head += [*(["input"] if valued else []), "offline", "online", "why"]
    rows = []
    for number, event in enumerate(made.events, 1):
        cells = [str(number), _when(instant_of(event.row["__ts"]))]
        cells += [_when(instant_of(event.row["__created"]))] if late else []
        cells += [_cell(event.row[n]) for n in columns]
        cells += [_cell(event.value)] if valued else []
        rows.append([*cells, _mark(event.offline), _held(event), event.why])
    screen.table(head, rows)
    if made.omitted:
        screen.line(f"and {made.omitted} others further away (or beyond the first that count)")


def _show_taken(screen: Screen, made: Explanation) -> None:
    screen.line("\nWhat the events take from other views", style="bold")
    screen.table(
        ("event", "view", "happened", "arrived", "has", "taken", "why"),
        [
            (
                str(c.event),
                c.view,
                "–" if c.row is None else _when(instant_of(c.row["__ts"])),
                "–" if c.row is None else _when(instant_of(c.row["__created"])),
                ", ".join(f"{name} = {_cell(value)}" for name, value in c.values.items()),
                _mark(c.taken),
                c.why,
            )
            for c in made.taken
        ],
    )


def _held(event: Seen) -> str:
    if event.online is None:
        return "?"
    return "yes" if event.online else "no" if event.known or not event.counts else "not there"


def _mark(counts: bool | None) -> str:
    return "?" if counts is None else "yes" if counts else "no"


def _when(at: dt.datetime) -> str:
    return shown(at)


def _stated(stated: Stated | None) -> tuple[str, str]:
    return ("–", "–") if stated is None else (in_full(stated[0]), stated[1])


def _pair(stated: Stated | None) -> str:
    return "–" if stated is None else f"{_cell(stated[0])} {stated[1]}"


def _cell(value: Any) -> str:
    return "error" if value is ERROR else repr(value) if isinstance(value, str) else shown(value)
