"""Turns served rows into columns and their wire form, which is that of online states, column by
column.

A block holds rows of one version of one service. Values keep their bits (there is one NaN), their
types and their statuses; a dict keeps its order.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from featurekit.core.status import FORGOTTEN, LOGGED_STATUSES
from featurekit.core.types import BOOL, INT, STR, Type, list_of
from featurekit.define.plan import Service
from featurekit.errors import DataError
from featurekit.language.wire import from_json, to_json
from featurekit.online.state.codec import decode_column, encode_column

FORMAT, WITH_PREDICTIONS = 1, 2
"""The formats of a head; the second one has what models predicted, which older readers refuse."""
HEADER = struct.Struct("<BI")
_CODES = {status: code for code, status in enumerate(LOGGED_STATUSES)}
MIXED_STATUSES = 255
_PLAIN = {"int": "q", "float": "d", "bool": "?"}

ROUTED, INSTEAD, SHADOW = "routed", "instead", "shadow"
LOOKED_UP = "looked_up"
PREDICTED: Mapping[str, Type] = {
    "request_id": STR,
    "row": INT,
    "target": STR,
    "role": STR,
    "answered": BOOL,
    "prediction": STR.or_none(),
    "error": STR.or_none(),
    "latency_us": INT,
    "model_version": STR.or_none(),
    "route": STR,
    "caller": STR,
}
"""What is logged of a prediction beside its features: the id of the request, the place of the row
in it, and the target that was asked. A server's lookups without a model have it too, with the role
LOOKED_UP and no target, prediction or route.

