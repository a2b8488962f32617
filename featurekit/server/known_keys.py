"""Keeps a project's API keys for a moment, as Redis has them.

A worker asks Redis again before it goes on with what it read more than `FRESH_S` ago: so long may a
revoked key still open something. While Redis does not answer, keys that were known go on for
`OUTAGE_S`, and of others nobody can say whether they are keys.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from featurekit.errors import DamagedNote, OnlineError
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.api_keys import ApiKey, api_keys_key, read_keys
from featurekit.server.failures import Told

FRESH_S, OUTAGE_S = 2.0, 60.0
_SOON_S = 1.0
"""From this age on, keys are read again while requests go on."""
_AGAIN_S = 0.1
"""The least time between two readings for keys that are not known, which may have been made since
the last one: they wait for the next, so that a new key counts at once and guesses cost little."""
_PAUSE_S, _WAIT_S, _FIRST_S = 0.5, 0.25, 1.5
_log = logging.getLogger("featurekit.server")


class KnownKeys:
    """The API keys of a project, for one event loop. `clock` is a monotonic one, in seconds."""

    def __init__(
        self, store: OnlineStore, project: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._key, self._clock = store, api_keys_key(project), clock
        self._keys: dict[str, ApiKey] = {}
        self._value: bytes | None = None
        self._read_at = self._tried_at = float("-inf")
        self._failed = False
        self._readings = 0
        self._reading: asyncio.Task[None] | None = None

    async def find(self, id_: str) -> ApiKey | None:
        """The key of an id; None where there is none. StoreUnavailable where that is not known,
        since Redis does not answer."""
        age = self._clock() - self._read_at
        known = id_ in self._keys
        before = self._readings
        if not known and age < _AGAIN_S:
            await asyncio.sleep(_AGAIN_S - age)
        if not known or age > _SOON_S:
            # One that began since this request came has all that it could name.
            reading = self._begun() if self._readings == before else self._reading
            if reading is not None and self._must_wait(age, known=known):
                first = self._read_at == float("-inf")
                await asyncio.wait({reading}, timeout=_FIRST_S if first else _WAIT_S)
                age = self._clock() - self._read_at
        found = self._keys.get(id_)
        if age > (FRESH_S if found is None else OUTAGE_S):
            raise Told(
                "the keys of callers cannot be read now, so nobody can say whether this is one; "
                "ask again"
            )
        return found

    def _must_wait(self, age: float, *, known: bool) -> bool:
        """Whether a request waits for what is being read. While Redis fails, nobody who was known
        does."""
        if not known:
            return True
        return age > OUTAGE_S or (age > FRESH_S and not self._failed)

    def _begun(self) -> asyncio.Task[None] | None:
        """The reading that is under way, which begins unless one failed just now."""
        if self._reading is None or self._reading.done():
            now = self._clock()
            if self._failed and now - self._tried_at < _PAUSE_S:
                return None
            self._tried_at = now
            self._readings += 1
            self._reading = asyncio.create_task(self._read(now))
        return self._reading

    async def _read(self, now: float) -> None:
        try:
            (value,) = await self._store.read_async([self._key])
            if value != self._value or self._read_at == float("-inf"):
                self._keys, self._value = read_keys(value), value
            self._read_at, self._failed = now, False
        except OnlineError as error:
            self._failed = True
            if isinstance(error, DamagedNote):
                _log.error("the keys of callers cannot be read: %s", error)

    async def close(self) -> None:
        """End what is being read."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
