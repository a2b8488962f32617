"""What is written in one turn of the event loop goes out together, in order, and whole."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from serving import Served

from featurekit.server.gathered import Gathered

PATH = "/v1/services/plain/features"


class Below:
    """A transport that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.closing = False

    def writelines(self, parts: list[bytes]) -> None:
        self.told.append(b"".join(parts))

    def close(self) -> None:
        self.told.append("closed")

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> str:
        return f"the {name}"


def told(*turns: list[str | bytes], closing: bool = False) -> list[Any]:
    """What reaches the transport below when these are written, a list in each turn of the loop."""

    async def main() -> list[Any]:
        below = Below()
        below.closing = closing
        gathered: Any = Gathered(below, asyncio.get_running_loop())  # type: ignore[arg-type]
        for turn in turns:
            for what in turn:
                if what == "close":
                    gathered.close()
                else:
                    gathered.write(what)
            await asyncio.sleep(0)
        assert gathered.get_extra_info("peername") == "the peername"
        return below.told

    return asyncio.run(main())


def test_what_is_written_in_one_turn_goes_out_at_once():
    assert told([b"head", b"body"], [b"more"], []) == [b"headbody", b"more"]


def test_what_was_written_goes_out_before_the_end():
    assert told([b"head", b"body", "close"]) == [b"headbody", "closed"]
    assert told([], ["close"]) == ["closed"]


def test_nothing_goes_out_where_the_other_side_is_gone():
    assert told([b"head", b"body"], closing=True) == []


def asked(n: int, more: str = "") -> bytes:
    body = json.dumps({"rows": [{"key": 1 + i % 2} for i in range(n)]}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\n{more}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_requests_that_come_together_are_answered_in_order(server: Served):
    """Large and small answers on one connection, which the last one closes."""
    numbers = [1, 5_000, 2, 3_000, 1]
    with socket.create_connection(("127.0.0.1", server.port), 30) as one:
        last = asked(numbers[-1], "connection: close\r\n")
        one.sendall(b"".join([*map(asked, numbers[:-1]), last]))
        reader = one.makefile("rb")
        found = []
        for _ in numbers:
            assert reader.readline().split()[1] == b"200"
            length = 0
            while (line := reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            found.append(len(json.loads(reader.read(length))["columns"]["key"]))
        assert found == numbers
        assert reader.read() == b""
