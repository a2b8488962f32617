"""Vectors, Literals, Enums and dicts of counts: checked where they are read, equal on each path."""

from __future__ import annotations

import datetime as dt
import math
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from three_ways import Table, bits, differences, module

from featurekit import FeatureStore, Vector, feature
from featurekit.core.types import FLOAT, INT, STR, Type, as_float32, dict_of, from_hint, from_text
from featurekit.core.values import ERROR
from featurekit.errors import (
    BadRowError,
    CompileError,
    DefinitionError,
    EntityFrameError,
    SourceError,
)
from featurekit.language import wire as ir
from featurekit.language.parse import parse
from featurekit.online.state.codec import decode_column, encode_column

MODULE = """
from enum import IntEnum, StrEnum
from typing import Literal
from featurekit import Entity, EventSource, FeatureService, FeatureView, Vector, dot, feature, norm
from featurekit.aggregates import First, Last, LastN, ValueCounts

class Tier(StrEnum):
    GOLD = "gold"
    BASIC = "basic"

class Level(IntEnum):
    LOW = 1
    HIGH = 9

user = Entity("user", join_keys={"user_id": int})
visits = EventSource(
    "visits", path="data/visits.parquet",
    schema={
        "user_id": int, "embedding": Vector[3], "hint": Vector[2] | None, "tier": Tier,
        "level": Level, "channel": Literal["web", "app"] | None,
        "tags": list[Literal["a", "b"]],
    },
    timestamp_field="at", created_timestamp_column="arrived",
)

@feature
def length(embedding: Vector[3]) -> float:
    return norm(embedding)

@feature
def the_same(embedding: Vector[3], hint: Vector[2] | None) -> Vector[3] | None:
    return None if hint is None else embedding

@feature
def kind(tier: Tier, level: Level, channel: Literal["web", "app"] | None) -> Literal["vip", "std"]:
    if channel is None:
        return "std"
    return "vip" if tier == Tier.GOLD and level > 3 else "std"

latest = FeatureView(
    "latest", entities=[user], source=visits,
    features={
        "embedding": "embedding", "hint": "hint", "tier": "tier", "level": "level",
        "tags": "tags", "length": length, "the_same": the_same, "kind": kind,
    },
)
windows = FeatureView(
    "windows", entities=[user], source=visits,
    features={
        "first_embedding": First("embedding", window="30d"),
        "embeddings": LastN("embedding", n=3, window="30d"),
        "channels": ValueCounts("channel", window="30d"),
        "levels": ValueCounts("level", window="30d"),
        "last_tier": Last("tier", window="1d", default="basic"),
    },
)

@feature
def similarity(query: Vector[3], first_embedding: Vector[3] | None) -> float | None:
    return None if first_embedding is None else dot(query, first_embedding)

@feature
def web_share(channels: dict[str, int]) -> float | None:
    total = sum(channels.values())
    return channels.get("web", 0) / total if total else None

@feature
def top_level(levels: dict[int, int], mode: Literal["count", "level"]) -> int:
    best, most = -1, 0
    for level, n in levels.items():
        if n > most if mode == "count" else level > best:
            best, most = level, n
    return best

service = FeatureService(
    "service", features=[latest, windows, similarity, web_share, top_level],
    request={"query": Vector[3], "mode": Literal["count", "level"]},
)
"""
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
UTC_US = pa.timestamp("us", tz="UTC")


def visit(rng: random.Random, hour: int) -> dict[str, Any]:
    awkward = (0.1, -0.0, math.nan, math.inf, 1e-40, 16777217.0, 3.4028235e38)
    return {
        "user_id": rng.randint(1, 4),
        "embedding": [rng.choice(awkward) for _ in range(3)],
        "hint": rng.choice((None, [rng.random(), 1.0])),
        "tier": rng.choice(("gold", "basic")),
        "level": rng.choice((1, 9)),
        "channel": rng.choice((None, "web", "app")),
        "tags": rng.choices(("a", "b"), k=rng.randint(0, 3)),
        "at": START + dt.timedelta(hours=hour),
    }


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    columns: dict[str, Any] = {n: [r[n] for r in rows] for n in rows[0]}
    columns["at"] = pa.array(columns["at"], UTC_US)
    return pa.table({**columns, "arrived": columns["at"]})


