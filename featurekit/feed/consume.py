"""Pushes the events of a Redis stream, as a member of a consumer group; each event counts once.

Redis delivers an entry at least once: it delivers it again, to this member or to another, until it
is acknowledged. An entry is acknowledged when its event is in both paths. The source's `event_id`
makes one event of copies (T7), so the results are as if each entry had come exactly once.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.examples import assigned
from featurekit.core.kept import Kept
from featurekit.core.texts import lenient, loads, of_json
from featurekit.define.definitions import EventSource
from featurekit.errors import (
    BadRowError,
    ContractBroken,
    DataError,
    DefinitionError,
    SourceError,
    StoreUnavailable,
)
from featurekit.feed.push import take
from featurekit.online.store.url import without_secrets
from featurekit.project.project import Project
from featurekit.sources.written import written_types

_BLOCK_MS = 500
Entry = tuple[bytes, dict[bytes, bytes] | None]
"""An entry's id, and its fields; None where it was trimmed while it waited."""


@dataclass(frozen=True, slots=True)
class Consumed(Named):
    """What a consumer has done.

    `entries` were acknowledged. Of these, `taken_over` came from members that stopped answering,
    `set_aside` were bad, and `trimmed` left the stream before they were read.
    """

    entries: int = 0
    taken_over: int = 0
    set_aside: int = 0
    trimmed: int = 0


