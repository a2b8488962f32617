"""Every name that a user gives is refused at its definition, or works on every path (S4).

A name is refused with an error that says where and what; what is taken is an identifier of SQL, a
key in Redis, a column of Arrow and a field of a row, whatever it is made of.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_repos import MakeRepo
from hypothesis import example, given
from hypothesis import strategies as st

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.cli import main
from featurekit.core.sql import quote, unquoted
from featurekit.define.compile_service import compile_service
from featurekit.errors import DefinitionError

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)

# What SQL, JSON, HTML, Redis or this project itself could take for something else.
HOSTILE = (
    'say "hi"', '"', '""', "'", "a'b", "a.b", ".", "a b", " ", "a\nb", "a\r\n", "\t", "select",
    "SELECT", "order", "group", "table", "null", "true", "rowid", "s0", "S1", "k0", "e0", "f0",
    "o0", "x0", "v", "t", "w", "n", "r0", "f0_0", "x0_0", "rid", "ts", "value", "key", "index",
    "_", "_x", "%s", "{}", "{x}", "{0}", "$1", "?", ":name", "*", "a*", "[a]", "\\", "\\n", "--",
    "/*", ";", "; DROP TABLE x", "<b>", "&amp;", "é", "É", "e\u0301", "ß", "ẞ", "İ", "ı", "日本語",
    "😀", "\u202e", "\u200b", "\ufeff", "a\u2028b", "1", "0x", "-", "a-b", "a/b", "../x", "a:b",
    "lambda", "class", "None", "self", "ERROR", "as", "of", "x" * 300,
)  # fmt: skip


def source_of(schema: dict[str, Any], **options: Any) -> EventSource:
    options = {"timestamp_field": "at", **options}
    return EventSource("events", path="data/events.parquet", schema=schema, **options)


# --- definitions ----------------------------------------------------------------------------------


def refusal(make: Callable[[], object]) -> str | None:
    """What a definition is refused with; None where it is taken."""
    try:
        make()
    except DefinitionError as error:
        return str(error)
    return None


names = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12))


@given(names)
@example("")
@example("\0")
@example("a\0b")
@example("\ud800")
@example("__rid")
@example("event_timestamp")
@example("Event_Timestamp")
@example("as_of")
@example("AS_OF")
@example("x" * 100_000)
def test_a_field_s_name_is_refused_with_its_place_or_is_an_identifier(name: str) -> None:
    """Join keys, request fields, columns and instants: each is refused by name, or quoted."""
    user = Entity("user", {"the key": int})
    view = FeatureView("v", entities=[user], source=source_of({"the key": int, "x": int}),
                       features={"x": "x"})  # fmt: skip
    makers = {
        "Entity 'e'": lambda: Entity("e", {name: int}),
        "EventSource 'events'": lambda: source_of({"the key": int, name: int}),
        "EventSource 'events', timestamp_field": lambda: source_of(
            {"the key": int}, timestamp_field=name
        ),
        "EventSource 'events', created_timestamp_column": lambda: source_of(
            {"the key": int}, created_timestamp_column=name
        ),
        "FeatureView 'v' as 'role'": lambda: view.as_("role", join_keys={"the key": name}),
        "FeatureService 's'": lambda: FeatureService("s", features=[view], request={name: int}),
    }
    for where, make in makers.items():
        told = refusal(make)
        if told is None:
            name.encode()
            assert name
            assert "\0" not in name
        else:
            assert where.split(",")[0] in told
            assert repr(name)[:40] in told
    assert unquoted(quote(name)) == name


@given(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12), st.integers(), st.none()))
@example("")
@example("a" * 201)
@example("a__b")
@example("1a")
@example("_a")
@example("né")
def test_a_definition_s_name_is_a_plain_word(name: Any) -> None:
    """Sources, entities, views, features, services and roles: their names stand in files, keys,
    pages and metrics."""
    user, source = Entity("user", {"key": int}), source_of({"key": int, "x": int})
    view = FeatureView("v", entities=[user], source=source, features={"x": "x"})
    makers = (
        lambda: Entity(name, {"key": int}),
        lambda: EventSource(name, path="a.parquet", schema={"key": int}, timestamp_field="at"),
        lambda: FeatureView(name, entities=[user], source=source, features={"x": "x"}),
        lambda: FeatureView("v", entities=[user], source=source, features={name: "x"}),
        lambda: FeatureService(name, features=[view]),
        lambda: view.as_(name),
    )
    told = [one for one in map(refusal, makers) if one is not None]
    refused = len(told)
    assert all(repr(name)[:40] in one for one in told)
    plain = isinstance(name, str) and name.isascii() and name.replace("_", "a").isalnum()
    assert refused in ((0, len(makers)) if name != "as_of" else (1,))
    if refused == 0:
        assert plain
        assert len(name) <= 200


@pytest.mark.parametrize(("one", "other"), [("Amount", "amount"), ("a b", "A B")])
def test_names_that_differ_in_case_alone_are_refused(one: str, other: str) -> None:
    user = Entity("user", {"key": int})
    view = FeatureView("v", entities=[user], source=source_of({"key": int}), features={"k": "key"})
    shown = f"{one!r} and {other!r}"
    with pytest.raises(DefinitionError, match=shown):
        source_of({one: int, other: int})
    with pytest.raises(DefinitionError, match=shown):
        Entity("e", {one: int, other: int})
    with pytest.raises(DefinitionError, match=shown):
        FeatureService("s", features=[view], request={one: int, other: int})
    origin = view.as_("a", join_keys={"key": one})
    goal = view.as_("b", join_keys={"key": other})
    with pytest.raises(DefinitionError, match=shown):
        compile_service(FeatureService("s", features=[origin, goal]))
    with pytest.raises(DefinitionError, match=shown):
        compile_service(FeatureService("s", features=[origin], request={other: int}))


def test_definitions_whose_names_differ_in_case_alone_are_refused(make_repo: MakeRepo) -> None:
    """A file system and DuckDB may take them for one."""
    module = """
    from featurekit import Entity, EventSource, FeatureService, FeatureView
    user = Entity("user", {"key": int})
    def source(name):
        return EventSource(name, path="a.parquet", schema={"key": int}, timestamp_field="at")
    one = FeatureView("ONE", entities=[user], source=source("events"), features={"k": "key"})
    other = FeatureView("OTHER", entities=[user], source=source("other"), features={"k": "key"})
    """
    for name, twin in (("OTHER", "one"), ('"other"', '"Events"')):
        folder = make_repo(module.replace(name, twin), {})
        with pytest.raises(DefinitionError, match="differ in case alone"):
            FeatureStore(folder).plan()


# --- every path -----------------------------------------------------------------------------------

MODULE = """
import json
from pathlib import Path
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, LastN, Sum

