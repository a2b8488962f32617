"""Compares what Redis has with what this side knows that it had, before anything relies on it.

The registry knows how often each version was filled in a store, and the state folder how many
pushes this machine has seen end there. A store that counts less came back with less than it had,
as from an older dump. Each store has an id, so that one is not taken for another. The registry also
knows who was forgotten; states in which that was not carried out must not be served.
"""

from __future__ import annotations

import os
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from featurekit.core.keys import project_key
from featurekit.core.openness import make_folder, opened
from featurekit.define.plan import View
from featurekit.errors import EvictingStore, RegistryError, UnreadRegistry
from featurekit.log.tombstones import Tombstone
from featurekit.online.store.marks import (
    carried,
    carried_key,
    damaged,
    damaged_key,
    filled,
    filled_key,
    version_of,
)
from featurekit.online.store.notes import read_number
from featurekit.online.store.protocol import Health, OnlineStore, pushed_key
from featurekit.project.carried import Concerns, number_at, set_carried, undone, why
from featurekit.project.deployment import damage, materialized_marks, set_filled
from featurekit.project.leases import forgetting
from featurekit.project.registry import Registry

EVERY_S = 1.0
T = TypeVar("T")
Unread = Callable[[RegistryError], None]
_NOTED = 53
"""The bytes of what is noted of a source, before their checksum."""
_LESS = "Redis came back with less than it had, as from an older dump"


