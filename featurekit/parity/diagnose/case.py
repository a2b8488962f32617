"""Writes a failing scenario as a pytest case that reproduces it."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Any

from featurekit.core.types import Type, instant
from featurekit.parity.compare import Stated, shown
from featurekit.parity.scenario import Scenario, by_source


def pytest_case(scenario: Scenario, feature: str, offline: Stated, online: Stated) -> str:
    """The text of a test module: literal events in the order of their delivery, one entity row, and
    `assert_parity`, which is to find that both paths agree."""
    name = re.sub(r"\W", "_", feature)
    service = scenario.service
    events = [
        f"        {source!r}: [\n" + "".join(
            f"            {_row(scenario, source, row)},\n" for row in rows
        ) + "        ],\n"
        for source, rows in by_source(scenario.deliveries).items()
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


def _row(scenario: Scenario, source: str, row: dict[str, Any]) -> str:
    views = [v for s in (scenario.service, scenario.online) for v in s.views]
    of_source = next(v.source for v in views if v.source.name == source)
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
