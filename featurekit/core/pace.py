"""Keeps the processor time of long work beside serving at a share of the time that goes by."""

from __future__ import annotations

import time


class Pace:
    """Lets this process use at most `share` of one processor, whatever priority it has: work rests
    in between. None rests never."""

    def __init__(self, share: float | None) -> None:
        self._share = share
        self._used, self._began = time.process_time(), time.monotonic()

    def rest(self) -> None:
        """Sleep until what was used since the last call is no more than the share of the time since
        then; to be called after each piece of work."""
        if self._share is None:
            return
        used = time.process_time() - self._used
        time.sleep(max(0.0, used / self._share - (time.monotonic() - self._began)))
        self._used, self._began = time.process_time(), time.monotonic()
