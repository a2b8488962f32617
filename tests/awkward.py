"""Hypothesis strategies for the data and the instants at which implementations differ.

Values come from small pools, so that ties, duplicates and repeated keys are the rule.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from featurekit.aggregates import Aggregate
from featurekit.core.durations import duration_us
from featurekit.core.timezones import to_utc_us
from featurekit.core.types import (
    EPOCH,
    INSTANT_MAX,
    INSTANT_MIN,
    Type,
    from_hint,
    instant,
    micros,
)
from featurekit.define.definitions import EventSource, FeatureView

SCHEMA: dict[str, Any] = {
    "key": int | None,
    "key2": str,
    "amount": float,
    "qty": int,
    "flag": bool | None,
    "name": str | None,
}
"""One column of every kind that differs between engines."""

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
HOUR, DAY = 3_600_000_000, 86_400_000_000
YEAR_2026 = micros(dt.datetime(2026, 1, 1))
BASES = (0, -DAY - 1, YEAR_2026)
"""Around the epoch, where division floors or truncates, before it, and today."""

_STEPS = (0, 1, 2, 1_000, 1_000_000, HOUR - 1, HOUR, HOUR + 1, DAY, DAY + 1, 7 * DAY, 8 * DAY)
_LATE = (0, 0, 0, 0, 1, 1_000_000, HOUR, DAY, 8 * DAY, -1, -HOUR)

_OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]
_FLOATS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 1 / 3, 0.1, 1e-308, -1e-308, 1e308, -1e308),
    *(5e-324, -5e-324, 2.225073858507201e-308, 2.2250738585072014e-308),
    *(1.7976931348623157e308, -1.7976931348623157e308, 9.9792015476736e291),
    *(2.0**53, 2.0**53 + 2, -(2.0**53), 2.0**63, -(2.0**63), 1e16, -1e16, 1e-16, 1e22, 1e23),
    *(float("inf"), float("-inf"), float("nan"), -float("nan"), _OTHER_NAN),
)
_CANCELLING = (
    *(1e308, -1e308, 1.7976931348623157e308, -1.7976931348623157e308, 9.9792015476736e291),
    *(1e16, -1e16, 2.0**53, -(2.0**53), 1.0, -1.0, 0.1, -0.1, 1e-16, 1e-308, 5e-324, -5e-324),
)
_INTS = (
    *(0, 1, -1, 2, 10, INT_MIN, INT_MIN + 1, INT_MAX, INT_MAX - 1, 2**62, -(2**62)),
    *(2**31, 2**31 - 1, -(2**31), 2**32, 2**53, 2**53 + 1, -(2**53) - 1),
)
_STRINGS = (
    *("", " ", "  ", "a", "A", "a ", " a", "a\t", "a\n", "\r\n", "\x00", "a\x00", "\x1c", "\x7f"),
    *("\u00a0", "\u200b", "\u2028", "\u3000", "\ufeff", "\ufeffa", "\uffff", "\U00010000"),
    *("\u00e9", "e\u0301", "ß", "ẞ", "ss", "ſ", "İ", "i\u0307", "ı", "Σ", "ς", "σας", "ǆ", "ﬁ"),
    *("𝔘", "👩‍👩‍👧", "🏳️‍🌈", "\U0010ffff", "١", "Ⅷ", "²", "漢字", "\u202eabc"),
    *("1", "01", "1.0", "True", "None", "NULL", "null", "nan", "\\N"),
    *("'", '"', ",", "\\", "%", "_"),
)
_BYTES = (b"", b"\x00", b"a", b"a\x00", b"A", b"\x7f", b"\x80", b"\xff", b"\xc3\xa9", b"\\x41")
_INSTANTS = (0, -1, 1, 999_999, -DAY, YEAR_2026, INSTANT_MIN, INSTANT_MAX)
_DATES = (dt.date.min, dt.date.max, dt.date(1969, 12, 31), dt.date(2024, 2, 29))
_TIMEDELTAS_US = (0, 1, -1, 999_999, -DAY, DAY, 2**53 + 1, -(2**62))

_money = st.integers(-10_000_000, 10_000_000).map(lambda cents: cents / 100)
_clamped = st.integers(INSTANT_MIN, INSTANT_MAX)
# The first flavours are tame: with NaN or 1e308 everywhere most sums would be NaN or errors.
_FLAVOURS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "bool": (st.booleans(),),
    "int": (st.integers(-3, 3), st.sampled_from(_INTS), st.integers(INT_MIN, INT_MAX)),
    "float": (
        _money,
        st.sampled_from(_CANCELLING),
        st.sampled_from(_FLOATS),
        st.floats(allow_nan=False, allow_infinity=False),
        st.floats() | _money | st.sampled_from(_FLOATS),
    ),
    "str": (st.sampled_from(_STRINGS), st.text(st.characters(codec="utf-8"), max_size=6)),
    "bytes": (st.sampled_from(_BYTES), st.binary(max_size=4)),
    "datetime": (st.sampled_from(_INSTANTS).map(instant), _clamped.map(instant)),
    "date": (st.sampled_from(_DATES), st.dates()),
    "timedelta": tuple(
        us.map(lambda n: dt.timedelta(microseconds=n))
        for us in (st.sampled_from(_TIMEDELTAS_US), st.integers(-(2**62), 2**62))
    ),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any awkward value of a type or hint, None among them where it is optional."""
    return st.one_of(_flavours(hint))


