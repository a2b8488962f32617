"""Who works on a source and may write: leases, which the living renew and the dead lose.

A source has one holder at most that works *alone* (a materialisation, a forgetting, a push of rows
with arrivals of their own), and any number of pushes. Each is a lease of a few seconds by the
store's clock, and while it is longer under way a thread renews it. A lease that has ended is let go
of by the next one who is held up by it. Where the store's clock was set back, a lease seems to last
longer than any does: then it is watched, by the clock of who is held up by it, which only runs
forward, and has ended when it was not renewed for as long as a lease lasts.

Its holder may only have been paused. So each write checks in its own transaction that the lease is
still held (`Fenced`): the key of a holder that works alone has its token, and a counter, the
*fence*, counts the pushes that were let go of. Who wakes up too late writes nothing.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from featurekit.core.keys import clock_key, project_key
from featurekit.core.types import instant
from featurekit.errors import LeaseLost, OnlineError
from featurekit.online.store.fenced import Fenced
from featurekit.online.store.protocol import Closing, OnlineStore
from featurekit.project.died import died_key, later

LEASE_S, RENEW_S = 10.0, 2.0
"""How long a lease lasts that is not renewed, and how often one is renewed."""
WHOLE = ""
"""In the place of a source: the lease is on what is in force."""
WATCH = "@watch"
"""In the place of a source: the lease of the process that watches."""
_OLDER_S = 600.0
"""How long a push of an older release may be under way."""
_POLL_S = 0.1
_IDLE_S = 60.0
"""A thread that renews ends after it had nothing to do for so long."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What somebody holds: who (`host`, `pid`), for which `verb` on which `source`, `since` when
    and `until` when, in microseconds by the store's clock.

    `alone` says whether nobody else may work on the source. `ended` says whether the lease had
    ended when it was read, and `strays` whether it seemed to last longer than any lease does.
    `renews` says whether its holder renews it, and `renewed` what stood in the store of that.
    """

    source: str
    alone: bool
    verb: str
    host: str
    pid: int
    since: int
    until: int
    ended: bool
    token: bytes
    value: bytes
    """What stands in the store."""
    renews: bool
    renewed: bytes | None = None
    strays: bool = False
    stamp: int = 0
    """The arrival of a push's rows."""

    def __str__(self) -> str:
        who = f"process {self.pid} on {self.host}" if self.pid else "a process of an older release"
        since = f" since {instant(self.since).isoformat(timespec='seconds')}" if self.since else ""
        return f"{self.verb} by {who}{since}"


def held_by(store: OnlineStore, project: str, source: str) -> list[Lease]:
    """The leases on a source: the one that is held alone, then those of pushes, oldest first."""
    key = project_key(project, "pushes", source)
    now, found = store.now_us(), []
    (held,) = store.read([_lock_key(project, source)])
    if held:
        found.append(_of_lock(source, held, now))
    found += [
        replace(_of_push(source, p.token, p.since, p.holder), stamp=p.stamp)
        for p in store.announced(key)
    ]
    values = store.read([_renewed_key(project, lease) for lease in found]) if found else []
    return [_as_of(lease, value, now) for lease, value in zip(found, values, strict=True)]


def _as_of(lease: Lease, renewed: bytes | None, now: int) -> Lease:
    """A lease with what `renewed` says, which may be damaged: then its end is not known."""
    end = lease.until
    if renewed:
        end = max(end, int(renewed)) if renewed.isdigit() else _unknown(now)
    strays = lease.renews and end > now + int(LEASE_S * 1e6)
    return replace(lease, until=end, ended=end <= now, renewed=renewed, strays=strays)


def _unknown(now: int) -> int:
    """The end of a lease that cannot be read: later than any."""
    return now + int(2 * LEASE_S * 1e6)


def _is_dead(store: OnlineStore, project: str, lease: Lease) -> bool:
    """Whether a lease has ended, by the store's clock or, where it strays, as it is watched now."""
    begun = time.monotonic()
    while lease.strays and time.monotonic() - begun < LEASE_S:
        time.sleep(_POLL_S)
        found = held_by(store, project, lease.source)
        now = next((one for one in found if one.token == lease.token), None)
        if now is None or (now.value, now.renewed) != (lease.value, lease.renewed):
            return False
        if now.ended:
            return True
    return lease.ended or lease.strays