NAMES = json.loads(Path(__file__).with_name("names.json").read_text())
KEYS, COLUMNS, REQUEST = NAMES["keys"], NAMES["columns"], NAMES["request"]
AT, ARRIVED, ID = NAMES["at"], NAMES["arrived"], NAMES["id"]

user = Entity("user", dict(zip(KEYS, (int, str))))
events = EventSource(
    "events", path="data/events.parquet", timestamp_field=AT, created_timestamp_column=ARRIVED,
    schema={**dict(zip(KEYS, (int, str))), ID: str, **dict.fromkeys(COLUMNS, float)},
    event_id=ID, dedupe_within="5000d",
)
latest = FeatureView("latest", entities=[user], source=events, history="30d", features={
    f"c{i}": name for i, name in enumerate(COLUMNS)
})
windows = FeatureView("windows", entities=[user], source=events, history="30d", features={
    **{f"sum{i}": Sum(name, window="10d") for i, name in enumerate(COLUMNS[:3])},
    "many": Count(window="10d"), "last": LastN(COLUMNS[0], n=3, window="10d"),
})

@feature
def share(sum0: float | None, c0: float | None) -> float | None:
    return None if sum0 is None or c0 is None else sum0 - c0

service = FeatureService("service", features=[latest, windows, share],
                         request=dict.fromkeys(REQUEST, float))
