"""What a source is made of whose rows take features from other views, and what is refused (T11)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from featurekit import Delay, Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Sum
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.define.plan import Service
from featurekit.define.published import plan_bytes, read_plan
from featurekit.errors import DefinitionError, PlanRefused

PERSON, ITEM = Entity("person", {"person": int}), Entity("item", {"item": int})
STAMPS = {"timestamp_field": "at", "created_timestamp_column": "arrived"}


def source(name: str, schema: dict[str, Any], **options: Any) -> EventSource:
    return EventSource(name, path=f"{name}.parquet", schema=schema, **STAMPS | options)


prices = source("prices", {"item": int, "price": float, "n": int})
orders = source("orders", {"person": int, "item": int | None, "word": str, "n": int})


@feature
def per_piece(price: float, n: int) -> float:
    return price / n


@feature
def age(as_of: dt.datetime, n: int) -> int:
    return n if as_of.year > 2000 else 0


def products(features: Any = None, of: EventSource = prices, **options: Any) -> FeatureView:
    wanted = features or {"price": "price"}
    return FeatureView("products", entities=[ITEM], source=of, features=wanted, **options)


def spent(of: Any, **features: Any) -> FeatureView:
    wanted = features or {"last": Last("price", window="1d")}
    return FeatureView("spent", entities=[PERSON], source=of, features=wanted)


def service(**options: Any) -> Service:
    joined = orders.join(products(**options), on="item", take={"price": "price"})
    return compile_service(FeatureService("s", features=[spent(joined)]))


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no view": (lambda: orders.join("products", on="item"), "takes features of a FeatureView"),
    "aggregates": (
        lambda: orders.join(products({"n": Count(window="1d")}), on="item"),
        "its features are aggregates",
    ),
    "unknown arrivals": (
        lambda: orders.join(
            products(of=source("p", prices.schema, created_timestamp_column=None)), on="item"
        ),
        "does not say when rows arrived",
    ),
    "no such column": (lambda: orders.join(products(), on="itm"), "did you mean 'item'"),
    "another type": (lambda: orders.join(products(), on="word"), "write one type at both"),
    "an element of a list": (
        lambda: source("baskets", {"items": list[int]}).join(products(), on={"item": "items"}),
        "the column 'items' of source 'baskets' is list[int]; a row takes features before "
        "explode= makes events of its elements, and a list names no one row of the view; "
        "write the elements as rows of a source",
    ),
    "no key": (lambda: orders.join(products(), on={"sku": "item"}), 'write on="item"'),
    "no such feature": (
        lambda: orders.join(products(), on="item", take=["prise"]),
        "did you mean 'price'",
    ),
    "nothing": (lambda: orders.join(products(), on="item", take=[]), "lists features of it"),
    "a name that is there": (
        lambda: orders.join(products({"n": "n"}), on="item"),
        'take={"n": "products_n"}',
    ),
    "itself": (
        lambda: prices.join(products(), on="item", take={"price": "other"}),
        "an event would wait for itself",
    ),
    "itself by another": (
        lambda: prices.join(
            FeatureView(
                "last_order",
                entities=[PERSON],
                source=orders.join(products(), on="item"),
                features={"price": "price"},
            ),
            on={"person": "n"},
            take={"price": "p"},
        ),
        "an event would wait for itself",
    ),
    "what may err": (
        lambda: compile_view(
            spent(orders.join(products({"price": per_piece}), on="item"))
        ),
        "may be an error",
    ),
    "the instant": (
        lambda: compile_view(spent(orders.join(products({"price": age}), on="item"))),
        "takes the instant",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_joined_is_refused_with_what_to_write(name: str) -> None:
    make, said = WRONG[name]
    with pytest.raises(DefinitionError, match=re.escape(said)):
        make()


def test_a_delay_says_when_rows_arrive() -> None:
    late = source("p", prices.schema, created_timestamp_column=None, arrives=Delay("6h"))
    assert compile_view(spent(orders.join(products(of=late), on="item"))).source.joins


def test_a_plan_with_joins_is_of_format_5_and_comes_back() -> None:
    made = service()
    assert b'"format":5' in plan_bytes(made)
    assert read_plan(plan_bytes(made)) == made
    assert [view.name for view in made.fed] == ["products", "spent"]
    assert [view.name for view in made.stored] == ["spent"]


def test_the_other_view_is_part_of_the_fingerprint_but_not_what_describes_it() -> None:
    plain = service().views[0].fingerprint
    assert service(ttl="1d").views[0].fingerprint != plain
    assert service(history="1d").views[0].fingerprint != plain
    assert service(on_error="fail").views[0].fingerprint == plain
    assert service(description="of the list").views[0].fingerprint == plain


@pytest.mark.parametrize("part", ["keys", "takes", "names", "kind"])
def test_a_plan_that_forges_a_join_is_refused(part: str) -> None:
    made = service()
    view = made.views[0]
    assert view.source.parts is not None
    (one,) = view.source.parts
    assert one.joins is not None
    (join,) = one.joins
    forged = {
        "keys": replace(join, keys=("word",)),
        "takes": replace(join, takes=(7,)),
        "names": replace(join, names=("n",)),
        "kind": replace(join, view=replace(join.view, kind="window")),
    }[part]
    parts = (replace(one, joins=(forged,)),)
    other = replace(view, source=replace(view.source, parts=parts))
    with pytest.raises(PlanRefused):
        read_plan(plan_bytes(replace(made, views=(other,))))


def test_what_is_taken_is_used_like_any_column() -> None:
    joined = orders.join(products(), on="item").join(
        products({"n": "n"}), on="item", take={"n": "pieces"}
    )
    view = compile_view(
        spent(joined, total=Sum("pieces", window="1d"), last=Last("price", window="1d"))
    )
    assert [str(f.type) for f in view.features] == ["int | None", "float | None"]
