"""How long, and for how many connections, an online store waits, and when it does not try."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of what a store waits for; times are in seconds.

    `connect_timeout_s` is for a connection to open, and `timeout_s` for the reply to a lookup.
    `feed_timeout_s` is for the reply to a command that feeds the store. At most `connections` are
    open for lookups at once in a process (in an event loop, for coroutines), and as many for
    feeding. A caller that finds all of them in use waits for one, up to the same timeout.

    After `breaker_failures` lookups that failed close together (0 for never), lookups are not tried
    for `breaker_s`, and then one is. `retry_share` is how many retries each lookup allows; see
    `featurekit.online.store.breaker`.
    """

    connect_timeout_s: float = 5.0
    timeout_s: float = 5.0
    feed_timeout_s: float = 60.0
    connections: int = 100
    breaker_failures: int = 10
    breaker_s: float = 1.0
    retry_share: float = 0.2


DEFAULT = Limits()
