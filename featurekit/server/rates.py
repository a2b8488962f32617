"""Says how often callers may ask: a bucket of tokens for each, in this worker alone."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MOST = 20_000


class Rates:
    """The buckets of callers. A bucket holds what a caller may ask in a second, and fills
    steadily."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str, rate: float) -> float:
        """0 where the caller may ask now, which is counted; else the seconds until it may."""
        now, most = self._clock(), max(rate, 1.0)
        left, since = self._buckets.get(caller, (most, now))
        left = min(most, left + (now - since) * rate)
        if left < 1.0:
            return (1.0 - left) / rate
        self._buckets[caller] = left - 1.0, now
        self._buckets.move_to_end(caller)
        if len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
        return 0.0