def forgetting(store: OnlineStore, project: str, source: str) -> bool:
    """Whether a forgetting of events of the source is under way."""
    held = held_by(store, project, source)
    return any(lease.alone and lease.verb == "forget" and not lease.ended for lease in held)


def unlock(
    store: OnlineStore, project: str, sources: Iterable[str], *, force: bool
) -> list[tuple[Lease, bool]]:
    """Let go of the leases on some sources that have ended, and with `force` of every one; each of
    them, and whether it was let go of."""
    return [
        (
            lease,
            (force or _is_dead(store, project, lease))
            and let_go(store, project, lease, force=force),
        )
        for source in sources
        for lease in held_by(store, project, source)
    ]


def let_go(store: OnlineStore, project: str, lease: Lease, *, force: bool = False) -> bool:
    """End a lease, so that its holder writes no more. False, with nothing changed, where the holder
    has ended it meanwhile or, without `force`, renewed it."""
    renewed = _renewed_key(project, lease)
    done = False

    def seen(until: bytes | None) -> bool:
        return force or until == lease.renewed

    def end_alone(values: list[bytes | None]) -> list[bytes | None]:
        nonlocal done
        done = values[0] == lease.value and seen(values[1])
        return [b"", b""] if done else [None, None]

    def end_push(values: list[bytes | None]) -> list[bytes | None]:
        if not seen(values[1]):
            raise _Renewed
        fence = values[0] or b"0"
        # A fence that is damaged only has to become another one than any push has seen.
        after = int(fence) + 1 if fence.isdigit() else time.time_ns()
        return [b"%d" % after, b"", later(values[2], lease.stamp)]

    if lease.alone:
        store.update([_lock_key(project, lease.source), renewed], end_alone)
        return done
    closing = Closing(project_key(project, "pushes", lease.source), lease.token)
    with suppress(_Renewed):
        keys = [fence_key(project, lease.source), renewed, died_key(project, lease.source)]
        store.update(keys, end_push, closing=closing)
        return True
    return False


def settled_until(store: OnlineStore, project: str, source: str) -> int:
    """As the store's `settled_until` for a source's pushes. It lets go of those that are dead."""
    for lease in held_by(store, project, source):
        if not lease.alone and _is_dead(store, project, lease):
            let_go(store, project, lease)
    pushes = project_key(project, "pushes", source)
    return store.settled_until(pushes, clock=clock_key(project))


# --- holding one ----------------------------------------------------------------------------------


@contextmanager
def alone(store: OnlineStore, project: str, source: str, verb: str) -> Iterator[OnlineStore]:
    """Hold a source's lease alone. Gives the store for what is written meanwhile.

    A materialisation, and a push of rows with arrivals of their own, must not overlap: one could
    overwrite what the other wrote. Other pushes need no lease of this kind. OnlineError where a
    living process holds it. For a dead one's lease to end it waits.
    """
    lease = _taken(store, project, source, verb)
    key, renewed = _lock_key(project, source), _renewed_key(project, lease)

    def give(values: list[bytes | None]) -> list[bytes | None]:
        return [b"" if values[0] == lease.value else None, b""]

    try:
        with _keeper_of(store).renewing(renewed):
            yield Fenced(store, _Alone(key, lease))
    finally:
        with suppress(OnlineError):  # the work has met the same error, and the lease ends anyway
            _unfenced(store).update([key, renewed], give)


@contextmanager
def pushing(
    store: OnlineStore, project: str, source: str, token: bytes, fence: bytes | None
) -> Iterator[OnlineStore]:
    """Keep an announced push alive. Gives the store for what it writes. `fence` is what the key
    `fence_key` held when the push was announced."""
    lease = _of_push(source, token, 0, b"")
    with _keeper_of(store).renewing(_renewed_key(project, lease)):
        yield Fenced(store, _Announced(store, project, source, token, fence))


