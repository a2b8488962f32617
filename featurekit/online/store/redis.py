"""The online store in Redis 6.2 or later: optimistic transactions over plain string keys."""

from __future__ import annotations

import builtins
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    TimeoutError,
    WatchError,
)
from redis.retry import Retry

from featurekit.errors import StoreUnavailable
from featurekit.online.store.breaker import Breaker, NotTried
from featurekit.online.store.clock import APART_US, KEEP, STAMP, Clock, given, reading, witness
from featurekit.online.store.connections import (
    AllInUse,
    AsyncConnections,
    Connections,
    PoolWaits,
    asked,
    incoming,
    received,
    send,
)
from featurekit.online.store.credentials import Credentials, NoPassword
from featurekit.online.store.deadlines import NoAnswer, causes, timed, timed_async
from featurekit.online.store.limits import DEFAULT, Limits
from featurekit.online.store.login import NO_LOGIN, Login
from featurekit.online.store.protocol import (
    Announced,
    Change,
    Closing,
    Guard,
    Health,
    Lasting,
    Pending,
    PendingSteps,
    named,
    pushed_key,
)
from featurekit.online.store.replies import Values, arguments, command, command_on
from featurekit.online.store.revive import Start, reviving, reviving_async
from featurekit.online.store.tls import tls_failure
from featurekit.online.store.url import check_url, has_login, shown_url, without_secrets

if TYPE_CHECKING:
    import asyncio

    import pyarrow as pa

_P = ParamSpec("_P")
_R = TypeVar("_R")
_CHUNK = 1000
_GROUP, _AHEAD, _TOGETHER = 250, 64, 16
"""The number of keys that one command sets, of commands that are sent before a reply is read, and
of commands that the socket is given at once: after each of these a thread waits for its turn."""
_GUARDED = 4
"""The number of such commands in a transaction, which other clients wait for."""
_ANY = 1 << 31
"""redis-py's own limit of connections, which raises instead of waiting; ours is lower."""
_GLOB = b"\\*?[]^"
_MULTI, _EXEC, _UNWATCH = (command(c) for c in (b"MULTI", b"EXEC", b"UNWATCH"))


def _reached(method: Callable[_P, _R]) -> Callable[_P, _R]:
    @functools.wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(*args, **kwargs)
        except (RedisError, OSError) as error:
            store = cast(RedisStore, args[0])
            raise store.unavailable(error) from error

    return call


def _explain(store: RedisStore, error: Exception) -> str:
    url, wait_s = store.url, store.limits.feed_timeout_s
    shown, said = shown_url(url), without_secrets(str(error), url)
    # redis-py has an error of its own around what went wrong on the way, at times.
    refused = next((e for e in causes(error) if isinstance(e, AuthenticationError)), None)
    if isinstance(refused, NoPassword):
        return f"Redis at {shown} is not asked: {refused}"
    if refused is not None:
        into = store.login.place if store.login.given else "its URL"
        return f"Redis at {shown} refuses the password: {said}; put the right one into {into}"
    failed = tls_failure(error, url)
    if failed is not None:
        return f"Redis at {shown} cannot be reached by TLS: {failed}"
    if isinstance(error, AllInUse):
        return (
            f"Redis at {shown}: {said}; ask less at once, or raise `connections` under "
            "featurekit: in feature_store.yaml"
        )
    if isinstance(error, (TimeoutError, builtins.TimeoutError)):
        late = said if isinstance(error, NoAnswer) else f"it did not answer in {wait_s:g} s"
        return (
            f"Redis at {shown} keeps its clients waiting: {late}; it may be stopped, overloaded or "
            "cut off. connect_timeout_s, timeout_s (for lookups) and feed_timeout_s under "
            "featurekit: in feature_store.yaml set how long is waited"
        )
    if isinstance(error, (ConnectionError, OSError)):
        return (
            f"Redis at {shown} cannot be reached: {said.rstrip('.')}; start it, or correct "
            f"{store.named or 'its URL'}"
        )
    return f"Redis at {shown} answered with an error: {said}"


