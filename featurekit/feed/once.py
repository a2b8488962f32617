"""Turns a push that may come again into one that is applied once, by a key that its sender chose.

Where a source has no `event_id`, two equal pushes are two pushes. A key says that they are one. Its
*claim* is noted in the online store before the rows are logged, and stands beside the rows in the
log; it is over with the write that adds the rows to the states, in the same transaction. So who
comes again with the key finds one of these:

    no claim                        nothing was done: the push is taken
    a claim that is over            the first push was done: its answer is given again
    a claim, and the log has it     the rows are in the log alone: the states of their entities are
                                    made anew from it, and the answer is that of the first push
    a claim, and the log has none   the first push ended before the log: the push is taken

The first push may still be under way, or be paused between its claim and the log. It holds the lock
of a file beside the log from before its claim to its end, and whoever has the lock knows that no
other process is at it.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.durations import duration_us
from featurekit.core.files import locked
from featurekit.core.keys import project_key
from featurekit.core.openness import make_folder
from featurekit.core.types import instant, micros
from featurekit.core.waiting import until as wait_until
from featurekit.define.explode import exploded_rows
from featurekit.define.union import bare_rows, told_by_rows
from featurekit.errors import DamagedNote, RequestRefused, StoreUnavailable, WriteError
from featurekit.feed.events import Pushed
from featurekit.feed.materialise import materialize
from featurekit.log.segments import has_claim, log_folder
from featurekit.online.store.fenced import Fenced
from featurekit.online.store.notes import read_object, write_object
from featurekit.online.store.protocol import (
    Change,
    Closing,
    Lasting,
    OnlineStore,
    Pending,
    named,
)
from featurekit.project.leases import held_by, let_go, settled_until
from featurekit.project.project import Project
from featurekit.sources.rows import read_rows

if TYPE_CHECKING:
    from featurekit.define.definitions import EventSource

KEPT_S = 24 * 3600
"""How long a key is known after its push, where its source does not say."""
_LOCKS = 256
_PATIENCE_S, _POLL_S, _SETTLES_S = 30.0, 0.002, 0.02
_CLAIM = 32
_INSTANTS = ("arrived", "newest")
_NOTE = "once"


@dataclass(frozen=True, slots=True)
class Key:
    """What a sender calls a push, a text, and a hash of all that the push is made of."""

    text: str
    body: str

    @property
    def id(self) -> str:
        """What stands for the text in names of keys and in the log."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:_CLAIM]


def body_hash(*parts: bytes) -> str:
    """The hash of what a push is made of."""
    made = hashlib.sha256()
    for part in parts:
        made.update(b"%d:" % len(part))
        made.update(part)
    return made.hexdigest()


@dataclass(frozen=True, slots=True)
class Claim:
    """What is noted of a push: the `body` of its key, the name of its `claim` in the log, the token
    by which it was announced, the answer that it has once it is `over`, and whether it is."""

    body: str
    claim: str
    token: str
    over: bool
    pushed: Pushed

    def written(self, kept_s: int, *, over: bool) -> Lasting:
        """The note as it is kept, for so many seconds."""
        about = _fields(self.pushed)
        for name in _INSTANTS:
            about[name] = None if about[name] is None else micros(about[name])
        note = {"body": self.body, "claim": self.claim, "token": self.token, "over": over}
        return Lasting(write_object(_NOTE, {**note, "pushed": about}), kept_s)


def _fields(pushed: Pushed) -> dict[str, Any]:
    return {name: getattr(pushed, name) for name in Pushed.__slots__}


def _read(key: bytes, value: bytes | None) -> Claim | None:
    if not value:
        return None
    try:
        note = read_object(_NOTE, value, dict)
        about = dict(note["pushed"])
        about["damaged"] = tuple(about["damaged"])
        for name in _INSTANTS:
            about[name] = None if about[name] is None else instant(about[name])
        made = Claim(note["body"], note["claim"], note["token"], note["over"], Pushed(**about))
        if all(type(part) is str for part in (made.body, made.claim, made.token)):
            return made
    except (DamagedNote, ValueError, LookupError, TypeError):
        pass
    raise DamagedNote(
        f"the note {key.decode()} is damaged, so nobody can tell whether its push was taken; look "
        "for the rows in the source's log, and push what is missing with another key"
    )


