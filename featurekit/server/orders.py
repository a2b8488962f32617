"""What a worker and the pusher say to each other, over a socket of this machine: orders and
replies, each a head of JSON and a body, with the lengths of both before them."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

from featurekit.server import as_json
from featurekit.server.callers import Caller

FEAST, OWN = "feast", "own"
JSON, MSGPACK, ARROW, PARQUET = "json", "msgpack", "arrow", "parquet"
_LENGTHS = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Order:
    """A push that is asked for: the `kind` of its body (JSON, MSGPACK, ARROW or PARQUET), its
    `form` (FEAST or OWN), the source, where the path names it, the key under which it may come
    again, the id of the request, and how long its caller waits. `packed` asks for an answer in
    MessagePack.

    The caller is asked for its scope here where the body alone names the source.
    """

    form: str
    kind: str
    source: str | None
    key: str | None
    id: str
    left_s: float
    caller: Caller
    packed: bool = False

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Order:
        """The order of the fields that were received."""
        caller = fields.pop("caller")
        caller["scopes"] = frozenset(caller["scopes"])
        return cls(caller=Caller(**caller), **fields)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an order: the status of HTTP, the headers beside the usual, the kind of an
    error, and the source that took the rows."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    kind: str = ""
    source: str = ""


async def send(writer: asyncio.StreamWriter, head: Order | Done, body: bytes) -> None:
    """Write an order or a reply."""
    fields = asdict(head)
    if isinstance(head, Order):
        fields["caller"]["scopes"] = sorted(head.caller.scopes)
    shown = as_json.dumps(fields)
    writer.write(_LENGTHS.pack(len(shown), len(body)))
    writer.write(shown)
    writer.write(body)
    await writer.drain()


async def received(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """The fields of a head, and its body. IncompleteReadError at the end of the connection."""
    first, second = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    head = as_json.loads(await reader.readexactly(first))
    return head, await reader.readexactly(second)