def check_if_late(store: OnlineStore, begun: float) -> None:
    """LeaseLost where a lease that was taken at `begun`, by this process's own clock that only runs
    forward, has been let go of since. The store is asked only if that may be."""
    if time.monotonic() - begun > LEASE_S / 2 and isinstance(store, Fenced):
        store.check()


def holder(verb: str) -> bytes:
    """Who announces a push, as `held_by` reads it."""
    return _who(os.getpid(), verb)


@functools.cache
def _who(pid: int, verb: str) -> bytes:
    about = {"host": socket.gethostname(), "pid": pid, "verb": verb}
    return json.dumps(about, separators=(",", ":")).encode()


def _named(source: str) -> str:
    return {WHOLE: "the project", WATCH: "the watch"}.get(source, f"source {source!r}")


def _taken(store: OnlineStore, project: str, source: str, verb: str) -> Lease:
    begun, seen = time.monotonic(), dict[bytes, tuple[bytes | None, float]]()
    while True:
        mine = _take(store, project, source, verb)
        if mine is not None:
            return mine
        other = next((found for found in held_by(store, project, source) if found.alone), None)
        if other is None:
            continue
        first, since = seen.setdefault(other.token, (other.renewed, time.monotonic()))
        renewed = other.renewed != first
        if other.ended or (other.renews and not renewed and time.monotonic() - since >= LEASE_S):
            let_go(store, project, other)
            continue
        if renewed or time.monotonic() - begun > 2 * LEASE_S:
            raise OnlineError(
                f"{_named(source)} is held by {other}; try again when that is over, or see "
                "`featurekit unlock` (what a dead process holds ends by itself in "
                f"{LEASE_S:.0f} s)"
            )
        time.sleep(_POLL_S)


def _take(store: OnlineStore, project: str, source: str, verb: str) -> Lease | None:
    """The lease, taken where nobody else holds it; else None."""
    now = store.now_us()
    end_s = now // 1_000_000 + int(LEASE_S)
    mine = b"%s %d %s %d" % (uuid.uuid4().hex.encode(), end_s, holder(verb), now)
    free = False

    def change(values: list[bytes | None]) -> list[bytes | None]:
        nonlocal free
        free = not values[0]
        return [mine if free else None]

    store.update([_lock_key(project, source)], change)
    return _of_lock(source, mine, now) if free else None


class _Renewed(Exception):
    """A lease that was to be let go of was renewed."""


class _Alone:
    """The guard of what is written under a lease that is held alone."""

    def __init__(self, key: bytes, lease: Lease) -> None:
        self.keys, self.lease = [key], lease

    def check(self, values: Sequence[bytes | None]) -> None:
        """Raises LeaseLost where another token, or none, stands in the store."""
        if values[0] != self.lease.value:
            raise _lost(self.lease.verb, self.lease.source)


class _Announced:
    """The guard of what a push writes."""

    def __init__(
        self, store: OnlineStore, project: str, source: str, token: bytes, fence: bytes | None
    ) -> None:
        self.store, self.source, self.token, self.fence = store, source, token, fence
        self.pushes = project_key(project, "pushes", source)
        self.keys = [fence_key(project, source)]

    def check(self, values: Sequence[bytes | None]) -> None:
        """Raises LeaseLost where this push was let go of. As long as no push was, one value says
        that."""
        if values[0] == self.fence:
            return
        if all(token != self.token for token, *_ in self.store.announced(self.pushes)):
            raise _lost("push", self.source)
        self.fence = values[0]


def _lost(verb: str, source: str) -> LeaseLost:
    return LeaseLost(
        f"{verb}, {_named(source)}: this process was paused for longer than its lease of "
        f"{LEASE_S:.0f} s, or `featurekit unlock --force` was run; another one may have worked on "
        "the source since, so what was left to write was not written"
    )


# --- renewing -------------------------------------------------------------------------------------


