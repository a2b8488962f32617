"""Gives the entries of a Redis stream to a member of a consumer group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurekit.define.definitions import EventSource
from featurekit.errors import DataError, StoreUnavailable
from featurekit.feed.streams.fields import row_of_fields, text_of
from featurekit.feed.streams.protocol import Found
from featurekit.online.store.url import without_secrets

_BLOCK_MS = 500
Entry = tuple[bytes, dict[bytes, bytes]]
"""An entry's id, and its fields."""


class RedisStream:
    """The stream `name` of a Redis, as the member `member` of `group` reads it, `batch` entries at
    once. Entries that another member has held for `idle_ms` are taken over."""

    numbered = False

    def __init__(
        self,
        client: Any,
        source: EventSource,
        name: str,
        *,
        url: str | None,
        group: str,
        member: str,
        batch: int,
        idle_ms: int,
    ) -> None:
        self.client, self.source, self.name, self.url = client, source, name, url
        self.group, self.member, self.batch, self.idle_ms = group, member, batch, idle_ms
        self._pending = True

    def join(self) -> None:
        """Make the group, unless another member has. DataError where the key holds something
        else."""
        from redis.exceptions import ResponseError

        try:
            self._ask("xgroup_create", self.name, self.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # another member has made it
                raise DataError(f"stream {self.name!r}: {error}") from None
        self._pending = True

    def _ask(self, command: str, *args: Any, **kwargs: Any) -> Any:
        from redis.exceptions import ConnectionError, TimeoutError

        try:
            return getattr(self.client, command)(*args, **kwargs)
        except (ConnectionError, TimeoutError, OSError) as error:
            said = without_secrets(str(error), self.url)
            raise StoreUnavailable(
                f"the Redis of stream {self.name!r} cannot be reached: {said}; what is not "
                "acknowledged is delivered again"
            ) from error

    # --- what to take -----------------------------------------------------------------------------

    def read(self, *, wait: bool) -> Found:
        """The member's own entries, then those that others have left, then new ones. Those that
        were trimmed away while they waited are acknowledged."""
        entries, taken_over = self._mine(), 0
        if not entries:
            entries = self._left_by_others()
            taken_over = len(entries)
        if not entries:
            entries = self._entries(">", block=_BLOCK_MS if wait else None)
        gone = [id_ for id_, fields in entries if not fields]
        if gone:
            self._acknowledge(gone)
        held = [entry for entry in entries if entry[1]]
        return Found(held, taken_over, len(gone), ended=not entries)

    def _mine(self) -> list[Entry]:
        """The entries that were delivered to a member of this name before it died."""
        if not self._pending:
            return []
        found = self._entries("0", block=None)
        self._pending = bool(found)
        return found

    def _left_by_others(self) -> list[Entry]:
        """The entries that another member has held for too long."""
        found = self._ask(
            "xautoclaim", self.name, self.group, self.member, self.idle_ms, count=self.batch
        )
        return [(id_, fields) for id_, fields in found[1] if fields is not None]

    def _entries(self, after: str, *, block: int | None) -> list[Entry]:
        found = self._ask(
            "xreadgroup", self.group, self.member, {self.name: after}, count=self.batch, block=block
        )
        if isinstance(found, dict):  # RESP3
            return [entry for part in found.values() for group in part for entry in group]
        return [entry for _, entries in found for entry in entries]

    def waiting(self) -> tuple[int | None, float]:
        """How many entries of the stream the group has not acknowledged, None where the server does
        not tell, and the age of the oldest of them in seconds, by the ids that the server gave; 0
        where there is none."""
        from redis.exceptions import ResponseError

        try:
            groups = self._ask("xinfo_groups", self.name)
            found = next((g for g in groups if _raw(g["name"]) == self.group.encode()), None)
            if found is None:  # it will begin with the first entry
                found = {"pending": 0, "last-delivered-id": "0-0"}
                found["lag"] = self._ask("xlen", self.name)
            lag = found.get("lag")
            entries = None if lag is None else int(lag) + int(found["pending"])
            if found["pending"]:
                oldest = self._ask("xpending", self.name, self.group)["min"]
            else:
                last = _raw(found["last-delivered-id"]).decode()
                left = self._ask("xrange", self.name, min=f"({last}", count=1)
                oldest = left[0][0] if left else None
            if oldest is None:
                return entries, 0.0
            seconds, microseconds = self._ask("time")
            added_s = int(_raw(oldest).split(b"-")[0]) / 1e3
            return entries, max(0.0, seconds + microseconds / 1e6 - added_s)
        except ResponseError:  # there is no such stream any more, or no such group
            return 0, 0.0

    # --- one entry --------------------------------------------------------------------------------

    def row(self, message: Entry) -> dict[str, Any]:
        """The row that an entry's fields stand for."""
        return row_of_fields(self.source, message[1])

    def part(self, message: Entry) -> str:
        """Entries have none: another member may take over some of them, in any order."""
        raise AssertionError("a Redis stream is not numbered")

    def number(self, message: Entry) -> int:
        """As `part`."""
        raise AssertionError("a Redis stream is not numbered")

    def digest(self, message: Entry) -> str:
        """As `part`."""
        raise AssertionError("a Redis stream is not numbered")

    def where(self, message: Entry) -> str:
        """The stream and the entry's id."""
        return f"stream {self.name!r}, entry {text_of(message[0])}"

    def shown(self, message: Entry) -> dict[str, Any]:
        """The entry's id and fields."""
        id_, fields = message
        values = {text_of(k): text_of(v) for k, v in fields.items()}
        return {"entry": text_of(id_), "values": values}

    def give_away(self, message: Entry, reason: str) -> bool:
        """There is no place for entries that cannot be taken."""
        return False

    def finish(self, messages: Sequence[Entry]) -> bool:
        """Acknowledge the entries."""
        self._acknowledge([id_ for id_, _ in messages])
        return True

    def _acknowledge(self, ids: Sequence[bytes]) -> None:
        self._ask("xack", self.name, self.group, *ids)

    def close(self) -> None:
        """The group keeps what this member has not acknowledged."""


def _raw(found: bytes | str) -> bytes:
    return found.encode() if isinstance(found, str) else found