def connect(
    url: str,
    *,
    limits: Limits = DEFAULT,
    login: Login = NO_LOGIN,
    wait_s: float | None = None,
    start: Start | None = None,
) -> Any:
    """A client of the Redis at `url`, which waits up to `wait_s` seconds for a reply, by default as
    long as a command that feeds may take. `login` says who connects, unless the URL does. `start`
    starts the server again where it has died. StoreUnavailable where that is not a URL of Redis."""
    check_url(url)
    wait_s = limits.feed_timeout_s if wait_s is None else wait_s
    options = _options(url, limits, login, wait_s)
    if url.startswith("unix:"):
        # redis-py before 8.1 asks for notices of the host's maintenance with RESP3, and raises a
        # ValueError at the first command where a socket has no host.
        from redis.maint_notifications import MaintNotificationsConfig

        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    try:
        client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
    except ValueError as error:
        raise StoreUnavailable(
            f"{shown_url(url)} is no Redis URL: {without_secrets(str(error), url)}"
        ) from None
    pool = client.connection_pool
    _read_number(pool)
    pool.connection_class = timed(pool.connection_class if start is None else reviving(start))
    return client


def _read_number(pool: Any) -> None:
    """Turn an option of the URL into a number, which redis-py before 8 leaves a text."""
    options = pool.connection_kwargs
    if "socket_read_size" in options:
        options["socket_read_size"] = int(options["socket_read_size"])


def _options(url: str, limits: Limits, login: Login, wait_s: float) -> dict[str, Any]:
    """What every client is given, whatever the defaults of redis-py's version. Nothing is tried
    again: a dead server's error should be seen at once."""
    options: dict[str, Any] = {
        "socket_connect_timeout": limits.connect_timeout_s,
        "socket_timeout": wait_s,
        "max_connections": _ANY,
    }
    if login.given and not has_login(url):
        options["credential_provider"] = Credentials(login)
    return options


def _connect_async(url: str, limits: Limits, login: Login, start: Start | None) -> Any:
    """A client of the Redis at `url` for coroutines."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry

    options = _options(url, limits, login, limits.timeout_s)
    client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
    pool = client.connection_pool
    _read_number(pool)
    kind = pool.connection_class if start is None else reviving_async(start)
    pool.connection_class = timed_async(kind)
    return client


def _pattern(prefix: bytes) -> bytes:
    """The pattern by which SCAN finds every key that begins with `prefix`."""
    return b"".join(b"\\" + bytes((c,)) if c in _GLOB else bytes((c,)) for c in prefix) + b"*"


def _running_loop() -> Any:
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _most(client: Any, limits: Limits) -> int:
    """The number of connections at once: a URL may ask for fewer than the limits."""
    return min(limits.connections, int(client.connection_pool.max_connections))


def _announced(token: bytes, fields: dict[bytes, bytes]) -> Announced:
    """A push as the stream has it. An earlier release only gave the entry's own instant."""
    made = int(token.split(b"-")[0]) * 1000
    if b"h" not in fields:
        return Announced(token, made, made, b"")
    return Announced(token, int(fields[b"p"]), int(fields[b"t"]), fields[b"h"])


def _lasting(values: dict[bytes, bytes]) -> list[tuple[bytes, Lasting]]:
    return [(key, value) for key, value in values.items() if type(value) is Lasting]


def _commit(connection: Any, changed: dict[bytes, bytes], closing: Closing | None) -> bool:
    """Write the changes of keys that are watched, and end the push `closing`. False, with nothing
    written, where another writer was faster."""
    gone = [key for key, value in changed.items() if not value]
    kept = [pair for pair in changed.items() if pair[1]] if gone else changed.items()
    values = list(chain.from_iterable(kept))
    writes = []
    if values:
        writes.append(command(b"MSET", *values))
        writes += [command(b"EXPIRE", k, b"%d" % v.seconds) for k, v in _lasting(changed)]
    if gone:
        writes.append(command(b"UNLINK", *gone))
    if closing is not None:
        writes.append(command(b"XDEL", closing.key, closing.token))
        writes.append(command(b"INCR", pushed_key(closing.key)))
        if closing.clock is not None:
            stamp = b"%d" % closing.stamp
            writes.append(command(b"EVAL", KEEP, b"1", closing.clock, stamp))
    if not writes:
        asked(connection, [_UNWATCH])
        return True
    *_, done = asked(connection, [_MULTI, *writes, _EXEC])
    for reply in done or ():
        if isinstance(reply, RedisError):
            raise reply
    return done is not None