def claim_key(project: str, source: str, id_: str) -> bytes:
    """The key of the claim of a sender's key."""
    return project_key(project, "once", source, id_)


def kept_s(source: EventSource) -> int:
    """How many seconds a key of a push to a source is known: as long as the source's
    `dedupe_within` says, to the next whole second, else KEPT_S."""
    if source.dedupe_within is None:
        return KEPT_S
    return -(-duration_us(source.dedupe_within, what="dedupe_within") // 1_000_000)


@dataclass(slots=True)
class Once:
    """A push under its key, which is known for `kept_s` seconds and whose lock is held. `again` is
    the answer of an earlier one, where that was taken."""

    project: Project
    source: str
    key: Key
    kept_s: int = KEPT_S
    again: Pushed | None = None
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    _made: Claim | None = None

    @property
    def claim(self) -> str:
        """The name of this push in the log."""
        return f"{self.key.id}.{self.name}"

    @property
    def _at(self) -> bytes:
        return claim_key(self.project.name, self.source, self.key.id)

    @property
    def claimed(self) -> str | None:
        """The body of the push that was claimed under this key before; None where none was."""
        (value,) = self.project.online.read([self._at])
        found = _read(self._at, value)
        return None if found is None else found.body

    def look(self, rows: Any) -> None:
        """See whether the push was taken before, and bring an end to one that was left half way.
        Without `rows`, the views of the source are then filled whole.

        RequestRefused where the key was used for another push.
        """
        online = self.project.online
        (value,) = online.read([self._at])
        found = _read(self._at, value)
        if found is None:
            return
        if found.body != self.key.body:
            raise RequestRefused(
                f"the key {self.key.text!r} was used for another push to {self.source!r}; write "
                "another key, or the same rows again",
                status=409,
                where="idempotency-key",
            )
        if not found.over:
            self._let_go(found)
            if not has_claim(self.project.state_dir, self.source, found.claim):
                return
            self._fill(rows, found)
            online.write({self._at: found.written(self.kept_s, over=True)})
        self.again = found.pushed

    def _let_go(self, found: Claim) -> None:
        """End the announcement of a push that nobody is at any more."""
        online, name = self.project.online, self.project.name
        for lease in held_by(online, name, self.source):
            if not lease.alone and lease.token.decode() == found.token:
                let_go(online, name, lease, force=True)

    def _settle(self, found: Claim) -> None:
        """Wait for pushes that were announced before this one: a materialisation reads no further
        than to the oldest that is under way, and would leave the rows out."""
        assert found.pushed.arrived is not None
        online, arrived = self.project.online, micros(found.pushed.arrived)
        wait_until(
            lambda: settled_until(online, self.project.name, self.source),
            holds=lambda until: until >= arrived,
            within_s=_PATIENCE_S,
            every_s=_SETTLES_S,
            or_say=lambda _: StoreUnavailable(
                f"the rows are in the log of {self.source!r}, and a push before it does not end; "
                "ask again with the same key"
            ),
        )

    def _fill(self, rows: Any, found: Claim) -> None:
        """Make the states of the rows' entities anew, from the files and the log."""
        self._settle(found)
        project, source = self.project, self.project.source(self.source)
        if rows is None:
            names_of_views = [v.name for v in project.fed() if self.source in v.source_names]
            materialize(project, None, views=names_of_views)
            return
        with tempfile.TemporaryDirectory() as aside:  # what was set aside is, by the first push
            pushed = read_rows(source, rows, state_dir=Path(aside)).pushed
        for view in project.fed():
            if self.source not in view.source_names or not project.readable(view):
                continue
            names = [p.name for p in view.join_keys]
            if not told_by_rows(view):
                materialize(project, None, views=[view.name])
                continue
            rows_of_view = bare_rows(view.source, self.source, pushed)
            if not view.each_row_an_event:
                rows_of_view = exploded_rows(view, rows_of_view)
            keys = {tuple(row[name] for name in names) for row in rows_of_view}
            wanted = [dict(zip(names, key, strict=True)) for key in keys if None not in key]
            if wanted:
                # The rows were judged when they were pushed, and on a push no others decide (S5).
                materialize(project, None, views=[view.name], entities=wanted, judged=False)

    def note(self, token: bytes, pushed: Pushed) -> None:
        """Claim the key, just before the log: what the push gives once it is done."""
        self._made = Claim(self.key.body, self.claim, token.decode(), False, pushed)
        # No lease is asked for: the lock is held, so nobody else writes this key, and a claim alone
        # does nothing.
        self.project.online.write({self._at: self._made.written(self.kept_s, over=False)})

    def ending(self, online: OnlineStore) -> OnlineStore:
        """The store, in which the claim is over with what ends the push."""
        assert self._made is not None
        return _Ending(online, self._at, self._made.written(self.kept_s, over=True))


class _Ending(Fenced):
    """A store in which a note is written by the transaction that ends a push."""

    def __init__(self, store: OnlineStore, key: bytes, value: bytes) -> None:
        super().__init__(store, _NO_GUARD)
        self.key, self.value = key, value

    def open_update(
        self, keys: Sequence[bytes], change: Change, *, closing: Closing | None = None
    ) -> Pending[None]:
        """As the store's; with what ends the push, the note is written too."""
        if closing is None:
            return self.store.open_update(keys, change)

        def noting(values: list[bytes | None]) -> dict[bytes, bytes]:
            return {**named(keys, change(values)), self.key: self.value}

        return self.store.open_update(keys, noting, closing=closing)

    def close_push(self, key: bytes, token: bytes) -> None:
        """As the store's, once the note is written."""
        self.store.write({self.key: self.value})
        self.store.close_push(key, token)


class _NoGuard:
    keys: Sequence[bytes] = ()

    def check(self, values: Sequence[bytes | None]) -> None:
        """Nothing is guarded."""


_NO_GUARD = _NoGuard()


@contextmanager
def once(project: Project, definition: EventSource, key: Key) -> Iterator[Once]:
    """Hold a key while its push is taken. StoreUnavailable where another one holds it for long."""
    folder = log_folder(project.state_dir, definition.name)
    make_folder(folder)
    place = folder / f".once-{int(key.id[:8], 16) % _LOCKS:02x}"
    try:
        with locked(place, wait_s=_PATIENCE_S, every_s=_POLL_S) as file:
            if file is None:
                raise StoreUnavailable(
                    f"a push to {definition.name!r} with this key has been under way for "
                    f"{_PATIENCE_S:g} s, so it may have been taken; ask again with the same key"
                )
            yield Once(project, definition.name, key, kept_s(definition))
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        raise WriteError(
            f"{place} cannot be locked: {error.strerror or error}; an Idempotency-Key needs a "
            "state folder whose files can be locked"
        ) from error


def open_claims(project: Project, source: str, claims: Sequence[str]) -> list[str]:
    """Those of some claims whose pushes were not seen to end; the others are needed no more."""
    keys = [claim_key(project.name, source, claim[:_CLAIM]) for claim in claims]
    found = zip(claims, keys, project.online.read(keys), strict=True)
    return [claim for claim, key, value in found if _is_open(claim, key, value)]


def _is_open(claim: str, key: bytes, value: bytes | None) -> bool:
    try:
        found = _read(key, value)
    except DamagedNote:
        return True
    return found is not None and not found.over and found.claim == claim


def shown(pushed: Pushed) -> Mapping[str, Any]:
    """What a push did, as JSON has it."""
    about = {**_fields(pushed), "damaged": list(pushed.damaged)}
    for name in _INSTANTS:
        about[name] = None if about[name] is None else about[name].isoformat()
    return about
