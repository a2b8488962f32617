"""Decides which rows of an id are events that count, and encodes what is remembered of an id (T7).

The rows of one id are taken in the order of their arrival, ties by T6. Without an `op`, the first
row is the event. Copies that arrive up to `dedupe_within` after it are ignored, and the next row
after that time is an event again. With an `op`, each row is a version, which counts until the next
one arrives if that is within `dedupe_within`. `offline.counted_events` has the same rule in SQL.

A memory is a function of the *set* of rows. Rows that arrived before its *floor* can be dropped,
since no push brings a row that arrived before it. Materialising moves the floor, since it has all
rows at hand.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.core.keys import decode_key, key_encoder
from featurekit.core.status import FOREVER
from featurekit.core.types import instant
from featurekit.core.values import sort_value
from featurekit.define.plan import Source, View
from featurekit.define.union import FROM, instant_columns, row_orders
from featurekit.errors import DamagedState, OnlineError
from featurekit.online.state.codec import (
    ALL_PRESENT,
    FORMATS,
    decode_column,
    encode_column,
    one_value,
)
from featurekit.online.state.seal import UNREADABLE, is_sealed, opened, sealed

VERSION = 1
_HEADER = struct.Struct("<BI")
_ONE_ROW = struct.Struct("<BIqq")

Row = Mapping[str, Any]
"""The columns of a source's schema, and `__ts` and `__created` in microseconds UTC."""