class Consumer:
    """A member of `group` that pushes a stream's entries to `source`.

    An entry has a field for each column, as text (a `bytes` column as it is; an absent optional
    column is None), or one field `json` with an object. `stream` is the source's name by default.
    `url` names a Redis other than the online store's. `name` tells members apart: a member that
    starts again under its name continues with what it had. Entries that another member has held for
    `idle_s` seconds are taken over. That must be less than the source's `dedupe_within`, after
    which a copy is a new event.

    DefinitionError for a source without an `event_id`.
    """

    def __init__(
        self,
        project: Project,
        source: str,
        *,
        stream: str | None = None,
        url: str | None = None,
        group: str = "featurekit",
        name: str | None = None,
        batch: int = 500,
        idle_s: float = 60.0,
    ) -> None:
        from featurekit.online.store.redis import connect

        self.project, self.source = project, project.source(source)
        if self.source.event_id is None:
            raise DefinitionError(
                f"source {source!r} has no event_id, and a stream delivers an entry again after a "
                "crash, which would count twice; name the column that tells events apart, as "
                f"in {assigned('EventSource', 'event_id')}"
            )
        self.stream, self.group = stream or source, group
        self.name = name or socket.gethostname()
        self.batch, self.idle_ms = batch, int(idle_s * 1000)
        self.url = url
        if url is None:  # a private server that died is started again by its store's own client
            self.client = getattr(project.online, "client", None)
        else:
            self.client = connect(url, limits=project.config.limits())
        if self.client is None:
            raise StoreUnavailable("this online store is no Redis; pass the stream's url")
        self.done = Consumed()

    def run(
        self,
        *,
        until_empty: bool = False,
        stop: threading.Event | None = None,
        progress: Callable[[Consumed], None] = lambda done: None,
    ) -> Consumed:
        """Take entries until `stop` is set. With `until_empty`, stop when no entry is left that no
        other member holds.

        FingerprintMismatch, before any entry is taken, on a platform that computes other floats
        (R6). Where an entry is refused and the source has on_bad_row="error", SourceError or
        BadRowError names it; and ContractBroken, where it breaks a rule of severity "fail",
        whatever on_bad_row is (S5). The entry stays with this member, unacknowledged, and so do all
        that came after it.
        """
        stop = stop or threading.Event()
        self.project.fed()  # raises on a platform that computes other floats
        self._join()
        while not stop.is_set():
            found = self._mine() or self._left_by_others() or self._new(wait=not until_empty)
            if found:
                self._take(found)
                progress(self.done)
            elif until_empty:
                break
        return self.done

    # --- what to take -----------------------------------------------------------------------------

    def _join(self) -> None:
        from redis.exceptions import ResponseError

        try:
            self._ask("xgroup_create", self.stream, self.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # another member has made it
                raise DataError(f"stream {self.stream!r}: {error}") from None
        self._pending = True

    def _ask(self, command: str, *args: Any, **kwargs: Any) -> Any:
        from redis.exceptions import ConnectionError, TimeoutError

        try:
            return getattr(self.client, command)(*args, **kwargs)
        except (ConnectionError, TimeoutError, OSError) as error:
            said = without_secrets(str(error), self.url)
            raise StoreUnavailable(
                f"the Redis of stream {self.stream!r} cannot be reached: {said}; what is not "
                "acknowledged is delivered again"
            ) from error

    def _mine(self) -> list[Entry]:
        """The entries that were delivered to a member of this name before it died."""
        if not self._pending:
            return []
        found = self._read("0", block=None)
        self._pending = bool(found)
        return found

    def _left_by_others(self) -> list[Entry]:
        """The entries that another member has held for too long."""
        found = self._ask(
            "xautoclaim", self.stream, self.group, self.name, self.idle_ms, count=self.batch
        )
        entries = [(id_, fields) for id_, fields in found[1] if fields is not None]
        self.done = replace(self.done, taken_over=self.done.taken_over + len(entries))
        return entries

    def _new(self, *, wait: bool) -> list[Entry]:
        return self._read(">", block=_BLOCK_MS if wait else None)

    def _read(self, after: str, *, block: int | None) -> list[Entry]:
        found = self._ask(
            "xreadgroup", self.group, self.name, {self.stream: after}, count=self.batch, block=block
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
            groups = self._ask("xinfo_groups", self.stream)
            found = next((g for g in groups if _raw(g["name"]) == self.group.encode()), None)
            if found is None:  # it will begin with the first entry
                found = {"pending": 0, "last-delivered-id": "0-0"}
                found["lag"] = self._ask("xlen", self.stream)
            lag = found.get("lag")
            entries = None if lag is None else int(lag) + int(found["pending"])
            if found["pending"]:
                oldest = self._ask("xpending", self.stream, self.group)["min"]
            else:
                last = _raw(found["last-delivered-id"]).decode()
                left = self._ask("xrange", self.stream, min=f"({last}", count=1)
                oldest = left[0][0] if left else None
            if oldest is None:
                return entries, 0.0
            seconds, microseconds = self._ask("time")
            added_s = int(_raw(oldest).split(b"-")[0]) / 1e3
            return entries, max(0.0, seconds + microseconds / 1e6 - added_s)
        except ResponseError:  # there is no such stream any more, or no such group
            return 0, 0.0

    # --- taking it --------------------------------------------------------------------------------

    def _take(self, entries: Sequence[Entry]) -> None:
        """Push the entries and acknowledge them; one by one where they are refused together."""
        held = [(id_, fields) for id_, fields in entries if fields]
        aside = 0
        try:
            rows = [row_of(self.source, fields) for _, fields in held if fields]
            aside = take(self.project, self.source.name, rows).quarantined if rows else 0
        except (SourceError, BadRowError, ContractBroken) as error:
            if len(held) > 1:
                for entry in held:
                    self._take([entry])
                held = []
            elif self.source.on_bad_row == "quarantine" and not isinstance(error, ContractBroken):
                self._set_aside(held[0], error)
                aside = 1
            else:
                raise type(error)(
                    f"stream {self.stream!r}, entry {_text(held[0][0])}: {error}"
                ) from (None)
        gone = [id_ for id_, fields in entries if not fields]
        finished = [id_ for id_, _ in held] + gone
        if finished:
            self._ask("xack", self.stream, self.group, *finished)
        self.done = replace(
            self.done,
            entries=self.done.entries + len(held),
            set_aside=self.done.set_aside + aside,
            trimmed=self.done.trimmed + len(gone),
        )

    def _set_aside(self, entry: Entry, error: Exception) -> None:
        from featurekit.sources.quarantine import set_aside

        id_, fields = entry
        shown = {_text(k): _text(v) for k, v in (fields or {}).items()}
        set_aside(
            self.source,
            self.project.state_dir,
            [{"entry": _text(id_), "reason": str(error), "values": shown}],
        )


def row_of(source: EventSource, fields: dict[bytes, bytes]) -> dict[str, Any]:
    """The row that an entry's fields stand for. SourceError for a field that is not text, or not a
    JSON object.

    A value that does not fit its column's type stays text: the push refuses it or sets it aside.
    """
    typed, absent = written_types(source), _absent_of(source)
    if fields.keys() == {b"json"}:
        try:
            found = loads(fields[b"json"].decode())
        except ValueError as error:
            raise SourceError(f"its field 'json' is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise SourceError("its field 'json' is no object; write an object of columns")
        row = {k: of_json(v, typed[k]) if k in typed else v for k, v in found.items()}
    else:
        row = {}
        for name, raw in fields.items():
            column = _text(name)
            type_ = typed.get(column)
            if type_ is not None and type_.name == "bytes":
                row[column] = raw
                continue
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                raise SourceError(f"its field {column!r} is not UTF-8") from None
            row[column] = text if type_ is None else lenient(text, type_)
    return absent | row


def _may_be_absent(source: EventSource) -> dict[str, None]:
    found = [name for name, type_ in source.schema.items() if type_.optional]
    absent = dict.fromkeys(name for name in found if name != source.timestamp_field)
    if source.created_timestamp_column is not None:
        absent[source.created_timestamp_column] = None
    return absent


_absent_of = Kept(_may_be_absent)
"""The columns that an entry may lack."""


def _raw(found: bytes | str) -> bytes:
    return found.encode() if isinstance(found, str) else found


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
