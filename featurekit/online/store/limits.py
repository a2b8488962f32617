"""How long, and for how many connections, an online store waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of what a store waits for; times are in seconds.

    `connect_timeout_s` is for a connection to open, and `timeout_s` for the reply to a lookup.
    `feed_timeout_s` is for the reply to a command that feeds the store. At most `connections` are
    open for lookups at once in a process (in an event loop, for coroutines), and as many for
    feeding. A caller that finds all of them in use waits for one, up to the same timeout.
    """

    connect_timeout_s: float = 5.0
    timeout_s: float = 5.0
    feed_timeout_s: float = 60.0
    connections: int = 100


DEFAULT = Limits()
