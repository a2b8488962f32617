"""Keeps lookups from making the outage of a server worse: a circuit breaker, and a budget of
retries.

Where the last few failures lie close together, and at least half of the lookups since the first of
them failed, the breaker trips: lookups fail at once, in place of waiting for time-outs and opening
connections. After a moment one of them is let through. Where it is answered, all are again.

A lookup may be asked twice, since it changes nothing: a connection that was kept may have been lost
meanwhile. The budget of such retries is a share of the lookups, so that a server that drops its
clients is not asked twice as much.

What an answered lookup pays is a count and two glances at `tripped`.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from featurekit.online.store.limits import Limits

WINDOW_S = 60.0
FAILED = (RedisConnectionError, RedisTimeoutError, OSError)
"""What counts as a failure of the server."""

_NOTHING = RedisConnectionError("nothing has failed")


class NotTried(RedisConnectionError):
    """A lookup was not tried: `last` is why another one failed, and `left_s` how long lookups are
    not tried yet."""

    def __init__(self, last: Exception, left_s: float) -> None:
        super().__init__(f"lookups are not tried for {left_s:.1f} s")
        self.last, self.left_s = last, left_s


class Breaker:
    """The circuit breaker and the budget of retries of a store's lookups, for threads and event
    loops together. `asked` counts lookups, about: whoever asks raises it, and calls `enter` where
    the breaker has `tripped`.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits, self.tripped, self.asked = limits, False, 0
        # The instants of the last failures, each with the number of lookups by then.
        self._failures = deque[tuple[float, int]](maxlen=max(1, limits.breaker_failures))
        self._last: Exception = _NOTHING
        self._next = 0.0
        self._budget, self._counted = float(limits.connections), 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Let one caller through where it is time for one; NotTried for all others."""
        limits = self.limits
        with self._lock:
            now = time.monotonic()
            if self.tripped and now < self._next:
                raise NotTried(self._last, min(self._next - now, limits.breaker_s))
            # The others wait for its answer, and not without an end: it may be given up.
            self._next = now + limits.breaker_s + limits.connect_timeout_s + limits.timeout_s

    def failed(self, error: Exception) -> None:
        """Count a lookup that failed; the breaker trips where it is one too many."""
        if not self.limits.breaker_failures:
            return
        with self._lock:
            now, failures = time.monotonic(), self._failures
            failures.append((now, self.asked))
            first, asked = failures[0]
            close = len(failures) == failures.maxlen and now - first <= WINDOW_S
            if self.tripped or (close and self.asked - asked < 2 * len(failures)):
                self.tripped, self._next = True, now + self.limits.breaker_s
                self._last = error

    def answered(self) -> None:
        """The server answered: lookups are tried again."""
        with self._lock:
            self.tripped, self._last = False, _NOTHING
            self._failures.clear()

    def may_retry(self) -> bool:
        """Whether a lookup may be asked once more, which is taken from the budget."""
        with self._lock:
            share = (self.asked - self._counted) * self.limits.retry_share
            self._budget = min(self._budget + share, float(self.limits.connections))
            self._counted = self.asked
            if self._budget < 1.0:
                return False
            self._budget -= 1.0
            return True