windows_alone = FeatureService("windows_alone", features=[windows])
roles = FeatureService("roles", features=[
    latest.as_("one", join_keys=dict(zip(KEYS, NAMES["fields"])))[["c0"]],
    latest[["c1"]],
])
"""


def parts(size: int) -> Iterator[dict[str, Any]]:
    """All hostile names, so many in each repo, in every part that a name can play."""
    taken: set[bytes] = set()
    every = []
    for name in HOSTILE:
        if name.encode().lower() not in taken:  # twins in case alone are refused
            taken.add(name.encode().lower())
            every.append(name)
    for first in range(0, len(every), size):
        part = every[first : first + size]
        part += [f"more {i}" for i in range(13 - len(part))]
        rest = part[10:]
        yield {
            "keys": part[:2], "fields": [f"{part[0]}!", f"{part[1]}!"], "at": part[2],
            "arrived": part[3], "id": part[4], "request": part[5:7],
            "columns": [*part[7:10], *rest],
        }  # fmt: skip


@pytest.mark.parametrize("names", list(parts(22)), ids=lambda n: repr(n["keys"][0]))
def test_every_path_takes_every_name(
    make_repo: MakeRepo,
    redis_url: str,
    redis_store: Any,
    names: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_repo(MODULE, {})
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    rows = [row(names, n) for n in range(40)]
    instants = {names["at"], names["arrived"]}
    table = pa.table({
        name: pa.array([r[name] for r in rows], pa.timestamp("us", "UTC"))
        if name in instants else [r[name] for r in rows]
        for name in rows[0]
    })  # fmt: skip
    pq.write_table(table, folder / "data" / "events.parquet")
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
        store.push("events", [row(names, n) for n in (100, 101)])
        asked = [
            {names["keys"][0]: n, names["keys"][1]: f"u{n}", **dict.fromkeys(names["request"], 0.5)}
            for n in (0, 1, 2, 77)
        ]
        as_of = NOON + dt.timedelta(days=2)
        online = store.get_online_features("service", asked, as_of=as_of)
        frame = [{**one, "event_timestamp": as_of} for one in asked]
        made = store.get_historical_features(frame, "service")
        assert same(made.to_arrow().to_pylist(), online.columns)
        made.to_parquet(folder / "made.parquet")
        assert pq.read_table(folder / "made.parquet").num_rows == 4
        assert list(made.to_pandas().columns)[: len(frame[0])] == list(frame[0])
        known = store.get_historical_features(service="windows_alone", at=[as_of])
        assert known.to_arrow().num_rows == 5
        report = store.check_parity("service", mode="history", values=300)
        assert report.ok, [d.to_dict() for d in report.differences]
        assert report.opinions["rows read again"] == 40
        by_roles = {**{k: v for k, v in asked[1].items() if k in names["keys"]},
                    **dict(zip(names["fields"], (2, "u2"), strict=True))}  # fmt: skip
        found = store.get_online_features("roles", [by_roles], as_of=as_of)
        assert found.columns["one__c0"] == online.columns["c0"][2:3]
        shown = store.explain("service", "sum0", asked[0], as_of=as_of)
        assert shown.online == shown.offline
        store.forget("user", {names["keys"][0]: 0, names["keys"][1]: "u0"})
        gone = store.get_historical_features(frame[:1], "service", statuses=True).to_arrow()
        assert gone["c0__status"].to_pylist() == ["NOT_FOUND"]
    with contextlib.chdir(folder):
        told = [f"{name}={value}" for name, value in asked[1].items()]
        assert main(["--redis-url", redis_url, "get-online", "service", *told, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)
        page = folder / "page.html"
        assert main(["parity", "history", "service", "--values", "100", "--html", str(page)]) == 0
        assert "<b>" not in page.read_text(encoding="utf-8").replace("<b>c", "")


def row(names: dict[str, Any], n: int) -> dict[str, Any]:
    at = NOON + dt.timedelta(hours=n)
    return {
        names["keys"][0]: n % 5,
        names["keys"][1]: f"u{n % 5}",
        names["id"]: f"id {n}",
        names["at"]: at,
        names["arrived"]: at + dt.timedelta(minutes=n % 3),
        **{column: n + i / 8 for i, column in enumerate(names["columns"])},
    }


def same(rows: list[dict[str, Any]], columns: dict[str, list[Any]]) -> bool:
    def bits(value: Any) -> Any:
        return struct.pack(">d", value) if isinstance(value, float) else value

    return all(
        [bits(one[name]) for one in rows] == list(map(bits, column))
        for name, column in columns.items()
    )