`role` is ROUTED where the route says the target, INSTEAD where it was asked because another one had
failed, and SHADOW where it never answers. `answered` says whether the client was given it. The
`prediction` is JSON; where it is None, `error` says why. `latency_us` are the microseconds for
which the target was waited for. `model_version` is what the server calls the model's version, if
anything, `route` the route at that time, and `caller` who asked.
"""


@dataclass(frozen=True, slots=True)
class ServedHead:
    """What all rows of a version share: the service, its fingerprint, the numeric fingerprint of
    the process that answered, and the names and types of the columns."""

    project: str
    service: str
    fingerprint: str
    numerics: dict[str, str]
    views: tuple[str, ...]
    keys: dict[str, Type]
    request: dict[str, Type]
    outputs: dict[str, Type]
    predicted: dict[str, Type] = field(default_factory=dict)

    @staticmethod
    def of(
        project: str, service: Service, numerics: Mapping[str, str], *, predicted: bool = False
    ) -> ServedHead:
        """The head of the rows that a compiled service answers with, and of what models `predicted`
        from them."""
        return ServedHead(
            project,
            service.name,
            service.fingerprint,
            dict(numerics),
            tuple(v.title for v in service.views),
            {name: type_.or_none() for name, type_ in service.join_keys.items()},
            {p.name: p.type for p in service.request},
            {o.full_name: o.type.or_none() for o in service.outputs},
            dict(PREDICTED) if predicted else {},
        )

    def to_json(self) -> str:
        """The head as text."""
        names = list(self.__dataclass_fields__)
        if not self.predicted:
            names.remove("predicted")
        named = {name: to_json(getattr(self, name)) for name in names}
        form = WITH_PREDICTIONS if self.predicted else FORMAT
        return json.dumps({"format": form, **named}, separators=(",", ":"))

    @staticmethod
    def from_json(text: str | bytes) -> ServedHead:
        """The head that `to_json` wrote. DataError for a log of another format."""
        found = json.loads(text)
        form = found.pop("format", None)
        if form not in (FORMAT, WITH_PREDICTIONS):
            raise DataError(
                f"a serving log of another format; this featurekit reads {FORMAT} and "
                f"{WITH_PREDICTIONS}"
            )
        for name in ("keys", "request", "outputs", *["predicted"] * (form == WITH_PREDICTIONS)):
            found[name] = {column: from_json(type_, Type) for column, type_ in found[name]["m"]}
        plain = ("project", "service", "fingerprint", "numerics", "views")
        return ServedHead(**found | {name: from_json(found[name]) for name in plain})


@dataclass(slots=True)
class ServedBlock:
    """Rows of one version, in columns of equal length.

    `served_at` and `as_of` are in microseconds; `request` numbers the requests of a process.
    `arrivals` has for each view the newest arrival in the state of the row's entity, None if there
    was no state: what arrived later was not online yet. `until` has for each view two instants;
    while the rows were served it was materialised up to an instant between them, None if it never
    was. `dropped` counts the rows that the process lost before these. `predicted` has the columns
    of PREDICTED where a model was asked.
    """

    head: ServedHead
    served_at: list[int]
    as_of: list[int]
    request: list[int]
    arrivals: Sequence[Sequence[int | None]]
    keys: Sequence[Sequence[Any]]
    fields: Sequence[Sequence[Any]]
    values: Sequence[Sequence[Any]]
    statuses: Sequence[Sequence[str]]
    until: list[tuple[int, int] | None]
    process: str = ""
    dropped: int = 0
    predicted: Sequence[Sequence[Any]] = ()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.as_of)

    def some(self, rows: Sequence[int]) -> ServedBlock:
        """A block of the rows at these places."""

        def of(column: Sequence[Any]) -> list[Any]:
            return [column[i] for i in rows]

        def all_of(columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
            return [of(column) for column in columns]

        return replace(
            self,
            served_at=of(self.served_at),
            as_of=of(self.as_of),
            request=of(self.request),
            arrivals=all_of(self.arrivals),
            keys=all_of(self.keys),
            fields=all_of(self.fields),
            values=all_of(self.values),
            statuses=all_of(self.statuses),
            predicted=all_of(self.predicted),
        )

    def about(self) -> dict[str, Any]:
        """The facts about the whole block, for JSON."""
        return {"process": self.process, "dropped": self.dropped, "until": self.until}


class Gathered:
    """Gives `take` the rows of blocks in larger ones: counting a column has a price for each block,
    and serving writes a block every half second. Blocks of one head that follow each other become
    one, of about `rows` rows; facts about a whole block are those of the first."""

    def __init__(self, take: Callable[[ServedBlock], object], rows: int = 20_000) -> None:
        self._take, self._most = take, rows
        self._blocks: list[ServedBlock] = []
        self._rows = 0

    def take(self, block: ServedBlock) -> None:
        """Take a block, which may wait for the next ones."""
        if self._blocks and self._blocks[0].head != block.head:
            self.flush()
        self._blocks.append(block)
        self._rows += block.rows
        if self._rows >= self._most:
            self.flush()

    def flush(self) -> None:
        """Give on what waits."""
        blocks, self._blocks, self._rows = self._blocks, [], 0
        if blocks:
            self._take(blocks[0] if len(blocks) == 1 else _joined(blocks))


def _joined(blocks: Sequence[ServedBlock]) -> ServedBlock:
    """One block of the rows of several, which have one head."""

    def all_of(name: str) -> list[list[Any]]:
        many = [getattr(block, name) for block in blocks]
        return [[*chain.from_iterable(columns)] for columns in zip(*many, strict=True)]

    def of(name: str) -> list[Any]:
        return [*chain.from_iterable(getattr(block, name) for block in blocks)]

    columns = ("arrivals", "keys", "fields", "values", "statuses", "predicted")
    made: dict[str, Any] = {name: all_of(name) for name in columns}
    made |= {name: of(name) for name in ("served_at", "as_of", "request")}
    return replace(blocks[0], **made)


def is_forgotten(block: ServedBlock, i: int) -> bool:
    """Whether `forget` took everything out of a row."""
    return all(statuses[i] == FORGOTTEN for statuses in block.statuses)


def rows_by_request(block: ServedBlock) -> Iterator[tuple[int, list[tuple[str, int]]]]:
    """Each row's place in the block with the names that it has: the id of its request, if it has
    one, and the process with the request's number, as PROCESS:NUMBER, each with the row's place in
    that request. The block has every row that was served, those that are forgotten among them."""
    places: dict[int, int] = {}
    told = dict(zip(block.head.predicted, block.predicted, strict=True))
    for i, number in enumerate(block.request):
        by_process = f"{block.process}:{number}"
        if told:
            row = told["row"][i]
            yield i, [(told["request_id"][i], row), (by_process, row)]
        else:
            row = places[number] = places.get(number, -1) + 1
            yield i, [(by_process, row)]


def encode(block: ServedBlock) -> Iterator[bytes]:
    """The block's bytes, column by column, so that the caller may pause in between."""
    yield HEADER.pack(FORMAT, block.rows)
    for instants in (block.served_at, block.as_of, block.request):
        yield _encode(INT, instants)
    for arrivals in block.arrivals:
        yield _encode(INT, arrivals)
    head = block.head
    for types, columns in (
        (head.keys, block.keys),
        (head.request, block.fields),
        (head.outputs, block.values),
        (head.predicted, block.predicted),
    ):
        for type_, values in zip(types.values(), columns, strict=True):
            yield _encode(type_, values)
    for statuses in block.statuses:
        yield _encode_statuses(statuses)