class Marks:
    """What this side knows of one project's store."""

    def __init__(
        self,
        store: OnlineStore,
        project: str,
        registry: Registry,
        folder: Path,
        *,
        concerns: Concerns,
    ) -> None:
        self.store, self.project, self.registry = store, project, registry
        self.folder, self.concerns = folder, concerns
        self._next = self._next_of_all = 0.0
        self._seen: dict[str, tuple[str, int]] = {}
        self._told: dict[str, Any] = {}
        self._unread = False

    @property
    def _store_key(self) -> bytes:
        return project_key(self.project, "store")

    def _store_id(self) -> str:
        return (self.store.read([self._store_key])[0] or b"").decode(errors="replace")

    def _pushed_key(self, source: str) -> bytes:
        return pushed_key(project_key(self.project, "pushes", source))

    def name_store(self) -> None:
        """Give the store an id, if it has none."""
        made = uuid.uuid4().hex.encode()
        self.store.update([self._store_key], lambda values: [None if values[0] else made])

    def refuse_eviction(self, policy: str | None) -> Health:
        """What the server says of itself. EvictingStore where its policy, or `policy` where it does
        not tell, lets it evict any key."""
        health = self.store.health()
        known = health.policy or policy
        if known is None:
            raise EvictingStore(
                "Redis does not tell its maxmemory-policy to this user; allow `+info`, or write "
                "the policy into feature_store.yaml, as `featurekit: maxmemory_policy: noeviction`"
            )
        if known.startswith("allkeys"):
            raise EvictingStore(
                f"Redis has maxmemory-policy {known}: when its memory is full it removes states, "
                "and what is left would look like values; set noeviction (`CONFIG SET "
                "maxmemory-policy noeviction`), or a volatile policy, which leaves keys that do "
                "not expire"
            )
        return health

    def check_at_times(self, views: Callable[[], Sequence[View]]) -> None:
        """As `check` of all views that are fed, unless that was done a moment ago: whoever opens
        the services of a project one after another would read all plans for each. Lookups ask
        this, so they go on while the registry cannot be read: by what it told this process last,
        and with a warning."""
        if time.monotonic() >= self._next_of_all:
            self.check(views(), unread=self._warn)
            self._next_of_all = time.monotonic() + EVERY_S

    def _warn(self, error: RegistryError) -> None:
        """Say once that the registry cannot be read, until it can."""
        if not self._unread:
            warnings.warn(
                f"{error}. Until it can be read, nobody sees whether Redis came back with less "
                "than it had since, and who was forgotten since; lookups go on",
                UnreadRegistry,
                stacklevel=3,
            )
        self._unread = True

    def _known_to_registry(
        self, what: str, ask: Callable[[], T], none: T, unread: Unread | None
    ) -> T:
        """What the registry tells; where it cannot be read, and that is not an error, what it told
        last."""
        try:
            found = ask()
        except RegistryError as error:
            if unread is None:
                raise
            unread(error)
            last: T = self._told.get(what, none)
            return last
        self._told[what], self._unread = found, False
        return found

    def check(self, views: Sequence[View], *, unread: Unread | None = None) -> None:
        """Record which of the views are damaged and were not known to be. RegistryError where the
        registry cannot be read; with `unread`, that is told to it, and is no error."""
        self._next = time.monotonic() + EVERY_S
        sources = sorted({name for view in views for name in view.source_names})
        # What this side knows is read first: a push or a fill of somebody else that ends between
        # the two readings makes the store's numbers higher, and nothing seems lost.
        store = self._store_id()
        of_store = partial(self.registry.fills, store)
        before: dict[str, int] = self._known_to_registry(f"fills {store}", of_store, {}, unread)
        pushed = [self._known(source) for source in sources]
        tombstones: list[Tombstone] = self._known_to_registry(
            "forgotten", self.registry.tombstones, [], unread
        )
        keys = [filled_key(self.project), damaged_key(self.project)]
        marks, broken, *counts = self.store.read([*keys, *map(self._pushed_key, sources)])
        health, known = self.store.health(), filled(marks)
        less = {
            source
            for source, seen, count in zip(sources, pushed, counts, strict=True)
            if _is_less(seen, store, read_number(f"pushes:{source}:ended", count))
        }
        for view in views:
            version = version_of(view)
            mark = known.get(version)
            lost = None if mark is None else mark.lost(health)
            fewer = not less.isdisjoint(view.source_names)
            if fewer or before.get(version, 0) > (mark.number if mark else 0):
                lost = _LESS
            if lost is not None and version not in damaged(broken):
                damage(self.store, self.project, [view], lost)
        if tombstones:
            self._check_forgotten(views, tombstones, known, damaged(broken))
        for source, count in zip(sources, counts, strict=True):
            if source in less:
                self._note(source, store, read_number(f"pushes:{source}:ended", count))

    def _check_forgotten(
        self,
        views: Sequence[View],
        tombstones: Sequence[Tombstone],
        fills: Mapping[str, object],
        broken: Mapping[str, object],
    ) -> None:
        """Record the views as damaged in which a forgetting was not carried out, and is not under
        way. Versions that were never filled have nothing to lose."""
        until = materialized_marks(self.store, self.project)
        left = [
            view
            for view in views
            if version_of(view) not in broken
            and (version_of(view) in fills or until(view) is not None)
        ]
        # Leases are read between the registry and the store: a forgetting that is in the registry
        # holds its lease until the store has its number.
        if not self._undone(left, tombstones):
            return
        sources = {name for view in left for name in view.source_names}
        under_way = {name for name in sources if forgetting(self.store, self.project, name)}
        left = [view for view in left if under_way.isdisjoint(view.source_names)]
        for view, of_view in self._undone(left, tombstones):
            damage(self.store, self.project, [view], why(of_view))

    def _undone(
        self, views: Sequence[View], tombstones: Sequence[Tombstone]
    ) -> list[tuple[View, list[Tombstone]]]:
        """The views in which some tombstones were not carried out, with these."""
        (value,) = self.store.read([carried_key(self.project)])
        numbers, found = carried(value), []
        for view in views:
            number = numbers.get(version_of(view))
            if undone(tombstones, view, number):  # asks for no definitions
                of_view = undone(tombstones, view, number, self.concerns)
                found += [(view, of_view)] if of_view else []
        return found

    def filled(
        self,
        view: View,
        health: Health,
        began: int,
        *,
        whole: bool,
        until: int,
        tombstones: Sequence[Tombstone],
    ) -> None:
        """Record that the view was filled with what had arrived by `until`, without the entities
        that are forgotten by `tombstones`; see `set_filled`."""
        number = set_filled(self.store, self.project, view, health, began, whole=whole)
        version = version_of(view)
        self.registry.filled(self._store_id(), version, number)
        if whole:
            carried_out = {version: number_at(tombstones, view, until)}
            set_carried(self.store, self.project, carried_out)
        else:
            self.carried([view], tombstones, only_new=True)

    def carried(
        self,
        views: Sequence[View],
        tombstones: Sequence[Tombstone],
        *,
        but: Tombstone | None = None,
        only_new: bool = False,
        store: OnlineStore | None = None,
    ) -> None:
        """Record that all tombstones were carried out in those of the views in which none is
        undone, where tombstone `but` was carried out just now. With `only_new`, in those of which
        nothing was known. `store` is the one to write to."""
        (value,) = self.store.read([carried_key(self.project)])
        numbers, done = carried(value), {}
        for view in views:
            number = numbers.get(version_of(view))
            if not undone(tombstones, view, number, self.concerns, but=but):
                done[version_of(view)] = len(tombstones)
        if only_new:
            done = {version: n for version, n in done.items() if version not in numbers}
        set_carried(store or self.store, self.project, done)

    # --- pushes -----------------------------------------------------------------------------------

    def push_keys(self, source: str) -> list[bytes]:
        """The keys whose values `pushing` needs."""
        return [self._store_key, self._pushed_key(source), damaged_key(self.project)]

    def pushing(
        self, source: str, views: Sequence[View], values: Sequence[bytes | None]
    ) -> tuple[str, int, tuple[str, ...]]:
        """Record the source's views as damaged where the store has counted fewer pushes than this
        side has seen. The store's id and count, as `pushed` takes them, and the names of damaged
        views."""
        store, broken = (values[0] or b"").decode(errors="replace"), values[2]
        count = read_number(f"pushes:{source}:ended", values[1])
        if _is_less(self._known(source), store, count) or time.monotonic() >= self._next:
            self.check(views)
            broken = self.store.read([damaged_key(self.project)])[0]
        known = damaged(broken)
        return store, count, tuple(v.name for v in views if version_of(v) in known)

    def pushed(self, source: str, store: str, before: int) -> None:
        """Note that a push ended after `before` others."""
        known = self._known(source)
        if known[0] != store or known[1] <= before:
            self._note(source, store, before + 1)

    def _note(self, source: str, store: str, count: int) -> None:
        """Keep a count. Where the disk is full or the file cannot be written, another process knows
        less: the push was taken, and does not fail for that."""
        self._seen[source] = store, count
        text = b"%-32s %020d" % (store.encode(), count)
        noted = b"%b %08x" % (text, crc32(text, crc32(source.encode())))
        with suppress(OSError):
            # Not forced to disk: a push would wait for it as long as for the log.
            file = self._opened(source)
            try:
                if os.pwrite(file, noted, 0) != len(noted):
                    os.ftruncate(file, 0)  # half of it could be a count that never was
            finally:
                os.close(file)

    def _opened(self, source: str) -> int:
        """The file of a source, to write it; it is made where there is none."""
        path, flags = self._file(source), os.O_WRONLY | os.O_CLOEXEC
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            make_folder(self.folder)
            return opened(path, flags | os.O_CREAT)

    def _known(self, source: str) -> tuple[str, int]:
        found = self._seen.get(source)
        if found is None:
            found = self._seen[source] = self._read(source)
        return found

    def _read(self, source: str) -> tuple[str, int]:
        """What was noted of a source; nothing where no file is there, or a damaged one. One of a
        release before 0.3 has no checksum."""
        try:
            data = Path(self._file(source)).read_bytes()
            text, known = data[:_NOTED], data[_NOTED + 1 :]
            if known and known != b"%08x" % crc32(text, crc32(source.encode())):
                return "", 0
            store, count = text.decode().rsplit(" ", 1)
            return store.strip(), int(count)
        except (OSError, ValueError):
            return "", 0

    def _file(self, source: str) -> str:
        return f"{self.folder}/{source}.pushed"  # every push asks for it, and a Path takes longer


def _is_less(seen: tuple[str, int], store: str, count: int) -> bool:
    """Whether this store counts fewer pushes than were seen there."""
    return seen[0] == store and count < seen[1]
