"""A parameter that does not fit what it reads is refused, and the error says what to write."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count
from featurekit.core.types import from_hint
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.define.parameters import misfit
from featurekit.errors import DefinitionError
from featurekit.language.ir import Param

source = EventSource(
    "events",
    path="events.parquet",
    timestamp_field="at",
    schema={"key": int, "price": float, "units": int | None, "kind": str},
)
key = Entity("entity", {"key": int})


@feature
def whole(price: int) -> int:
    return price


@feature
def sure(units: int) -> int:
    return units


@feature
def known(kind: Literal["a", "b"]) -> str:
    return kind


@feature
def priced(price: float = 1.0) -> float:
    return price


@feature
def of_request(asked: int) -> int:
    return asked


@feature
def of_feature(number: float) -> float:
    return number


@feature
def defaulted(number: int, asked: int = 3) -> int:
    return number + asked


OF_VIEW = {
    "another type": (whole, "@feature whole: 'price' is declared int, and the column is float"),
    "perhaps none": (
        sure,
        "@feature sure: 'units' is declared int, and the column may be None (int | None); "
        "write units: int | None here, and test it for None",
    ),
    "not of a few": (
        known,
        "@feature known: 'kind' is declared Literal['a', 'b'], and the column is str",
    ),
    "a default": (
        priced,
        "@feature priced: 'price' has a default, which makes it a constant, and is also a column; "
        "leave the default out to read it",
    ),
}
OF_SERVICE = {
    "perhaps none": (
        of_request,
        "FeatureService 'service': @feature of_request: 'asked' is declared int, and the request "
        "field may be None (int | None); write asked: int | None here",
    ),
    "another type": (
        of_feature,
        "FeatureService 'service': @feature of_feature: 'number' is declared float, and the "
        "feature is int",
    ),
    "a default": (
        defaulted,
        "FeatureService 'service': @feature defaulted: 'asked' has a default, which makes it a "
        "constant, and is also a request field or a feature here",
    ),
}


HERE = re.escape(__file__)
"""Errors begin with the file and line of the definition."""


@pytest.mark.parametrize("name", OF_VIEW)
def test_a_parameter_that_does_not_fit_its_column_is_refused(name: str) -> None:
    transform, message = OF_VIEW[name]
    view = FeatureView("view", entities=[key], source=source, features={"one": transform})
    place = re.escape(f"FeatureView 'view', feature 'one': {message}")
    with pytest.raises(DefinitionError, match=rf"^{HERE}:\d+: {place}"):
        compile_view(view)


@pytest.mark.parametrize("name", OF_SERVICE)
def test_a_parameter_that_does_not_fit_what_a_service_has_is_refused(name: str) -> None:
    transform, message = OF_SERVICE[name]
    view = FeatureView(
        "view", entities=[key], source=source, features={"number": Count(window="1d")}
    )
    service = FeatureService("service", features=[view, transform], request={"asked": int | None})
    with pytest.raises(DefinitionError, match=rf"^{HERE}:\d+: {re.escape(message)}"):
        compile_service(service)


@pytest.mark.parametrize(
    ("declared", "found"),
    [(int, int), (int | None, int), (int | None, int | None), (str, Literal["a"])],
)
def test_a_parameter_that_fits_has_no_fault(declared: Any, found: Any) -> None:
    assert misfit("f", Param("x", from_hint(declared)), from_hint(found), "the column") is None


def test_fewer_values_than_are_read_could_be_declared_there() -> None:
    param = Param("x", from_hint(Literal["a"]))
    assert misfit("f", param, from_hint(Literal["a", "b"]), "the column") == (
        "@feature f: 'x' is declared Literal['a'], and the column is Literal['a', 'b']"
        "; declare it so there, and reading checks it"
    )
    assert misfit("f", param, from_hint(int), "the column") == (
        "@feature f: 'x' is declared Literal['a'], and the column is int; write x: int here"
    )
    other = "\"x\": Literal['a'] in the schema"
    assert misfit("f", param, from_hint(int), "the column", there=other) == (
        "@feature f: 'x' is declared Literal['a'], and the column is int; write x: int here, or "
        "\"x\": Literal['a'] in the schema"
    )
