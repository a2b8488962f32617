"""The dashboard of deploy/ is of Grafana's own schema, as its SDK for Python has it: Grafana knows
all that the file says, and each value is of its type."""

from __future__ import annotations

import enum
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError

FILE = Path(__file__).parents[2] / "deploy" / "grafana" / "featurekit.json"


@pytest.fixture(scope="module")
def sdk() -> Any:
    """The module of Grafana's models, which knows every kind of panel and query."""
    models = pytest.importorskip(
        "grafana_foundation_sdk.models.dashboard",
        reason="grafana-foundation-sdk has the schema, and is not there",
    )
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    register_default_plugins()
    return models


@pytest.fixture
def written() -> Any:
    return json.loads(FILE.read_bytes())


def unknown(given: Any, known: Any, where: str = "") -> Iterator[str]:
    """What the file says, and the schema lost or changed."""
    if isinstance(given, dict) and isinstance(known, dict):
        for name, value in given.items():
            if name in known:
                yield from unknown(value, known[name], f"{where}/{name}")
            else:
                yield f"{where}/{name}"
    elif isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        for i, (one, other) in enumerate(zip(given, known, strict=True)):
            yield from unknown(one, other, f"{where}/{i}")
    elif given != known:
        yield where


def mistyped(value: Any, where: str = "") -> Iterator[str]:
    """The values that are of another type than their model declares."""
    if isinstance(value, (list, dict)):
        each = value.items() if isinstance(value, dict) else enumerate(value)
        for name, one in each:
            yield from mistyped(one, f"{where}/{name}")
    elif hasattr(value, "to_json") and not isinstance(value, enum.Enum):
        for name, hint in typing.get_type_hints(type(value)).items():
            one = getattr(value, name)
            adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
            try:
                adapter.validate_python(one)
            except ValidationError:
                yield f"{where}/{name}"
            yield from mistyped(one, f"{where}/{name}")


def faults(sdk: Any, given: Any) -> list[str]:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    made = sdk.Dashboard.from_json(given)
    return [*unknown(given, json.loads(JSONEncoder().encode(made))), *mistyped(made)]


def test_the_dashboard_is_of_grafana_s_schema(sdk: Any, written: Any) -> None:
    assert faults(sdk, written) == []
    assert len({panel["id"] for panel in written["panels"]}) == len(written["panels"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("titel",), "featurekit"),
        (("refresh",), 30),
        (("templating", "list", 0, "hide"), 9),
        (("panels", 1, "gridPos", "height"), 8),
        (("panels", 1, "gridPos", "h"), "eight"),
        (("panels", 1, "fieldConfig", "defaults", "custom", "lineWith"), 1),
        (("panels", 1, "options", "legend", "displayMode"), "lists"),
        (("panels", 1, "targets", 0, "expression"), "up"),
        (("panels", 1, "targets", 0, "expr"), None),
    ],
)
def test_a_fault_of_a_dashboard_is_found(sdk: Any, written: Any, path: Any, value: Any) -> None:
    place = written
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert faults(sdk, written) != []


def test_no_two_panels_lie_over_each_other(written: Any) -> None:
    """Grafana's grid has 24 columns."""
    taken: dict[tuple[int, int], str] = {}
    for panel in written["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
