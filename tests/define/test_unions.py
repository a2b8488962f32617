"""What a view over several sources is made of, and what is refused (T11, F0, F1)."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import duckdb
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Count, Last, Sum
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.define.explode import exploded_rows, exploded_sql
from featurekit.define.identity import ViewIdentity
from featurekit.define.published import plan_bytes, read_plan
from featurekit.define.union import own_row, taken_rows
from featurekit.define.verify import verify_service
from featurekit.errors import DefinitionError
from featurekit.language import wire
from featurekit.language.verify import Unsound

CUSTOMER = Entity("customer", {"customer": int})


def source(name: str, schema: Any = None, **options: Any) -> EventSource:
    made = {"customer": int, "amount": float, "word": str | None} if schema is None else schema
    return EventSource(name, path=f"{name}.parquet", schema=made, timestamp_field="at", **options)


web = source("web", {"customer": int, "amount": float, "word": str | None, "url": str})
app = source("app", {"price": float, "user": int, "word": str | None, "screen": str})
SHARED = {"customer": "user", "amount": "price"}


def view(sources: Any, features: Any = None, **options: Any) -> FeatureView:
    given = {"total": Sum("amount", window="7d")} if features is None else features
    return FeatureView("spent", entities=[CUSTOMER], sources=sources, features=given, **options)


def refused(*sources: Any, **options: Any) -> str:
    with pytest.raises(DefinitionError) as error:
        compile_view(view(list(sources), **options))
    return str(error.value)


# --- columns --------------------------------------------------------------------------------------


def test_the_columns_of_a_union_are_those_that_every_source_has() -> None:
    made = view([web, {app: SHARED}])
    assert {n: str(t) for n, t in made.source.schema.items()} == {
        "customer": "int", "amount": "float", "word": "str | None",
    }  # fmt: skip
    assert compile_view(made).source_names == ("web", "app")
    assert [s.name for s in made.event_sources] == ["web", "app"]
    assert made.columns_of("app") == {"customer": "user", "amount": "price", "word": "word"}


def test_a_column_that_a_mapping_takes_is_no_longer_there_by_its_own_name() -> None:
    # The price of the web is that of a list, and the price of the app is what was paid.
    listed = source("listed", {"customer": int, "amount": float, "price": float})
    made = view([listed, {app: SHARED}])
    assert list(made.source.schema) == ["customer", "amount"]


def test_a_row_of_a_union_tells_all_of_the_row_that_it_was() -> None:
    made = compile_view(view([web, {app: SHARED}])).source
    row = {"price": 2.5, "user": 7, "word": None, "screen": "home", "__ts": 1, "__created": 2}
    (united,) = taken_rows(made, "app", [row])
    assert (united["customer"], united["amount"], united["__from"]) == (7, 2.5, 1)
    assert own_row(made, united) == ("app", row)


def test_ids_begin_with_the_number_of_their_source() -> None:
    ids = {"event_id": "id", "dedupe_within": "1d"}
    one = source("one", {"customer": int, "amount": float, "id": int}, **ids)
    two = source("two", {"customer": int, "amount": float, "id": bytes}, **ids)
    made = compile_view(view([one, two])).source
    given = {"customer": 1, "amount": 1.0, "__ts": 0, "__created": 0}
    rows = [
        *taken_rows(made, "one", [given | {"id": -3}]),
        *taken_rows(made, "two", [given | {"id": b"\xff0"}]),
    ]
    assert [row["__id"] for row in rows] == ["0:-3", "1:ff30"]
    assert "id" not in {p.name for p in made.schema}  # of two types: it is each source's own


# --- identity -------------------------------------------------------------------------------------


def test_the_order_of_the_sources_is_part_of_the_fingerprint() -> None:
    one, two = compile_view(view([web, {app: SHARED}])), compile_view(view([{app: SHARED}, web]))
    assert one.fingerprint != two.fingerprint
    assert one.features[0].fingerprint != two.features[0].fingerprint


def test_another_mapping_or_type_is_another_version() -> None:
    swapped = source("app", {"price": float, "cost": float, "user": int, "word": str | None})
    mapped = {"customer": "user", "amount": "cost"}
    prints = {
        compile_view(view([web, {one: how}])).fingerprint
        for one, how in ((app, SHARED), (swapped, SHARED), (swapped, mapped))
    }
    assert len(prints) == 3


def test_a_view_of_one_source_has_the_fingerprint_and_the_wire_form_that_it_had() -> None:
    alone = FeatureView(
        "spent",
        entities=[CUSTOMER],
        source=web,
        features={"total": Sum("amount", window="7d"), "last": Last("word", window="1d")},
    )
    made = compile_view(alone)
    assert made.fingerprint == ONE_SOURCE
    assert "parts" not in wire.canonical(made)
    assert "__from" not in wire.canonical(made)


ONE_SOURCE = "9a48680d9b95640e54ad263fbbddafaf"
"""As it was compiled before there were unions."""


def test_a_plan_of_a_union_comes_back_from_its_bytes() -> None:
    service = compile_service(FeatureService("shop", features=[view([web, {app: SHARED}])]))
    assert read_plan(plan_bytes(service)) == service
    assert json.loads(plan_bytes(service))["format"] == 4  # which older readers refuse by name
    alone = FeatureView("a", entities=[CUSTOMER], source=web, features={"amount": "amount"})
    plain = compile_service(FeatureService("plain", features=[alone]))
    assert json.loads(plan_bytes(plain))["format"] == 1


def forged(**changes: Any) -> Any:
    """A service whose union is another than its sources make, with fingerprints of its content."""
    service = compile_service(FeatureService("shop", features=[view([web, {app: SHARED}])]))
    (made,) = service.views
    source_ = made.source
    assert source_.parts is not None
    first, second = source_.parts
    parts: Any = {
        "one part": (first,),
        "no parts": (),
        "swapped": (second, first),
        "another column": (first, replace(second, columns=("user", "price", "screen"))),
        "no such column": (first, replace(second, columns=("user", "price", "nothing"))),
        "another type": (first, replace(second, columns=("user", "user", "word"))),
        "a union of a union": (first, replace(second, source=source_)),
        "twice": (first, first),
    }
    if "parts" in changes:
        changes = {"parts": parts[changes["parts"]]}
    made = replace(made, source=replace(source_, **changes))
    features = tuple(replace(f, fingerprint=ViewIdentity(made).feature(f)) for f in made.features)
    made = replace(made, features=features)
    return replace(service, views=(replace(made, fingerprint=ViewIdentity(made).whole()),))


@pytest.mark.parametrize(
    "changes",
    [
        *({"parts": how} for how in (
            "one part", "no parts", "swapped", "another column", "no such column", "another type",
            "a union of a union", "twice",
        )),
        {"name": "another"},
        {"timestamp_field": "customer"},
        {"sequence": "word"},
        {"created_timestamp_column": "at"},
    ],
    ids=str,
)  # fmt: skip
def test_a_forged_union_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Unsound):
        verify_service(forged(**changes))


# --- what is refused ------------------------------------------------------------------------------


def test_columns_of_one_name_have_one_type() -> None:
    other = source("other", {"customer": int, "amount": float | None})
    told = refused(web, other)
    assert "the column 'amount' is float in source 'web' ('amount') and float | None in" in told
    assert "write one type at both" in told


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ([web], "a union has two sources or more, found 1; for one, write source="),
        ([web, web], "EventSource 'web' stands there twice"),
        ([web, "app"], "a list of EventSources and their mappings, found 'app'"),
        ([web, {app: ["price"]}], "the mapping of 'app' is a dict of the view's columns"),
        ([web, {app: {"amount": "prize"}}], "no such column; did you mean 'price'?"),
        ([web, {app: {"__amount": "price"}}], "'__amount' begins with __"),
        ([web, source("far", {"x": int})], "'web' and 'far' have no column of one name"),
    ],
    ids=range(7),
)
def test_what_is_no_list_of_sources_is_refused(sources: list[Any], told: str) -> None:
    assert told in refused(*sources)


def test_sources_that_differ_in_ids_or_corrections_are_refused() -> None:
    schema = {"customer": int, "amount": float, "word": str | None, "id": int, "op": str}
    named = source("named", schema, event_id="id", dedupe_within="1d")
    longer = source("longer", schema, event_id="id", dedupe_within="2d")
    mended = source("mended", schema, event_id="id", op="op", dedupe_within="1d")
    assert "name the column at 'web', as in" in refused(web, named)
    assert "remember ids for 1d and 2d; write one dedupe_within= at both" in refused(named, longer)
    assert "all sources of a union bring corrections, or none does" in refused(named, mended)


def test_sequences_of_two_types_are_refused() -> None:
    one = source("one", {"customer": int, "amount": float, "n": int}, sequence="n")
    two = source("two", {"customer": int, "amount": float, "m": dt.date}, sequence="m")
    assert "the sequence is int in 'one' and date in 'two'" in refused(one, two)


def test_source_and_sources_are_not_both_written() -> None:
    with pytest.raises(DefinitionError, match="write source= or sources="):
        FeatureView(
            "spent", entities=[CUSTOMER], source=web, sources=[web, app], features={"a": "amount"}
        )
    with pytest.raises(DefinitionError, match="source is an EventSource or a FeatureView"):
        FeatureView("spent", entities=[CUSTOMER], features={"a": "amount"})


def test_a_feature_of_a_column_that_one_source_lacks_says_which_columns_there_are() -> None:
    told = refused(web, {app: SHARED}, features={"n": Count("url", window="1d")})
    assert "the union of 'web' and 'app' has no column 'url'" in told


def test_a_join_key_that_one_source_calls_otherwise_is_to_be_mapped() -> None:
    told = refused(web, {app: {"amount": "price"}})
    assert "the join key 'customer' is no column of the union of 'web' and 'app'; map" in told


def test_a_view_of_a_view_of_several_sources_has_their_events() -> None:
    rows = view([web, {app: SHARED}], {"amount": "amount", "word": "word"})
    above = FeatureView(
        "above", entities=[CUSTOMER], source=rows, features={"n": Sum("amount", window="1d")}
    )
    assert compile_view(above).source == compile_view(rows).source


def test_both_definitions_of_one_name_in_a_union_and_beside_it_are_told() -> None:
    other = source("web", {"customer": int, "amount": float})
    alone = FeatureView("a", entities=[CUSTOMER], source=other, features={"amount": "amount"})
    with pytest.raises(DefinitionError, match="two definitions of EventSource 'web'"):
        FeatureStore(definitions=[view([web, {app: SHARED}]), alone]).plan()


# --- explode --------------------------------------------------------------------------------------

baskets = source("baskets", {"customer": int, "tags": list[str], "amount": float, "n": int})


def exploding(of: Any = baskets, *, explode: str = "tags", **options: Any) -> FeatureView:
    how = {"sources": of} if isinstance(of, list) else {"source": of}
    features = {"last": Last("tags", window="7d")}
    return FeatureView(
        "tagged", entities=[CUSTOMER], features=features, explode=explode, **how | options
    )


def test_the_column_of_an_exploded_list_is_an_element() -> None:
    made = compile_view(exploding())
    assert str(made.features[0].type) == "str | None"
    slots = [made.slots[i].column for i in made.order]
    # A row's elements follow one another, in the order of the list (T6).
    assert slots == ["amount", "n", "__position", "tags"]


def test_events_of_elements_are_made_alike_in_python_and_in_sql() -> None:
    made = compile_view(exploding())
    rows = [{"tags": ["a", "b"], "n": 1}, {"tags": [], "n": 2}, {"tags": None, "n": 3}]
    with duckdb.connect() as con:
        con.execute("CREATE TABLE given (tags VARCHAR[], n BIGINT)")
        con.executemany("INSERT INTO given VALUES (?, ?)", [[r["tags"], r["n"]] for r in rows])
        sql = f"SELECT tags, n, __position FROM {exploded_sql(made, 'given')} ORDER BY ALL"
        found = con.execute(sql).fetchall()
    assert found == [(r["tags"], r["n"], r["__position"]) for r in exploded_rows(made, rows)]
    assert found == [("a", 1, 0), ("b", 1, 1)]


def test_an_exploded_list_is_another_version() -> None:
    plain = FeatureView(
        "tagged", entities=[CUSTOMER], source=baskets, features={"n": Count(window="1d")}
    )
    made = compile_view(replaced(plain, explode="tags"))
    assert made.fingerprint != compile_view(plain).fingerprint
    assert made.features[0].fingerprint != compile_view(plain).features[0].fingerprint
    assert "explode" not in wire.canonical(compile_view(plain))


def replaced(plain: FeatureView, **options: Any) -> FeatureView:
    return FeatureView(
        plain.name, entities=plain.entities, source=plain.source, features=plain.features, **options
    )


def test_a_view_of_a_view_of_elements_has_the_elements() -> None:
    rows = FeatureView(
        "rows", entities=[CUSTOMER], source=baskets, explode="tags",
        features={"customer": "customer", "tag": "tags"},
    )  # fmt: skip
    above = FeatureView(
        "above", entities=[CUSTOMER], source=rows, features={"last": Last("tag", window="1d")}
    )
    assert compile_view(above).explode == "tags"
    with pytest.raises(DefinitionError, match="write explode= there"):
        replaced(above, explode="tag")


@pytest.mark.parametrize(
    ("column", "told"),
    [("amount", "'amount' is float; its lists are tags"), ("tag", "'tag' is no column")],
)
def test_what_is_no_list_is_not_exploded(column: str, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        exploding(explode=column)


def test_a_list_of_a_union_is_exploded() -> None:
    other = source("other", {"customer": int, "labels": list[str]})
    made = compile_view(exploding([baskets, {other: {"tags": "labels"}}]))
    assert made.explode == "tags"
    service = compile_service(
        FeatureService("tags", features=[exploding([baskets, {other: {"tags": "labels"}}])])
    )
    assert read_plan(plan_bytes(service)) == service


def test_a_forged_list_is_refused() -> None:
    service = compile_service(FeatureService("tags", features=[exploding()]))
    (made,) = service.views
    with pytest.raises(Unsound):
        verify_service(replace(service, views=(replace(made, explode="amount"),)))
    with pytest.raises(Unsound):
        verify_service(replace(service, views=(replace(made, explode=None),)))
