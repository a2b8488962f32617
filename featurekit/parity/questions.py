"""Draws the questions of a parity check: entity rows at instants where paths are apt to part.

Half of the instants stand on an edge (an event, its arrival, the end of a window, a hop) or one
microsecond beside it.
"""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.types import EPOCH, INSTANT_MAX, INSTANT_MIN, MICROSECOND, Type, as_float32
from featurekit.define.plan import Service, View
from featurekit.offline.counted_events import make_events
from featurekit.parity.edges import turns_of

_EXPIRIES = 0.2  # the share of a view's questions that stand at the end of its ttl
_TURNS = 0.3  # the share that stands where a period of a calendar begins, or a window hops
_FLOATS = (0.0, -0.0, 1.0, 25.0, 0.1, -3.5, 1e-308, 1e308, math.inf, -math.inf, math.nan)
_INTS = (0, 1, -1, 2, 7, 1000, 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
_TEXTS = ("", "a", " C5 ", "C536379", "é", "ß", "\u2003x", "😀", "İ")


@dataclass(frozen=True, slots=True)
class Question:
    """A row of join keys and request fields, and the instant to ask about, in microseconds."""

    row: dict[str, Any]
    at: int


def draw(
    con: Any, service: Service, relations: Sequence[str], *, rows: int, rng: random.Random
) -> list[Question]:
    """About `rows` questions, fewer where there are few events; `relations` holds the events of
    each view."""
    if not service.views:  # transforms alone: no event decides anything
        return [Question(request_fields(service, rng), rng.randint(0, 2**51)) for _ in range(rows)]
    anchors = [
        _anchors(con, service, view, relation, max(1, rows // (4 * len(relations))), rng)
        for view, relation in zip(service.views, relations, strict=True)
    ]
    of_views = [(a, view) for found, view in anchors for a in found]
    if not of_views:
        return []
    flat = [a for a, _ in of_views]
    flat_of = {view.title: found for found, view in anchors}
    pools = _pools(service, flat)
    low = min(a["__ts"] for a in flat)
    high = max(max(a["__ts"], a["__created"]) for a in flat)
    # Each view's own edges, about its own events: those of another would mostly be no edges of it.
    offsets = {view.name: sorted(_offsets(view)) for view in service.views}
    turns = {view.name: turns_of(view) for view in service.views}
    hops = {v.name: sorted({f.hop_us for f in v.features if f.hop_us}) for v in service.views}
    questions: list[Question] = []
    while len(questions) < rows:
        anchor, view = rng.choice(of_views)
        row = {key: _key(anchor, key, pools, rng) for key in service.join_keys}
        row |= {p.name: _value(p.type, rng) for p in service.request}
        if view.ttl_us is not None and rng.random() < _EXPIRIES:
            # Where nothing followed the row within its ttl, its end can be seen.
            anchor = next((a for a in _some(flat_of[view.title], rng) if _quiet(a, view)), anchor)
            row |= {p.name: anchor[p.name] for p in view.row_keys}
            at = int(anchor["__ts"]) + view.ttl_us + rng.choice((-1, 0, 0, 1))
        else:
            at = _instant(anchor, offsets[view.name], hops[view.name], low, high, rng)
            if turns[view.name] and rng.random() < _TURNS:
                at = rng.choice(turns[view.name])(int(anchor["__ts"])) + rng.choice((-1, 0, 0, 1))
        questions.append(Question(row, min(max(at, INSTANT_MIN), INSTANT_MAX)))
    return questions


def _some(anchors: list[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    return rng.sample(anchors, min(len(anchors), 50))


def _quiet(anchor: dict[str, Any], view: View) -> bool:
    """Whether the next event of the anchor's entity comes after the view's ttl."""
    following = anchor["__next"]
    return following is None or following - anchor["__ts"] > (view.ttl_us or 0)


def _anchors(
    con: Any, service: Service, view: View, relation: str, most: int, rng: random.Random
) -> tuple[list[dict[str, Any]], View]:
    """Events of some entities of a view: their keys, their two instants and that of the next."""
    relation = make_events(con, view, relation)
    columns = service.key_columns(view)
    keys = list(columns)
    shown = ", ".join(quote(c) for c in columns.values())
    seed = rng.getrandbits(32)
    own = ", ".join(quote(p.name) for p in view.join_keys)
    known = " AND ".join(f"{quote(p.name)} IS NOT NULL" for p in view.join_keys)
    entities = (
        f"(SELECT DISTINCT {own} FROM {relation} WHERE {known} "
        f"ORDER BY hash({own}, {seed}), {own} LIMIT {max(8, most // 8)})"
    )
    rows = con.execute(
        f"SELECT {shown}, __ts, __created, "
        f"lead(__ts) OVER (PARTITION BY {own} ORDER BY __ts) AS __next "
        f"FROM {relation} SEMI JOIN {entities} e USING ({own}) "
        f"ORDER BY hash({shown}, __ts, __created, {seed}), {shown}, __ts, __created, __next "
        f"LIMIT {most}"
    ).fetchall()
    types = service.join_keys
    found = []
    for row in rows:
        anchor = {k: _utc(v, types[k]) for k, v in zip(keys, row, strict=False)}
        found.append({**anchor, "__ts": row[-3], "__created": row[-2], "__next": row[-1]})
    return found, view


def _utc(value: Any, type_: Type) -> Any:
    if type_.name == "datetime" and value is not None:
        return value.replace(tzinfo=dt.UTC)
    return value


def _pools(service: Service, anchors: list[dict[str, Any]]) -> dict[str, list[Any]]:
    pools: dict[str, list[Any]] = {}
    for key, type_ in service.join_keys.items():
        found = list(dict.fromkeys(a[key] for a in anchors if a.get(key) is not None))
        pools[key] = [*found, _unknown(type_)]
    return pools


def _unknown(type_: Type) -> Any:
    return {
        "int": -(2**63) + 12345,
        "str": "no such key \u2603",
        "bool": True,
        "bytes": b"\xff\x00",
        "date": dt.date(1, 1, 1),
        "datetime": EPOCH,
    }[type_.name]


def _key(anchor: dict[str, Any], key: str, pools: dict[str, list[Any]], rng: random.Random) -> Any:
    draw = rng.random()
    if draw < 0.02:
        return None
    if draw < 0.04:
        return pools[key][-1]
    value = anchor.get(key)
    return value if value is not None else rng.choice(pools[key])


def _offsets(view: View) -> set[int]:
    found = {0}
    for feature in view.features:
        if feature.aggregate is not None:
            found.add(feature.offset_us)
            if feature.frame is not None and feature.frame.session_us is not None:
                found.add(feature.offset_us + feature.frame.session_us)
            if not feature.lifetime:
                found.add(feature.offset_us + feature.window_us)
    if view.ttl_us is not None:
        found.add(view.ttl_us)
    return found


def _instant(
    anchor: dict[str, Any],
    offsets: list[int],
    hops: list[int],
    low: int,
    high: int,
    rng: random.Random,
) -> int:
    draw = rng.random()
    if draw < 0.35:
        return rng.randint(low - 1, high + max(offsets))
    if draw < 0.5:
        return int(anchor["__created"]) + rng.choice((-1, 0, 1))
    at = int(anchor["__ts"]) + rng.choice(offsets)
    if hops and draw < 0.65:
        hop = rng.choice(hops)
        at = at // hop * hop + hop * rng.choice((0, 1))
    return at + rng.choice((-1, 0, 0, 1))


def _value(type_: Type, rng: random.Random) -> Any:
    """A request field's value: often an awkward one."""
    if type_.optional and rng.random() < 0.1:
        return None
    if type_.choices is not None:
        return rng.choice(type_.choices)
    match type_.name:
        case "list" if type_.size is not None:
            return [as_float32(rng.uniform(-2, 2)) for _ in range(type_.size)]
        case "float":
            return rng.choice(_FLOATS) if rng.random() < 0.5 else round(rng.uniform(-50, 500), 2)
        case "int":
            return rng.choice(_INTS) if rng.random() < 0.5 else rng.randint(-100, 1000)
        case "bool":
            return rng.random() < 0.5
        case "str":
            return rng.choice(_TEXTS)
        case "bytes":
            return rng.choice(_TEXTS).encode()
        case "datetime":
            return EPOCH + rng.randint(0, 2**51) * MICROSECOND
        case "date":
            return dt.date.fromordinal(rng.randint(1, dt.date.max.toordinal()))
        case "timedelta":
            return rng.randint(-(10**12), 10**12) * MICROSECOND
        case "list":
            assert type_.item is not None
            return [_value(type_.item, rng) for _ in range(rng.randint(0, 4))]
        case name:
            raise TypeError(f"{name} is no request field")


def request_fields(service: Service, rng: random.Random) -> dict[str, Any]:
    """A value for each request field of a service."""
    return {p.name: _value(p.type, rng) for p in service.request}