def events(
    schema: Mapping[str, Any] = SCHEMA,
    *,
    keys: Sequence[str] = ("key", "key2"),
    created: bool = True,
    max_size: int = 30,
    bases: Sequence[int] = BASES,
) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Up to `max_size` events of a schema, in any order, for `oracle.value`.

    Columns in `keys` take at most two values. Whole rows repeat. `__created` equals `__ts`, or is
    later or earlier; without `created` it always equals it (T3).
    """
    return _events(dict(schema), tuple(keys), created, max_size, tuple(bases))


def source_events(
    source: EventSource,
    *,
    keys: Sequence[str] = (),
    max_size: int = 30,
    bases: Sequence[int] = BASES,
) -> st.SearchStrategy[list[dict[str, Any]]]:
    """The `events` of a source; timestamp columns that stand in its schema agree with the event."""
    stamps = {source.created_timestamp_column: "__created", source.timestamp_field: "__ts"}

    def stamped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        known = {column: us for column, us in stamps.items() if column in source.schema}
        return [row | {column: instant(row[us]) for column, us in known.items()} for row in rows]

    created = source.created_timestamp_column not in (None, source.timestamp_field)
    return events(source.schema, keys=keys, created=created, max_size=max_size, bases=bases).map(
        stamped
    )


def entity_keys(
    join_keys: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    """Join keys mostly of the events, in all combinations; sometimes unknown, sometimes None."""
    seen = [{name: row[name] for name in join_keys} for row in rows] or [dict.fromkeys(join_keys)]
    mixed = {
        name: _mostly(st.sampled_from([one[name] for one in seen]), values(hint) | st.none())
        for name, hint in join_keys.items()
    }
    return _mostly(st.sampled_from(seen), st.fixed_dictionaries(mixed))


@dataclass(frozen=True)
class Window:
    """What decides where a window opens and closes, in microseconds (T4, T5)."""

    length_us: int
    hop_us: int | None = None
    offset_us: int = 0
    timezone: str | None = None
    """The zone at whose midnights a window of periods begins and ends (T10)."""


def windows(*views: FeatureView) -> list[Window]:
    """The windows of all aggregates and the ttls of all latest rows."""
    found = []
    for view in views:
        for definition in view.features.values():
            if isinstance(definition, Aggregate):
                offset = definition.offset
                endless = definition.window in ("lifetime", "")
                if definition.session is not None:
                    gap = duration_us(definition.session, what="session")
                    found.append(Window(gap))
                if definition.calendar is not None:
                    found.append(Window(0, timezone=definition.timezone))
                found.append(
                    Window(
                        0 if endless else duration_us(definition.window, what="window"),
                        duration_us(definition.hop, what="hop") if definition.hop else None,
                        duration_us(offset, what="offset", zero=True) if offset is not None else 0,
                    )
                )
        if view.ttl is not None:
            found.append(Window(duration_us(view.ttl, what="ttl")))
    return list(dict.fromkeys(found))


def edges(rows: Iterable[Mapping[str, Any]], over: Iterable[Window]) -> list[int]:
    """Every instant at which an event becomes known, enters or leaves a window, and 1 µs around."""
    over, at = list(over), set()
    for row in rows:
        ts, created = row["__ts"], row["__created"]
        at |= {ts, created}
        for window in over:
            moved = window.length_us + window.offset_us
            at |= {ts + window.offset_us, ts + window.length_us, ts + moved}
            if window.timezone is not None:
                at |= set(_midnights(ts, window.timezone))
            if window.hop_us is not None:
                below = ts // window.hop_us * window.hop_us
                for multiple in (below, below + window.hop_us):
                    at |= {multiple, multiple + window.length_us, multiple + moved}
    around = {us + d for us in at for d in (-1, 0, 1)}
    return sorted(us for us in around if INSTANT_MIN <= us <= INSTANT_MAX)


def _midnights(ts: int, timezone: str) -> Iterable[int]:
    """The beginnings of the days around an instant, and of the weeks and months that follow."""
    near = EPOCH.date().toordinal() + ts // DAY
    days = [near - 1, near, near + 1, near + 2, near + 8 - (near + 6) % 7]
    months = [dt.date.fromordinal(near) + dt.timedelta(days=by) for by in (0, 31, 62)]
    days += [day.replace(day=1).toordinal() for day in months]
    return (to_utc_us(dt.datetime.fromordinal(day), timezone) for day in days)


def instants(rows: Iterable[Mapping[str, Any]], over: Iterable[Window]) -> st.SearchStrategy[int]:
    """An instant in µs to ask at: mostly one of the `edges`, else any between or around them."""
    at = edges(rows, over) or [0, YEAR_2026]
    low, high = max(at[0] - DAY, INSTANT_MIN), min(at[-1] + DAY, INSTANT_MAX)
    return _mostly(st.sampled_from(at), st.integers(low, high))


def _type(hint: Any) -> Type:
    return hint if isinstance(hint, Type) else from_hint(hint)


def _flavours(hint: Any) -> list[st.SearchStrategy[Any]]:
    type_ = _type(hint)
    if type_.item is not None:
        flavours = [st.lists(f, max_size=3) for f in _flavours(type_.item)]
    else:
        flavours = list(_FLAVOURS[type_.name])
    return [_mostly(f, st.none()) for f in flavours] if type_.optional else flavours


def _mostly(
    often: st.SearchStrategy[Any], seldom: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    # A one_of would drop the repetition that makes `often` the likelier.
    return st.sampled_from([often] * 4 + [seldom]).flatmap(lambda one: one)


@st.composite
def _events(
    draw: st.DrawFn,
    schema: dict[str, Any],
    keys: tuple[str, ...],
    created: bool,
    max_size: int,
    bases: tuple[int, ...],
) -> list[dict[str, Any]]:
    pools = {}
    for column, hint in schema.items():
        flavour = draw(st.sampled_from(_flavours(hint)))
        pool = draw(st.lists(flavour, min_size=1, max_size=2 if column in keys else 5))
        pools[column] = st.sampled_from(pool)
    base = draw(st.sampled_from(bases))
    steps = draw(st.lists(st.sampled_from(_STEPS), min_size=1, max_size=4))
    ts = st.sampled_from([_in_range(base + step) for step in steps])
    late = st.sampled_from(_LATE if created else (0,))
    row = st.fixed_dictionaries(pools | {"__ts": ts, "__created": late})
    many = st.lists(row, min_size=min(4, max_size), max_size=max_size)
    rows = draw(_mostly(many, st.lists(row, max_size=max_size)))
    rows = [one | {"__created": _in_range(one["__ts"] + one["__created"])} for one in rows]
    if rows and len(rows) < max_size:
        again = st.lists(st.sampled_from(rows), max_size=min(3, max_size - len(rows)))
        rows = draw(st.permutations(rows + [dict(one) for one in draw(again)]))
    return rows


def _in_range(us: int) -> int:
    return min(max(us, INSTANT_MIN), INSTANT_MAX)