class _Keeper:
    """Renews the leases that this process holds in a store, by a thread that is started with the
    first one. A lease of a moment, as that of most pushes, is over before the thread sees it."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = weakref.ref(store)
        self._starting = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._held: dict[bytes, float] = {}
        self._written: set[bytes] = set()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @contextmanager
    def renewing(self, key: bytes) -> Iterator[None]:
        """Renew a lease under its key while the block runs."""
        if self._pid != os.getpid():  # a forked process leaves its parent's leases alone
            self._begin()
        self._held[key] = time.monotonic()
        if self._thread is None:
            self._start()
        try:
            yield
        finally:
            self._held.pop(key, None)
            if key in self._written:
                self._forget(key)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="featurekit-leases", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        idle = 0.0
        while True:
            time.sleep(RENEW_S)
            idle = 0.0 if self._held else idle + RENEW_S
            if idle > _IDLE_S or self._store() is None:
                with self._starting:
                    mine, self._thread = self._thread, None
                    if not self._held:  # looked at last: who adds one sees that no thread runs
                        return
                    self._thread = mine
            self._renew()

    def _renew(self) -> None:
        before = time.monotonic() - RENEW_S / 2
        due = [key for key, begun in list(self._held.items()) if begun <= before]
        store = self._store()
        if not due or store is None:
            return
        with suppress(OnlineError):  # the work itself meets it and says so
            until = b"%d" % (store.now_us() + int(LEASE_S * 1e6))
            self._written.update(due)
            store.write(dict.fromkeys(due, until))
        for key in due:
            if key not in self._held:  # it ended meanwhile
                self._forget(key)

    def _forget(self, key: bytes) -> None:
        store = self._store()
        self._written.discard(key)
        if store is not None:
            with suppress(OnlineError):  # the lease ends by itself
                store.delete([key])


_keepers: weakref.WeakKeyDictionary[OnlineStore, _Keeper] = weakref.WeakKeyDictionary()


def _keeper_of(store: OnlineStore) -> _Keeper:
    store = _unfenced(store)
    found = _keepers.get(store)
    if found is None:
        found = _keepers.setdefault(store, _Keeper(store))
    return found


def _unfenced(store: OnlineStore) -> OnlineStore:
    while isinstance(store, Fenced):
        store = store.store
    return store


# --- in the store ---------------------------------------------------------------------------------


def fence_key(project: str, source: str) -> bytes:
    """The key of a source's fence, which a push reads as it announces itself."""
    return project_key(project, "fence", source)


def _lock_key(project: str, source: str) -> bytes:
    return project_key(project, "lock", source)


def _renewed_key(project: str, lease: Lease) -> bytes:
    return project_key(project, "renewed", lease.source, lease.token.decode())


def _of_lock(source: str, value: bytes, now: int) -> Lease:
    """The lease that a value stands for. It begins with the token and the second of its end, which
    is all that an older release wrote, and all that it reads. A value that is damaged stands for a
    lease whose end is not known."""
    try:
        token, until, *rest = value.split(b" ", 2)
        about, since = rest[0].rsplit(b" ", 1) if rest else (b"", b"0")
        end = int(since) + int(LEASE_S * 1e6) if rest else int(float(until) * 1e6)
        token.decode()
        return _lease(source, True, token, int(since), end, about, value)
    except ValueError:
        damaged = _lease(source, True, b"damaged", 0, _unknown(now), b"", value)
        return replace(damaged, renews=True)


def _of_push(source: str, token: bytes, since: int, about: bytes) -> Lease:
    # An older release says nothing of itself, renews nothing, and does not see that it is late.
    lasts_s = LEASE_S if about else _OLDER_S
    return _lease(source, False, token, since, since + int(lasts_s * 1e6), about, token)


def _lease(
    source: str, alone: bool, token: bytes, since: int, until: int, about: bytes, value: bytes
) -> Lease:
    try:
        known = dict(json.loads(about)) if about else {}
        host, pid = str(known.get("host", "")), int(known.get("pid", 0))
    except (TypeError, ValueError):
        known, host, pid = {}, "", 0
    verb = str(known.get("verb", "a lock" if alone else "push"))
    return Lease(source, alone, verb, host, pid, since, until, False, token, value, bool(about))