def _created_guarded(
    connections: Sequence[Any],
    groups: Sequence[range],
    setting: Callable[[Sequence[range]], list[Any]],
    guards: Sequence[Guard],
) -> list[int]:
    """Set groups of keys in transactions that the guards' keys are watched for; the numbers of keys
    that were not set. The values for a connection's next transaction come with the replies of each,
    and the connections take turns: one is sent while the server works at the other."""
    watched = [key for guard in guards for key in guard.keys]
    look = [command(b"WATCH", *watched), command(b"MGET", *watched)]
    todo = deque(groups[n : n + _GUARDED] for n in range(0, len(groups), _GUARDED))
    turns = deque[tuple[Any, Sequence[range]]]()
    for connection in connections:
        send(connection, look)
        turns.append((connection, ()))
    left: list[int] = []
    while turns:
        connection, some = turns.popleft()
        if some:
            *_, done, _, values = received(connection, len(some) + 4)
            if done is None:  # a guard's key has changed meanwhile; nothing was set
                todo.appendleft(some)
            else:
                left += _not_set(some, done)
        else:
            _, values = received(connection, len(look))
        if not todo:
            asked(connection, [_UNWATCH])
            continue
        at = 0
        for guard in guards:
            guard.check(values[at : at + len(guard.keys)])
            at += len(guard.keys)
        some = todo.popleft()
        send(connection, [_MULTI, *setting(some), _EXEC, *look])
        turns.append((connection, some))
    return left


def _not_set(groups: Sequence[range], replies: Sequence[Any]) -> list[int]:
    """The numbers of the keys that a transaction did not set."""
    left: list[int] = []
    for group, made in zip(groups, replies, strict=True):
        if isinstance(made, RedisError):
            raise made
        if not made:
            left += group
    return left


