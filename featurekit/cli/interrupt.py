"""Turns SIGINT and SIGTERM into the end of a command: in good order, and at most two seconds later.

The first signal raises KeyboardInterrupt in the main thread, which lets go of what the verb holds
and removes what it had begun to write. The main thread may be inside a library then, which takes
its time, or swallows the exception. So another thread is told of the signal, too, and ends the
process when the time is over, or at a second signal. A verb survives that as it survives a kill:
files appear whole or not at all, and a lease ends by itself.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from featurekit.core.ending import run_ends

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_S, _EXIT_S, _SAYING_S = 1.3, 0.4, 0.2
"""How long the main thread has for its end, what is to be done at any end after that, and its last
words, where both threads have begun with them."""


class Interrupts:
    """The signals of this process. `received` is the first one, None before it comes."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.over: int | None = None
        """The exit code of a command that is over: its last moments are not interrupted."""
        self._soft: Callable[[], object] | None = None
        self._patience_s = _PATIENCE_S
        self._told: int | None = None
        """The first signal as the other thread has it: the main thread may be inside a library,
        where Python calls no handler."""
        self._saying, self._said = threading.Lock(), False

    @property
    def _number(self) -> int:
        return self.received or self._told or signal.SIGINT

    @property
    def code(self) -> int:
        """The exit code of a process that a signal ended, as a shell gives it."""
        return 128 + self._number

    def _say(self, write: Callable[[str], object]) -> None:
        """What an interrupted command says at its end: once, by whichever thread comes first."""
        if self._saying.acquire(timeout=_SAYING_S):
            with suppress(OSError, ValueError):
                if not self._said:
                    self._said = True
                    what = "terminated" if self._number == signal.SIGTERM else "interrupted"
                    write(f"featurekit: {what}\n")
            self._saying.release()

    def install(self) -> None:
        """Take the signals over, except those that the caller has the process ignore."""
        caught = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        if not caught or threading.current_thread() is not threading.main_thread():
            return
        told, tell = os.pipe()
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(told,), daemon=True).start()
        for number in caught:
            signal.signal(number, self._handle)
        # Python gives signals back to the system at its very end, which would kill a command that
        # has done its work.
        atexit.register(lambda: [signal.signal(number, signal.SIG_IGN) for number in caught])
        hook = sys.unraisablehook
        sys.unraisablehook = lambda what: None if self.received else hook(what)
        of_thread = threading.excepthook
        threading.excepthook = lambda what: None if self.received else of_thread(what)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.over is not None or self.received is not None:
            return  # a second one is for the other thread
        self.received = number
        if self._soft is None:
            raise KeyboardInterrupt
        self._soft()

    @contextmanager
    def softly(self, stop: Callable[[], object], within_s: float = _PATIENCE_S) -> Iterator[None]:
        """While the block runs, the first signal calls `stop` and raises nothing: for work that
        ends in good order by itself, in at most `within_s` seconds."""
        self._soft, self._patience_s = stop, within_s
        try:
            yield
        finally:
            self._soft, self._patience_s = None, _PATIENCE_S

    def _watch(self, told: int) -> None:
        while True:
            data = os.read(told, 1)
            if data and data[0] in _SIGNALS:
                self._told = data[0]
                break
        end = time.monotonic() + self._patience_s
        while (left := end - time.monotonic()) > 0:
            again, _, _ = select.select([told], [], [], left)
            if again and os.read(told, 1)[0] in _SIGNALS:
                break
        self._give_up()

    def leave(self, code: int) -> NoReturn:
        """End the interrupted process, in order.

        It does not return to Python's own end: that kills the process by the signal once more where
        the exception has passed through a library's own piece of Python.
        """
        self.over = code
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        self._say(_to_stderr)
        run_ends()
        os._exit(code)

    def _give_up(self) -> None:
        code = self.code if self.over is None else self.over
        ends = threading.Thread(target=run_ends, daemon=True)
        ends.start()
        ends.join(_EXIT_S)
        files = sys.modules.get("featurekit.core.files")
        if files is not None:
            files.remove_begun()
        with suppress(OSError):
            if os.isatty(2):
                os.write(2, b"\r\x1b[K\x1b[?25h")  # a bar was there, and had hidden the cursor
        if self.over is None or self.received is not None:
            self._say(lambda text: os.write(2, text.encode()))
        os._exit(code)


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


_interrupts: Interrupts | None = None


def interrupts() -> Interrupts:
    """The signals of this process, which is the command's own; taken over at the first call."""
    global _interrupts
    if _interrupts is None:
        _interrupts = Interrupts()
        _interrupts.install()
    return _interrupts


@contextmanager
def stopping(stop: threading.Event, *, within_s: float = _PATIENCE_S) -> Iterator[None]:
    """While the block runs, a signal sets `stop`; the process ends `within_s` seconds later at the
    latest, or at a second signal. Where the process is not the command's own, the
    handlers of the signals are put back afterwards."""
    if _interrupts is not None:
        with _interrupts.softly(stop.set, within_s):
            yield
        return
    before: dict[int, Any] = {n: signal.signal(n, lambda *_: stop.set()) for n in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
