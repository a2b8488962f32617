"""The online store in Redis 6.2 or later: optimistic transactions over plain string keys."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

import redis
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    WatchError,
)

from featurekit.errors import StoreUnavailable
from featurekit.online.store.connections import (
    AsyncConnections,
    Connections,
    asked,
    incoming,
    received,
    send,
)
from featurekit.online.store.protocol import (
    Change,
    Health,
    Pending,
    PendingSteps,
    named,
    pushed_key,
)
from featurekit.online.store.replies import Values, arguments, command, command_on

if TYPE_CHECKING:
    import asyncio

    import pyarrow as pa

_P = ParamSpec("_P")
_R = TypeVar("_R")
_CHUNK = 1000
_GROUP, _AHEAD, _TOGETHER = 250, 64, 16
"""The number of keys that one command sets, of commands that are sent before a reply is read, and
of commands that the socket is given at once: after each of these a thread waits for its turn."""
_CONNECT_S = 5
_DEAD_MS = 600_000
_GLOB = b"\\*?[]^"
_MULTI, _EXEC, _UNWATCH, _TIME = (command(c) for c in (b"MULTI", b"EXEC", b"UNWATCH", b"TIME"))


def _reached(method: Callable[_P, _R]) -> Callable[_P, _R]:
    @functools.wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(*args, **kwargs)
        except (RedisError, OSError) as error:
            store = cast(RedisStore, args[0])
            raise StoreUnavailable(_explain(store.url, error)) from error

    return call


def _steps_reached(steps: PendingSteps[_R], url: str) -> PendingSteps[_R]:
    try:
        return (yield from steps)
    except (RedisError, OSError) as error:
        raise StoreUnavailable(_explain(url, error)) from error


def _explain(url: str, error: Exception) -> str:
    shown = url.split("@")[-1] if "@" in url else url  # never a password
    if isinstance(error, AuthenticationError):
        return f"Redis at {shown} refuses the password: {error}; put the right one into its URL"
    if isinstance(error, (ConnectionError, OSError)):
        return (
            f"Redis at {shown} cannot be reached: {error}; start it, or correct redis_url / "
            "connection_string, or leave both out for a private server"
        )
    return f"Redis at {shown} answered with an error: {error}"


def connect(url: str) -> Any:
    """A client of the Redis at `url`. StoreUnavailable where that is not a URL of Redis."""
    options: dict[str, Any] = {"socket_connect_timeout": _CONNECT_S}
    if url.startswith("unix:"):
        # redis-py before 8.1 asks for notices of the host's maintenance with RESP3, and raises a
        # ValueError at the first command where a socket has no host.
        from redis.maint_notifications import MaintNotificationsConfig

        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    try:
        # No retries on a dead server: its error should be seen at once.
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise StoreUnavailable(
            f"{url!r} is no Redis URL ({error}); write redis://host:6379/0"
        ) from None


def _connect_async(url: str) -> Any:
    """A client of the Redis at `url` for coroutines."""
    from redis.asyncio import Redis

    return Redis.from_url(url, socket_connect_timeout=_CONNECT_S)


def _pattern(prefix: bytes) -> bytes:
    """The pattern by which SCAN finds every key that begins with `prefix`."""
    return b"".join(b"\\" + bytes((c,)) if c in _GLOB else bytes((c,)) for c in prefix) + b"*"


def _commit(
    connection: Any, changed: dict[bytes, bytes], closing: tuple[bytes, bytes] | None
) -> bool:
    """Write the changes of keys that are watched, and end the push `closing`. False, with nothing
    written, where another writer was faster."""
    values = [part for pair in changed.items() if pair[1] for part in pair]
    gone = [key for key, value in changed.items() if not value]
    writes = []
    if values:
        writes.append(command(b"MSET", *values))
    if gone:
        writes.append(command(b"UNLINK", *gone))
    if closing is not None:
        writes += [command(b"XDEL", *closing), command(b"INCR", pushed_key(closing[0]))]
    if not writes:
        asked(connection, [_UNWATCH])
        return True
    *_, done = asked(connection, [_MULTI, *writes, _EXEC])
    for reply in done or ():
        if isinstance(reply, RedisError):
            raise reply
    return done is not None


class RedisStore:
    """An OnlineStore on one Redis server; `url` is redis://, rediss:// or unix://."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = connect(url)
        # A second client, since these connections are kept between uses.
        self._connections = Connections(connect(url))
        # A connection belongs to the event loop in which it was made.
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncConnections]
        self._of_loops = WeakKeyDictionary()

    @_reached
    def read(self, keys: Sequence[bytes]) -> Values:
        """The values of `keys`: one MGET."""
        return self._connections.mget(keys) if keys else []

    async def read_async(self, keys: Sequence[bytes]) -> Values:
        """The values of `keys`: one MGET."""
        if not keys:
            return []
        import asyncio

        loop = asyncio.get_running_loop()
        connections = self._of_loops.get(loop)
        if connections is None:
            connections = self._of_loops[loop] = AsyncConnections(_connect_async(self.url))
        try:
            return await connections.mget(keys)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(_explain(self.url, error)) from error

    async def close_async(self) -> None:
        """Close the connections of the running event loop."""
        import asyncio

        connections = self._of_loops.pop(asyncio.get_running_loop(), None)
        if connections is not None:
            await connections.close()

    def open_update(
        self, keys: Sequence[bytes], change: Change, *, closing: tuple[bytes, bytes] | None = None
    ) -> Pending[None]:
        """Change all of `keys` at once.

        The first half sends WATCH and MGET. The second one reads the values and sends MULTI, MSET,
        XDEL and EXEC. That is two round trips, and two more for each time that another writer was
        faster.
        """
        return Pending(_steps_reached(self._update(keys, change, closing), self.url))

    def _update(
        self, keys: Sequence[bytes], change: Change, closing: tuple[bytes, bytes] | None
    ) -> PendingSteps[None]:
        if not keys:
            yield
            if closing is not None:
                self.close_push(*closing)
            return
        n, sent = len(keys), arguments(keys)
        look = [command_on(b"WATCH", n, sent), command_on(b"MGET", n, sent)]
        with self._connections.one() as connection:
            while True:
                send(connection, look)
                yield
                _, blobs = received(connection, len(look))
                try:
                    changed = named(keys, change(blobs))
                except Exception as error:
                    # Every reply was read, so the connection can be kept.
                    asked(connection, [_UNWATCH])
                    failed = error
                    break
                if _commit(connection, changed, closing):
                    return
        raise failed

    def update(
        self, keys: Sequence[bytes], change: Change, *, closing: tuple[bytes, bytes] | None = None
    ) -> None:
        """Both halves of `open_update`."""
        self.open_update(keys, change, closing=closing).result()

    @_reached
    def write(self, values: dict[bytes, bytes]) -> None:
        """Set all of `values`: one MSET."""
        if values:
            self.client.mset(values)

    @_reached
    def create(self, keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray) -> list[int]:
        """Set keys that are absent: one stream of MSETNX."""
        from featurekit.online.state.encode_many import framed

        stream, bounds = framed(keys, values)
        groups = [range(n, min(n + _GROUP, len(keys))) for n in range(0, len(keys), _GROUP)]
        left: list[int] = []
        with self._connections.one() as connection:
            sent, replies = 0, incoming(connection, len(groups))
            for done, group in enumerate(groups):
                if sent <= min(done + _AHEAD - _TOGETHER, len(groups) - 1):
                    parts: list[Any] = []
                    for pairs in groups[sent : sent + _TOGETHER]:
                        parts.append(b"*%d\r\n$6\r\nMSETNX\r\n" % (1 + 2 * len(pairs)))
                        parts.append(stream[bounds[pairs.start] : bounds[pairs.stop]])
                    send(connection, parts)
                    sent += _TOGETHER
                if not next(replies):
                    left += group
        return left

    @_reached
    def delete(self, keys: Sequence[bytes]) -> None:
        """Remove keys."""
        for first in range(0, len(keys), _CHUNK):
            self.client.unlink(*keys[first : first + _CHUNK])

    @_reached
    def keys(self, prefix: bytes) -> Iterable[bytes]:
        """Every key that begins with `prefix`: a SCAN."""
        return sorted(set(self.client.scan_iter(match=_pattern(prefix), count=_CHUNK)))

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """The keys that begin with `prefix`, in the batches of SCAN."""
        cursor = 0
        while True:
            cursor, found = self._scan(cursor, prefix)
            yield found
            if not cursor:
                return

    @_reached
    def _scan(self, cursor: int, prefix: bytes) -> tuple[int, list[bytes]]:
        cursor, found = self.client.scan(cursor, match=_pattern(prefix), count=_CHUNK)
        return int(cursor), list(found)

    @_reached
    def count(self) -> int:
        """The number of all keys: DBSIZE."""
        return int(self.client.dbsize())

    @_reached
    def sizes(self, keys: Sequence[bytes]) -> list[int]:
        """The bytes that each key takes up together with its value: MEMORY USAGE."""
        pipe = self.client.pipeline(transaction=False)
        for key in keys:
            pipe.memory_usage(key)
        return [size or 0 for size in pipe.execute()]

    @_reached
    def delete_if(
        self, keys: Sequence[bytes], guards: Sequence[bytes], values: Sequence[bytes | None]
    ) -> bool:
        """Remove `keys` if `guards` have `values`: WATCH, MGET, MULTI, UNLINK, EXEC."""
        with self.client.pipeline(transaction=True) as pipe:
            try:
                pipe.watch(*guards)
                if pipe.mget(guards) != list(values):
                    return False
                pipe.multi()
                pipe.unlink(*keys)
                pipe.execute()
            except WatchError:
                return False
            return True

    @_reached
    def health(self) -> Health:
        """What INFO says of the run, of evictions and of the policy."""
        pipe = self.client.pipeline(transaction=False)
        for part in ("server", "stats", "memory"):
            pipe.info(part)
        told: dict[str, Any] = {}
        for found in pipe.execute(raise_on_error=False):
            if isinstance(found, dict):
                told |= found
            elif not isinstance(found, NoPermissionError):
                raise found
        return Health(told.get("run_id"), told.get("evicted_keys"), told.get("maxmemory_policy"))

    @_reached
    def now_us(self) -> int:
        """The server's clock."""
        seconds, micros = self.client.time()
        return int(seconds) * 1_000_000 + int(micros)

    def open_push(
        self, key: bytes, also: Sequence[bytes] = ()
    ) -> Pending[tuple[bytes, int, list[bytes | None]]]:
        """Announce a push: add an entry to a stream, whose id is the server's clock, then read its
        TIME and the values of `also`, in one round trip."""
        return Pending(_steps_reached(self._open_push(key, also), self.url))

    def _open_push(
        self, key: bytes, also: Sequence[bytes]
    ) -> PendingSteps[tuple[bytes, int, list[bytes | None]]]:
        commands = [command(b"XADD", key, b"*", b"p", b""), _TIME]
        if also:
            commands.append(command(b"MGET", *also))
        with self._connections.one() as connection:
            send(connection, commands)
            yield
            token, (seconds, micros), *values = received(connection, len(commands))
        now = int(seconds) * 1_000_000 + int(micros)
        return token, now, values[0] if values else []

    @_reached
    def close_push(self, key: bytes, token: bytes) -> None:
        """End the push of `token`: remove its entry."""
        self.client.xdel(key, token)

    @_reached
    def settled_until(self, key: bytes) -> int:
        """An instant that is before the stamp of every open or later push of `key`.

        A push that was announced and died counts as open for ten minutes. The log has the rows that
        it kept.
        """
        now = self.now_us()
        self.client.xtrim(key, minid=max(now // 1000 - _DEAD_MS, 0), approximate=False)
        first = self.client.xrange(key, count=1)
        opened = int(first[0][0].split(b"-")[0]) * 1000 if first else now
        return min(now, opened) - 1

    @_reached
    def close(self) -> None:
        """Close the connections."""
        self._connections.close()
        self.client.close()
