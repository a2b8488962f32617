"""Sends what is told in a thread of its own, so that whoever tells neither waits nor fails.

What cannot be sent is dropped, and said once. At the end what is left is waited for, for a bounded
time.
"""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

from featurekit.online.store.url import without_logins

MOST = 200
"""So many things may wait to be sent; more are dropped."""
_log = logging.getLogger("featurekit.lineage")


class Sending:
    """The thread that sends, and what waits for it."""

    def __init__(self, open_: Callable[[], Callable[[Any], None]]) -> None:
        self.open = open_
        self.waiting: queue.Queue[Callable[[], Any] | None] = queue.Queue()
        self.lost = 0
        self.said = False
        self.thread: threading.Thread | None = None
        self.lock = threading.Lock()

    def put(self, make: Callable[[], Any]) -> None:
        """Let something be made and sent."""
        with self.lock:
            if self.waiting.qsize() >= MOST:
                self.fail("the ones before it were not sent yet")
                return
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self.run, name="lineage", daemon=True)
                self.waiting.put(make)
                self.thread.start()
            else:
                self.waiting.put(make)

    def run(self) -> None:
        """Send what waits, until the end is told."""
        send: Callable[[Any], None] | None = None
        waiting = self.waiting  # a thread that was left behind keeps its own
        while (make := waiting.get()) is not None:
            try:
                send = send or self.open()
                send(make())
            except Exception as error:  # whatever a library raises, the pipeline goes on
                self.fail(f"{type(error).__name__}: {error}")

    def fail(self, why: str) -> None:
        """Count what is lost; say so the first time."""
        self.lost += 1
        if not self.said:
            self.said = True
            shown = without_logins(why)  # an error of HTTP names the whole URL
            _log.warning("featurekit: warning: an event of lineage was not sent: %s", shown)

    def end(self, within_s: float) -> None:
        """Wait until everything is sent, for so long at most, and let the thread end."""
        thread = self.thread
        if thread is None or not thread.is_alive():
            return
        self.waiting.put(None)
        thread.join(within_s)
        if thread.is_alive():
            self.fail(f"it took longer than {within_s:g} s")
            # The thread is left behind, and what waits with it.
            self.waiting, self.thread = queue.Queue(), None


class Teller:
    """Sends what runs tell. `open_` gives the function that sends one thing; it is called in the
    thread, since to load it takes long. `wait_s` is how long `close` waits at most."""

    def __init__(self, open_: Callable[[], Callable[[Any], None]], wait_s: float) -> None:
        self.wait_s = wait_s
        self._sending = Sending(open_)
        self._at_end = weakref.finalize(self, self._sending.end, wait_s)

    @property
    def lost(self) -> int:
        """How many things were not sent."""
        return self._sending.lost

    def tell(self, make: Callable[[], Any]) -> None:
        """Send what `make` gives, some time soon. It neither waits nor raises."""
        self._sending.put(make)

    def close(self) -> None:
        """Wait for what is not sent yet, for a bounded time."""
        self._sending.end(self.wait_s)