@pytest.fixture
def store(make_repo: Callable[..., Path], redis_url: str) -> Iterator[FeatureStore]:
    rng = random.Random(7)
    folder = make_repo(MODULE, {"visits": table_of([visit(rng, i) for i in range(60)])})
    with FeatureStore(folder, redis_url=redis_url) as made:
        made.online.client.flushall()  # type: ignore[attr-defined]
        yield made


def request(user: int) -> dict[str, Any]:
    return {"user_id": user, "query": [0.1, 2.0, -1.0], "mode": "count" if user % 2 else "level"}


def test_training_and_lookups_are_equal_in_bits(store: FeatureStore) -> None:
    store.apply()
    store.materialize()
    rng = random.Random(8)
    now = dt.datetime.now(dt.UTC)
    store.push("visits", [{**visit(rng, 0), "at": now, "user_id": u} for u in (1, 9)])
    later = dt.datetime.now(dt.UTC)
    frame = [{**request(u), "event_timestamp": later} for u in (1, 2, 3, 4, 9, 77)]
    offline = store.get_historical_features(frame, "service").to_arrow()
    online = store.get_online_features(
        "service", [request(u) for u in (1, 2, 3, 4, 9, 77)], as_of=later
    )
    served = online.to_arrow()
    for name in online.columns:
        assert offline.schema.field(name).type == served.schema.field(name).type
        pairs = zip(offline[name].to_pylist(), served[name].to_pylist(), strict=True)
        assert all(bits(a) == bits(b) for a, b in pairs), name
    assert served.schema.field("embedding").type == pa.list_(pa.float32(), 3)
    assert served.schema.field("embeddings").type == pa.list_(pa.list_(pa.float32(), 3))
    assert online.columns["embedding"][5] is None
    report = store.check_parity("service")
    assert report.differing == 0
    assert report.compared > 1000


def test_doubles_are_rounded_to_the_nearest_float32_where_they_are_read(
    store: FeatureStore,
) -> None:
    store.apply()
    at = dt.datetime.now(dt.UTC)
    numbers = [0.1, 16777217.0, 2.0**-150 * 1.5]
    store.push("visits", [{**visit(random.Random(1), 0), "at": at, "embedding": numbers}])
    store.materialize()
    row = {"user_id": 0, "query": numbers, "mode": "count"}
    (user,) = {visit(random.Random(1), 0)["user_id"]}
    found = store.get_online_features("service", [{**row, "user_id": user}]).columns
    wanted = [struct.unpack("<f", struct.pack("<f", v))[0] for v in numbers]
    assert wanted != numbers
    assert bits(found["embedding"][0]) == bits(wanted)


BAD = [
    ("embedding", [1.0, 2.0], r"2 numbers in a Vector\[3\]|another length"),
    ("embedding", [1.0, 2.0, 1e39], "beyond float32"),
    ("embedding", [1.0, 2.0, -3.4028235677973366e38], "beyond float32"),
    ("embedding", [1.0, 2.0, None], "null"),
    ("hint", [1.0], r"Vector\[2\]"),
    ("tier", "silver", "not among 'gold', 'basic'"),
    ("tier", None, "null"),
    ("level", 3, "not among 1, 9"),
    ("channel", "Web", "not among 'web', 'app'"),
    ("tags", ["a", "c"], "in a list, a value that is not among 'a', 'b'"),
]


@pytest.mark.parametrize(("column", "value", "reason"), BAD)
def test_a_value_outside_its_type_is_a_bad_row_in_files_and_pushes(
    make_repo: Callable[..., Path], redis_url: str, column: str, value: Any, reason: str
) -> None:
    rng = random.Random(3)
    rows = [visit(rng, i) for i in range(5)]
    rows[3][column] = value
    if column == "hint":
        rows[1]["hint"] = [1.0, 2.0]
    folder = make_repo(MODULE, {"visits": table_of(rows)})
    with FeatureStore(folder, redis_url=redis_url) as store:
        frame = [{**request(1), "event_timestamp": START}]
        with pytest.raises(BadRowError, match=f"row 3.*{column}.*({reason})"):
            store.get_historical_features(frame, "service").to_arrow()
        with pytest.raises(BadRowError, match=f"row 1.*{column}.*({reason})"):
            store.push("visits", [rows[0], rows[3]])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query", [1.0, 2.0]),
        ("query", [1.0, 2.0, "x"]),
        ("query", [1.0, 2.0, 1e300]),
        ("query", None),
        ("query", 3.0),
        ("mode", "max"),
        ("mode", 1),
    ],
)
def test_a_request_field_outside_its_type_is_refused(
    store: FeatureStore, field: str, value: Any
) -> None:
    store.apply()
    store.materialize()
    row = {**request(1), field: value}
    with pytest.raises(EntityFrameError, match=field):
        store.get_online_features("service", [row])
    with pytest.raises(EntityFrameError, match=field):
        store.get_historical_features([{**row, "event_timestamp": START}], "service").to_arrow()