class RedisStore:
    """An OnlineStore on one Redis server; `url` is redis://, rediss:// or unix://.

    `limits` says how long it waits, and for how many connections, and `login` who connects, where
    the URL does not. `start` starts a private server
    again where it has died, and `ended` says why it did, None where that is not known. `clock`
    sets the time of a scratch server. `named` is the option or setting that the URL is from, for
    errors.
    """

    named = ""

    def __init__(
        self,
        url: str,
        limits: Limits = DEFAULT,
        *,
        login: Login = NO_LOGIN,
        start: Start | None = None,
        ended: Callable[[], str | None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self.url, self.limits, self._start, self.clock = url, limits, start, clock
        self.login = NO_LOGIN if has_login(url) else login
        self._ended = ended
        self.client = connect(url, limits=limits, login=login, start=start)
        # Clients of their own, since these connections are kept between uses. What feeds has others
        # than lookups: it waits longer, and reads while it holds a connection.
        self.breaker, self.pool_waits = Breaker(limits), PoolWaits()
        self._reading = self._kept(limits.timeout_s, self.breaker)
        self._writing = self._kept(limits.feed_timeout_s)
        # A connection belongs to the event loop in which it was made.
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncConnections]
        self._of_loops = WeakKeyDictionary()

    def _kept(self, wait_s: float, breaker: Breaker | None = None) -> Connections:
        client = connect(
            self.url, limits=self.limits, login=self.login, wait_s=wait_s, start=self._start
        )
        most = _most(client, self.limits)
        return Connections(client, most=most, wait_s=wait_s, breaker=breaker)

    def unavailable(self, error: Exception) -> StoreUnavailable:
        """What an error of redis-py, or of a socket, is called here."""
        if isinstance(error, NotTried):
            left = f"{error.left_s:.1f} s"
            return StoreUnavailable(
                f"{self.unavailable(error.last)}. Lookups are not tried for {left} yet, after "
                "several that failed (breaker_failures and breaker_s under featurekit:)",
                retry_after_s=error.left_s,
            )
        if isinstance(error, (ConnectionError, OSError)) and not isinstance(error, TimeoutError):
            why = self._ended()
            if why is not None:
                return StoreUnavailable(f"Redis at {shown_url(self.url)} was lost: {why}")
        return StoreUnavailable(_explain(self, error))

    def _steps_reached(self, steps: PendingSteps[_R]) -> PendingSteps[_R]:
        try:
            return (yield from steps)
        except (RedisError, OSError) as error:
            raise self.unavailable(error) from error

    @_reached
    def read(self, keys: Sequence[bytes]) -> Values:
        """The values of `keys`: one MGET."""
        return self._reading.mget(keys) if keys else []

    @_reached
    def read_at(self, keys: Sequence[bytes], clock: bytes) -> tuple[Values, int]:
        """The values of `keys` and the clock: TIME, GET and MGET."""
        values, time, last = self._reading.mget_at(keys, clock)
        return values, self._clock(time, last)

    async def read_at_async(self, keys: Sequence[bytes], clock: bytes) -> tuple[Values, int]:
        """The values of `keys` and the clock: TIME, GET and MGET."""
        connections = self._of_loop()
        try:
            values, time, last = await connections.mget_at(keys, clock)
        except (RedisError, OSError) as error:
            raise self.unavailable(error) from error
        return values, self._clock(time, last)

    def _clock(self, time: int, last: int) -> int:
        return reading(time if self.clock is None else self.clock(), last, witness(self.clock))

    async def read_async(self, keys: Sequence[bytes]) -> Values:
        """The values of `keys`: one MGET."""
        if not keys:
            return []
        connections = self._of_loop()
        try:
            return await connections.mget(keys)
        except (RedisError, OSError) as error:
            raise self.unavailable(error) from error

    def _of_loop(self) -> AsyncConnections:
        """The connections of the running event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        connections = self._of_loops.get(loop)
        if connections is None:
            client = _connect_async(self.url, self.limits, self.login, self._start)
            connections = self._of_loops[loop] = AsyncConnections(
                client,
                most=_most(client, self.limits),
                wait_s=self.limits.timeout_s,
                breaker=self.breaker,
                waits=self.pool_waits,
            )
        return connections

    async def close_async(self) -> None:
        """Close the connections of the running event loop."""
        import asyncio

        connections = self._of_loops.pop(asyncio.get_running_loop(), None)
        if connections is not None:
            await connections.close()

    def open_update(
        self, keys: Sequence[bytes], change: Change, *, closing: Closing | None = None
    ) -> Pending[None]:
        """Change all of `keys` at once.

        The first half sends WATCH and MGET. The second one reads the values and sends MULTI, MSET,
        XDEL and EXEC. That is two round trips, and two more for each time that another writer was
        faster.
        """
        return Pending(self._steps_reached(self._update(keys, change, closing)))

    def _update(
        self, keys: Sequence[bytes], change: Change, closing: Closing | None
    ) -> PendingSteps[None]:
        if not keys:
            yield
            if closing is not None:
                self.close_push(closing.key, closing.token)
            return
        n, sent = len(keys), arguments(keys)
        look = [command_on(b"WATCH", n, sent), command_on(b"MGET", n, sent)]
        with self._writing.one() as connection:
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
        self, keys: Sequence[bytes], change: Change, *, closing: Closing | None = None
    ) -> None:
        """Both halves of `open_update`."""
        self.open_update(keys, change, closing=closing).result()

    @_reached
    def write(self, values: dict[bytes, bytes]) -> None:
        """Set all of `values`: one MSET, in a transaction where some of them do not stay."""
        lasting = _lasting(values)
        if len(values) == len(lasting) == 1:
            ((key, value),) = lasting
            self.client.set(key, value, ex=value.seconds)
        elif lasting:
            with self.client.pipeline() as pipeline:
                pipeline.mset(values)
                for key, value in lasting:
                    pipeline.expire(key, value.seconds)
                pipeline.execute()
        elif values:
            self.client.mset(values)

    @_reached
    def create(
        self, keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray, guards: Sequence[Guard] = ()
    ) -> list[int]:
        """Set keys that are absent: one stream of MSETNX, in transactions where there are
        `guards`."""
        from featurekit.online.state.encode_many import framed

        stream, bounds = framed(keys, values)
        groups = [range(n, min(n + _GROUP, len(keys))) for n in range(0, len(keys), _GROUP)]

        def setting(some: Sequence[range]) -> list[Any]:
            parts: list[Any] = []
            for pairs in some:
                parts.append(b"*%d\r\n$6\r\nMSETNX\r\n" % (1 + 2 * len(pairs)))
                parts.append(stream[bounds[pairs.start] : bounds[pairs.stop]])
            return parts

        with self._writing.one() as connection:
            if guards:
                with self._writing.spare() as other:
                    both = [c for c in (connection, other) if c is not None]
                    return _created_guarded(both, groups, setting, guards)
            left: list[int] = []
            sent, replies = 0, incoming(connection, len(groups))
            for done, group in enumerate(groups):
                if sent <= min(done + _AHEAD - _TOGETHER, len(groups) - 1):
                    send(connection, setting(groups[sent : sent + _TOGETHER]))
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
        """The server's time, or what the caller sets."""
        if self.clock is not None:
            return self.clock()
        seconds, micros = self.client.time()
        return int(seconds) * 1_000_000 + int(micros)

    @_reached
    def stamp(self, clock: bytes, *, restart: bool = False) -> int:
        """A stamp of the clock: one script."""
        with self._writing.one() as connection:
            (found,) = asked(connection, [self._stamping(clock, restart=restart)])
        return self._given(found)

    def _stamping(self, *keys: bytes, restart: bool = False, holder: bytes = b"") -> bytes:
        """The command that gives a stamp, and announces a push where there is a second key."""
        time = b"" if self.clock is None else b"%d" % self.clock()
        own, apart = b"%d" % witness(self.clock), b"%d" % APART_US
        about = (time, own, apart, b"%d" % restart, holder)
        return command(b"EVAL", STAMP, b"%d" % len(keys), *keys, *about)

    def _place(self) -> str:
        return f"Redis at {shown_url(self.url)}"

    def _given(self, found: Sequence[Any]) -> int:
        stamp, time, last = map(int, found[:3])
        return given(stamp, time, last, witness(self.clock), self._place)

    def open_push(
        self, key: bytes, also: Sequence[bytes] = (), *, clock: bytes, holder: bytes = b""
    ) -> Pending[tuple[bytes, int, list[bytes | None]]]:
        """Announce a push: by one script add an entry to a stream and keep the stamp, then read
        the values of `also`, in one round trip."""
        return Pending(self._steps_reached(self._open_push(key, also, clock, holder)))

    def _open_push(
        self, key: bytes, also: Sequence[bytes], clock: bytes, holder: bytes
    ) -> PendingSteps[tuple[bytes, int, list[bytes | None]]]:
        commands = [self._stamping(clock, key, holder=holder)]
        if also:
            commands.append(command(b"MGET", *also))
        with self._writing.one() as connection:
            send(connection, commands)
            yield
            found, *values = received(connection, len(commands))
        return bytes(found[3]), self._given(found), values[0] if values else []

    @_reached
    def close_push(self, key: bytes, token: bytes) -> None:
        """End the push of `token`: remove its entry."""
        self.client.xdel(key, token)

    @_reached
    def announced(self, key: bytes) -> list[Announced]:
        """The pushes that are announced under `key`, oldest first: an XRANGE."""
        return [_announced(token, fields) for token, fields in self.client.xrange(key)]

    @_reached
    def settled_until(self, key: bytes, *, clock: bytes) -> int:
        """An instant that is before the stamp of every open or later push of `key`."""
        now = self.read_at([], clock)[1]
        return min([now, *(of.stamp for of in self.announced(key))]) - 1

    @_reached
    def close(self) -> None:
        """Close the connections, also those that event loops have: at once for the running loop,
        and for another one when it runs next."""
        for loop, connections in list(self._of_loops.items()):
            if loop is _running_loop():
                connections.abandon()
            else:
                with suppress(RuntimeError):  # the loop was closed, and its connections with it
                    loop.call_soon_threadsafe(connections.abandon)
        self._of_loops.clear()
        self._reading.close()
        self._writing.close()
        self.client.close()