class Ids:
    """How the ids of a view's source are remembered; `view.dedupe_us` must not be None."""

    def __init__(self, view: View) -> None:
        source = view.source
        assert source.event_id is not None
        assert view.dedupe_us is not None
        self.view, self.within, self.op = view, view.dedupe_us, source.op
        self.event_id = source.event_id
        self.schema = [(p.name, p.type) for p in source.schema]
        self.type_of = dict(self.schema)
        self._one = [(name, one_value(type_)) for name, type_ in self.schema]
        self._key = key_encoder(self.type_of[self.event_id])
        codes = [FORMATS[t.name] for _, t in self.schema if t.name in ("int", "float", "bool")]
        self._numbers: struct.Struct | None = None
        if len(codes) == len(self.schema):
            self._numbers = struct.Struct("<BIqq" + "".join(f"B{code}" for code in codes))
        self._names = [name for name, _ in self.schema]
        self._orders = row_orders(source)
        self._united = source.parts is not None
        self._arrivals = [_arrivals(of) for of in instant_columns(source)]

    def name(self, row: Row) -> bytes:
        """The bytes that name a row's id."""
        return self._key(row[self.event_id])

    def order(self, row: Row) -> tuple[Any, ...]:
        """The sort key of the order of arrival, ties by T6. It is hashable, and equal only for
        equal rows."""
        number = row[FROM] if self._united else 0
        names = self._orders[number]
        return row["__created"], row["__ts"], number, *[_rank(row[name]) for name in names]

    def merged(self, known: Sequence[Row], more: Sequence[Row]) -> list[Row]:
        """The rows of both, in the order of their arrival; equal rows once."""
        if len(known) + len(more) == 1:
            return [*known, *more]
        found = {self.order(row): row for row in (*known, *more)}
        return sorted(found.values(), key=self.order)

    def content(self, row: Row) -> Any:
        """A row's values without its arrival, in a form that can be compared."""
        return self.order(self.stamped(row, 0))

    def stamped(self, row: Row, created: int) -> Row:
        """The row with `created` as its arrival."""
        return _stamped(row, created, self._arrivals[row[FROM] if self._united else 0])

    def repeated(
        self, known: list[Row], rows: list[Row], now: int, within: int
    ) -> list[int | None]:
        """For each of `rows`, the arrival that it keeps; None for a row that arrives now.

        `rows` are new rows of one id. A row keeps the arrival of a row of `known` that it repeats,
        value for value except the arrival. With an `op`, all of `rows` must be known, and the
        newest known row must be among them: an earlier version that comes alone takes effect once
        more.
        """
        if not known:
            return [None] * len(rows)
        if self.op is None:
            since = self._first_known(known)[-1]["__created"]
            held = [row for row in known if row["__created"] >= since]
        else:
            since, held = known[-1]["__created"], known
        arrivals = {self.content(row): row["__created"] for row in held}
        contents = [self.content(row) for row in rows]
        found = [arrivals.get(content) for content in contents]
        if not 0 <= now - since <= within:
            return [None] * len(rows)
        if self.op is not None and (None in found or self.content(known[-1]) not in contents):
            return [None] * len(rows)
        return found

    def counting(self, rows: list[Row]) -> list[tuple[Row, int]]:
        """The rows that are events, each with the instant from which it no longer counts.

        `rows` are all rows of an id, in the order of their arrival.
        """
        if self.op is None:
            first = rows if len(rows) == 1 else self._first_known(rows)
            return [(row, FOREVER) for row in first]
        found = []
        for i, row in enumerate(rows):
            end = rows[i + 1]["__created"] if i + 1 < len(rows) else FOREVER
            if end - row["__created"] > self.within:
                end = FOREVER
            if row[self.op] == "upsert" and end > row["__created"]:
                found.append((row, end))
        return found

    def _first_known(self, rows: list[Row]) -> list[Row]:
        found: list[Row] = []
        for row in rows:
            if not found or row["__created"] > found[-1]["__created"] + self.within:
                found.append(row)
        return found

    def kept(self, rows: list[Row], floor: int) -> list[Row]:
        """The rows that must be remembered where no row that arrived before `floor` comes any more:
        the later ones, and the one before `floor` that they are compared with."""
        later = [row for row in rows if row["__created"] >= floor]
        before = [row for row in rows if row["__created"] < floor]
        held = before if self.op is not None else self._first_known(before)
        near = [row for row in held[-1:] if row["__created"] >= floor - self.within]
        return [*near, *later]

    def read(self, key: bytes, value: bytes | None) -> list[Row]:
        """The rows that are kept under `key`; none for None. DamagedState where the value is not as
        it was written."""
        if value is None:
            return []
        found, how = opened(key, value), "its checksum is another one"
        try:
            if found is not None:
                return self.decode(found)
            if not is_sealed(value):
                how = "no memory of rows begins as it does"
        except UNREADABLE as error:
            if is_sealed(value):
                raise
            how = f"it cannot be read ({error})"
        shown = decode_key(self.type_of[self.event_id], key.split(b":", 5)[5])
        raise self._damaged(f"the memory of {self.event_id}={shown}", key, how)

    def written(self, key: bytes, rows: list[Row]) -> bytes:
        """The bytes to keep under `key`; empty for no rows."""
        return sealed(key, self.encode(rows))

    def read_floor(self, key: bytes, value: bytes | None) -> int | None:
        """The floor that is kept under `key`. DamagedState where it is not as it was written."""
        if value is None:
            return None
        found = opened(key, value) if is_sealed(value) else b"\1" + value
        try:
            return int(found[1:]) if found is not None else int("")
        except ValueError:
            raise self._damaged("the floor of its ids", key, "it is no number") from None

    def written_floor(self, key: bytes, floor: int) -> bytes:
        """The bytes to keep under `key` for a floor."""
        return sealed(key, b"\1%d" % floor)

    def _damaged(self, what: str, key: bytes, how: str) -> DamagedState:
        name = self.view.name
        return DamagedState(
            f"view {name!r}: {what} is damaged: {how}. `featurekit materialize --view {name}` "
            "writes it again, from the files and the log of pushes",
            key,
        )

    def encode(self, rows: list[Row]) -> bytes:
        """The canonical bytes of rows in the order of their arrival; empty for no rows."""
        if not rows:
            return b""
        n = len(rows)
        if n == 1:
            row = rows[0]
            made = self._of_numbers(row)
            if made is not None:
                return made
            head = _ONE_ROW.pack(VERSION, 1, row["__created"], row["__ts"])
            return head + b"".join([encode(row[name]) for name, encode in self._one])
        parts = [_HEADER.pack(VERSION, n)]
        for name in ("__created", "__ts"):
            parts.append(struct.pack(f"<{n}q", *(row[name] for row in rows)))
        for name, type_ in self.schema:
            parts.append(encode_column(type_, [row[name] for row in rows]))
        return b"".join(parts)

    def _of_numbers(self, row: Row) -> bytes | None:
        """The bytes of a row that holds only numbers, by one call of `struct`; None for another
        row."""
        if self._numbers is None:
            return None
        values: list[Any] = []
        for name in self._names:
            value = row[name]
            if value is None or value != value:  # NaN has one form
                return None
            values += (ALL_PRESENT, value)
        return self._numbers.pack(VERSION, 1, row["__created"], row["__ts"], *values)

    def decode(self, blob: bytes | None) -> list[Row]:
        """The rows that `encode` wrote; no rows for None."""
        if not blob:
            return []
        version, n = _HEADER.unpack_from(blob)
        if version != VERSION:
            raise OnlineError(
                f"view {self.view.name!r}: ids of version {version}; this featurekit reads version "
                f"{VERSION}; materialise the view again"
            )
        data, at = memoryview(blob), _HEADER.size
        columns: dict[str, Any] = {}
        for name in ("__created", "__ts"):
            columns[name] = struct.unpack_from(f"<{n}q", blob, at)
            at += 8 * n
        for name, type_ in self.schema:
            values, _, at = decode_column(type_, data, at, n)
            columns[name] = values
        return [{name: column[i] for name, column in columns.items()} for i in range(n)]


def stamped(source: Source, row: Row, created: int) -> Row:
    """A row of a source that is no union, with `created` as its arrival."""
    return _stamped(row, created, _arrivals(instant_columns(source)[0]))


def _arrivals(columns: Mapping[str, str]) -> list[str]:
    return [column for column, of in columns.items() if of == "__created"]


def _stamped(row: Row, created: int, columns: Sequence[str]) -> Row:
    if not columns:
        return {**row, "__created": created}
    return {**row, "__created": created, **dict.fromkeys(columns, instant(created))}


def _rank(value: Any) -> tuple[Any, ...]:
    """As `sort_value`, but hashable."""
    rank = sort_value(value)
    return _hashable(rank) if isinstance(value, list) else rank


def _hashable(value: Any) -> Any:
    return tuple(_hashable(v) for v in value) if isinstance(value, (list, tuple)) else value
