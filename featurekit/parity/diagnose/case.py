"""Writes a failing scenario as a pytest case that reproduces it."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from typing import Any

from featurekit.core.types import Type, instant
from featurekit.define.plan import Source
from featurekit.define.union import own_row
from featurekit.parity.compare import Stated, shown
from featurekit.parity.scenario import Scenario, by_source, unite


def pytest_case(scenario: Scenario, feature: str, offline: Stated, online: Stated) -> str:
    """The text of a test module: literal events in the order of their delivery, one entity row, and
    `assert_parity`, which is to find that both paths agree."""
    name = re.sub(r"\W", "_", feature)
    service = scenario.service
    read = {v.source.name: v.source for s in (service, scenario.online) for v in s.fed}
    sources = {one.name: one for source in read.values() for one in source.sources}
    events = [
        f"        {source!r}: [\n" + "".join(
            f"            {_row(sources[source], row)},\n" for row in rows
        ) + "        ],\n"
        for source, rows in _by_source(scenario, read).items()
    ]  # fmt: skip
    types = {**service.join_keys, **{p.name: p.type for p in service.request}}
    asked = [f"{n!r}: {literal(scenario.row[n], types.get(n))}" for n in scenario.row]
    asked.append(f"'event_timestamp': {_instant(scenario.at)}")
    return (
        "import datetime as dt\n\n\n"
        f"def test_{name}_agrees(parity):\n"
        f'    """Seen: offline {_flat(offline)}, online {_flat(online)}."""\n'
        "    parity(\n"
        f"        {service.name!r},\n"
        f"        events={{\n{_indented(''.join(events))}        }},\n"
        f"        entity_rows=[{{{', '.join(asked)}}}],\n"
        f"        features=[{feature!r}],\n"
        "    )\n"
    )


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def _flat(stated: Stated) -> str:
    return f"{shown(stated[0])} {stated[1]}".replace("\\", "\\\\").replace('"', "'")


def _by_source(scenario: Scenario, read: Mapping[str, Source]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each source, each once that several views read alone and in a union (T11)."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, rows in by_source(scenario.deliveries).items():
        of_view: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            source, own = own_row(read[name], row)
            of_view.setdefault(source, []).append(own)
        for source, own_rows in of_view.items():
            unite(found.setdefault(source, []), own_rows)
    return found


def _row(of_source: Source, row: dict[str, Any]) -> str:
    types = {p.name: p.type for p in of_source.schema}
    shown_: dict[str, str] = {
        n: literal(v, types.get(n)) for n, v in row.items() if not n.startswith("__")
    }
    shown_[of_source.timestamp_field] = _instant(row["__ts"])
    created = of_source.created_timestamp_column
    if created is not None:
        shown_[created] = _instant(row["__created"])
    elif row["__created"] != row["__ts"]:
        shown_["__created"] = _instant(row["__created"])
    return "{" + ", ".join(f"{n!r}: {v}" for n, v in shown_.items()) + "}"


def _instant(us: int) -> str:
    at = instant(us)
    parts = [at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond]
    while len(parts) > 3 and parts[-1] == 0:
        parts.pop()
    return f"dt.datetime({', '.join(map(str, parts))}, tzinfo=dt.UTC)"


def literal(value: Any, type_: Type | None = None) -> str:
    """Python that gives the value again, bit for bit."""
    match value:
        case float() if value != value:
            return 'float("nan")'
        case float() if math.isinf(value):
            return f'float("{value}")'
        case dt.datetime():
            us = (value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
            return _instant(us)
        case dt.date():
            return f"dt.date({value.year}, {value.month}, {value.day})"
        case dt.timedelta():
            return f"dt.timedelta({value.days}, {value.seconds}, {value.microseconds})"
        case list() | tuple():
            return f"[{', '.join(literal(v) for v in value)}]"
        case _:
            return repr(value)