def test_a_request_may_be_numpy(store: FeatureStore) -> None:
    import numpy as np

    store.apply()
    store.materialize()
    plain = {**request(1), "query": [0.5, 2.0, -1.0]}
    as_of = START + dt.timedelta(days=9)
    rows = [plain, {**plain, "query": np.array(plain["query"], dtype="float32")}]
    first, second = store.get_online_features("service", rows, as_of=as_of).columns["similarity"]
    assert bits(first) == bits(second)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("mode: Literal", "mode: Literal['count'] | Literal", "is not a feature type"),
        ("query: Vector[3], first", "query: Vector[4], first", r"declared Vector\[4\], and"),
        (
            "tier: Tier, level: Level, channel",
            'tier: Literal["gold"], level: Level, channel',
            r"declared Literal\['gold'\], and the column is Literal\['gold', 'basic'\]",
        ),
        ('"tier": Tier,', '"tier": str,', "the column is str; declare"),
        ('default="basic"', 'default="silver"', "default='silver' is none of them"),
        ('"user_id": int, "e', '"user_id": int, "d": dict[str, int], "e', "no column's type"),
        ("Vector[2] | None,", "Vector[0] | None,", "the size is an int from 1"),
    ],
)  # fmt: skip
def test_definitions_that_do_not_fit_are_refused(
    make_repo: Callable[..., Path], old: str, new: str, reason: str
) -> None:
    assert old in MODULE
    folder = make_repo(MODULE.replace(old, new), {})
    with pytest.raises(DefinitionError, match=reason):
        FeatureStore(folder).plan()


def test_a_narrower_parameter_takes_part_of_what_it_declares(
    make_repo: Callable[..., Path],
) -> None:
    wider = 'channel: Literal["web", "app", "shop"] | None'
    folder = make_repo(MODULE.replace('channel: Literal["web", "app"] | None', wider), {})
    assert FeatureStore(folder).plan()


def test_a_log_of_pushes_is_held_to_the_choices_of_today(
    make_repo: Callable[..., Path], redis_url: str
) -> None:
    rows = [visit(random.Random(3), i) for i in range(5)]
    folder = make_repo(MODULE, {"visits": table_of(rows)})
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.push("visits", [{**rows[0], "channel": "app"}])
    text = (folder / "definitions.py").read_text().replace('"web", "app"', '"web"')
    (folder / "definitions.py").write_text(text)
    pq.write_table(
        table_of([{**r, "channel": "web"} for r in rows]), folder / "data/visits.parquet"
    )
    with FeatureStore(folder, redis_url=redis_url) as store:
        frame = [{**request(1), "event_timestamp": START}]
        with pytest.raises(SourceError, match="'app' is not among"):
            store.get_historical_features(frame, "service").to_arrow()


def test_a_vector_column_has_one_wire_form() -> None:
    type_ = Type("list", item=FLOAT, size=2, optional=True)
    values = [[0.5, math.nan], None, [-0.0, math.inf], ERROR, [as_float32(0.1), 1.0]]
    raw = encode_column(type_, values)
    assert len(raw) == 1 + 5 + 5 * 2 * 4
    read, _, end = decode_column(type_, memoryview(raw), 0, 5)
    assert end == len(raw)
    assert [bits(v) for v in read] == [bits(v) for v in values]
    payload = struct.unpack("<d", b"\x01\0\0\0\0\0\xf8\xff")[0]
    assert encode_column(type_, [[payload, 1.0]]) == encode_column(type_, [[math.nan, 1.0]])