def decode(head: ServedHead, data: bytes, about: Mapping[str, Any]) -> ServedBlock:
    """The block that `encode` wrote. DataError if the bytes are not a block with this head."""
    try:
        return _decode(head, data, about)
    except (struct.error, IndexError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{len(data)} bytes are no block of a serving log: {error}") from None


def _decode(head: ServedHead, data: bytes, about: Mapping[str, Any]) -> ServedBlock:
    version, n = HEADER.unpack_from(data)
    if version != FORMAT:
        raise DataError(f"a block of format {version}; this featurekit reads {FORMAT}")
    view, at = memoryview(data), HEADER.size

    def columns(types: Sequence[Type]) -> list[list[Any]]:
        nonlocal at
        found = []
        for type_ in types:
            values, at = _decode_column(type_, view, at, n)
            found.append(values)
        return found

    served_at, as_of, request = columns([INT] * 3)
    arrivals = columns([INT] * len(head.views))
    keys, fields, values, predicted = (
        columns(list(types.values()))
        for types in (head.keys, head.request, head.outputs, head.predicted)
    )
    statuses = []
    for _ in head.outputs:
        same, codes = view[at], view[at + 1 : at + 1 + n]
        at += 1
        if same == MIXED_STATUSES:
            statuses.append([LOGGED_STATUSES[code] for code in codes])
            at += n
        else:
            statuses.append([LOGGED_STATUSES[same]] * n)
    if at != len(data):
        raise ValueError("their length is another")
    until = [None if u is None else (u[0], u[1]) for u in about["until"]]
    return ServedBlock(
        head, served_at, as_of, request, arrivals, keys, fields, values, statuses, until,
        about["process"], about["dropped"], predicted,
    )  # fmt: skip


def _encode(type_: Type, values: Sequence[Any]) -> bytes:
    """As `encode_column`, with the same bytes, but faster for many values of the plain types."""
    if type_.name == "dict":
        # Only aggregates give dicts: they are written as a column of keys and a column of values.
        keys = [None if v is None else list(v) for v in values]
        held = [None if v is None else list(v.values()) for v in values]
        return _encode(list_of(_item(type_)), keys) + _encode(list_of(type_.held), held)
    code = _PLAIN.get(type_.name)
    if code is None or None in values:
        return encode_column(type_, values)
    if code == "d" and not math.isfinite(sum(values)):
        return encode_column(type_, values)  # makes every NaN the one NaN
    return b"\0" + struct.pack(f"<{len(values)}{code}", *values)


def _encode_statuses(statuses: Sequence[str]) -> bytes:
    """One byte if all statuses are the same, else one more byte for each."""
    n = len(statuses)
    if n and statuses.count(statuses[0]) == n:
        return bytes((_CODES[statuses[0]],))
    return bytes((MIXED_STATUSES, *map(_CODES.__getitem__, statuses)))


def _decode_column(type_: Type, data: memoryview, at: int, n: int) -> tuple[list[Any], int]:
    if type_.name != "dict":
        values, _, at = decode_column(type_, data, at, n)
        if len(values) != n:
            raise ValueError("they end too soon")
        return list(values), at
    keys, _, at = decode_column(list_of(_item(type_)), data, at, n)
    held, _, at = decode_column(list_of(type_.held), data, at, n)
    pairs = zip(keys, held, strict=True)
    return [None if k is None else dict(zip(k, c, strict=True)) for k, c in pairs], at


def _item(type_: Type) -> Type:
    assert type_.item is not None
    return type_.item