def test_narrowing_is_part_of_the_fingerprint_and_plain_types_are_as_before() -> None:
    assert ir.to_json(INT) == {"c": "Type", "name": "int", "optional": False, "item": None}
    narrow = Type("str", choices=("a", "b"))
    assert ir.from_json(ir.to_json(narrow)).choices == ("a", "b")
    assert ir.fingerprint(narrow) != ir.fingerprint(STR)
    assert ir.fingerprint(narrow) != ir.fingerprint(Type("str", choices=("b", "a")))


COUNTS = """
def share(seen: dict[str, int], key: str) -> float:
    total = sum(seen.values())
    return seen.get(key, 0) / total

def missing(seen: dict[str, int], key: str) -> int | None:
    return seen.get(key)

def strict(seen: dict[str, int], key: str) -> int:
    if key not in seen:
        return -1 if seen else -2
    return seen[key] + len(seen)

def raises(seen: dict[str, int], key: str) -> int:
    return seen[key + ""]

def over_keys(seen: dict[str, int], key: str) -> list[str]:
    return [k.upper() for k in seen if k != key]

def over_items(seen: dict[str, int], key: str) -> int:
    found = 0
    for k, n in seen.items():
        if k.startswith(key):
            found += n
    return found

def entropy(seen: dict[str, int]) -> float:
    total = sum(n for n in seen.values())
    return -sum((n / total * math.log2(n / total) for n in seen.values()), 0.0)

def ordered(seen: dict[str, int]) -> list[str]:
    return sorted(seen.keys())

def most(seen: dict[str, int]) -> int:
    return max(seen.values(), default=0) - max(seen.values()) + len(list(seen))

def looked_up(seen: dict[str, int], key: str) -> list[int]:
    return [seen[k] for k in sorted(seen)]
"""


@pytest.fixture(scope="module")
def counts() -> Table:
    rng = random.Random(5)
    words = ["", "a", "ab", "b", "ß", "😀", "web"]
    made = [
        {w: rng.randint(1, 9) for w in rng.sample(words, rng.randint(0, 5))} for _ in range(300)
    ]
    return Table({"seen": (dict_of(STR), made), "key": (STR, rng.choices(words, k=300))})


@pytest.mark.parametrize(
    "name", [line[4:].split("(")[0] for line in COUNTS.splitlines() if line.startswith("def ")]
)
def test_functions_of_counts_agree_three_ways(counts: Table, name: str) -> None:
    assert differences(COUNTS, name, counts, range(300)) == []


UNSEEN = [
    "for tier in xs:\n        if tier == 'q':\n            break\n    return tier",
    "t = 'a'\n    for t in xs:\n        pass\n    return t",
    "if (tier := s):\n        return tier\n    return 'a'",
    "tier = s.lower()\n    return tier",
    "tier += s\n    return tier",
    "t, u = 'a', s\n    return u",
    "return xs[0]",
    "return tier if s else s",
]


@pytest.mark.parametrize("body", UNSEEN)
def test_a_name_that_something_else_is_bound_to_is_no_literal(body: str) -> None:
    head = "def f(tier: Literal['a', 'b'], s: str, xs: list[str]) -> Literal['a', 'b']:\n    "
    with pytest.raises(CompileError, match="this may be any str"):
        parse(feature(module(head + body)["f"]))


@pytest.mark.parametrize(
    "hint",
    [
        int, float | None, bytes, dt.datetime, dt.date | None, dt.timedelta, list[int],
        list[float] | None, list[list[str]], dict[str, int], dict[bool, int] | None, Vector[3],
        Vector[384] | None, Literal["a]'\\\"", "b | None"], Literal[-1, 2] | None, Literal[True],
        dict[Literal["x", "y"], int], list[Literal[1]],
    ],
)  # fmt: skip
def test_the_text_of_a_type_is_read_as_that_type(hint: Any) -> None:
    made = from_hint(hint)
    found = from_text(str(made))
    assert found == made
    assert str(found) == str(made)
    assert found.holds(made)
    assert made.holds(found)


@pytest.mark.parametrize(
    "text",
    ["", "in", "integer", "int | str", "None | int", "list", "list[int", "dict[str]", "Vector[0]",
     "Vector[x]", "Literal[1, 'a']", "Literal[print('run')]", "__import__('os')", "(" * 5_000],
)  # fmt: skip
def test_what_is_no_text_of_a_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no type"):
        from_text(text)
