"""Turns bodies of Arrow and Parquet into tables, by processes whose memory is bounded.

A body that takes too much, or breaks what reads it, ends such a process, and no push but its own.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from typing import IO, Any

from featurekit.errors import RequestRefused
from featurekit.server import unpack
from featurekit.server.failures import Told
from featurekit.server.orders import ARROW

_HEAD = unpack.HEAD
_FRUGAL = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""So that a process gives back what it does not use, and is as small before each body."""
_SLACK = 32 * 1024 * 1024
_log = logging.getLogger("featurekit.server")


class Tables:
    """Reads bodies of up to `most_bytes` bytes, `most_unpacked` once they are unpacked, and
    `most_rows` rows, each in at most `limit_s` seconds; several threads may do so at once.

    A process starts with the first body and is kept for the next. It may take three times
    `most_unpacked`: a page, what is decoded of it, and the buffer that grows meanwhile.
    """

    def __init__(
        self, *, most_bytes: int, most_unpacked: int, most_rows: int, limit_s: float
    ) -> None:
        self.most_unpacked, self.most_rows, self.limit_s = most_unpacked, most_rows, limit_s
        self.room = most_bytes + 3 * most_unpacked + _SLACK
        self._idle: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def read(self, kind: str, body: bytes) -> Any:
        """The table in a body, checked to its last value. RequestRefused: 413 for one that is too
        large once it is unpacked, 400 for one that cannot be read."""
        import pyarrow as pa

        process = self._process()
        said, answer = self._asked(process, unpack.ARROW if kind == ARROW else unpack.PARQUET, body)
        if said in (None, unpack.LARGE):
            code = _end(process)  # its memory has holes
            if said is None:
                _log.warning("what reads bodies of Arrow and Parquet ended (exit code %s)", code)
            raise self._too_large(int(answer or 0))
        with self._lock:
            self._idle.append(process)
        if said == unpack.ROWS:
            check_number(int(answer), self.most_rows, "body")
        if said == unpack.WRONG:
            what = "stream of Arrow" if kind == ARROW else "file of Parquet"
            raise RequestRefused(
                f"the body is no {what} ({answer.decode(errors='replace')}); write it by pyarrow, "
                "or in another language by its library for it",
                where="body",
            )
        with pa.ipc.open_stream(pa.py_buffer(answer)) as stream:
            return stream.read_all()

    def _process(self) -> subprocess.Popen[bytes]:
        """One that waits for a body."""
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.poll() is None:
                    return process
                _end(process)
        numbers = map(str, (self.most_unpacked, self.room, self.most_rows))
        try:
            return subprocess.Popen(
                [sys.executable, "-m", unpack.__name__, *numbers],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **_FRUGAL},
                process_group=0,  # a Ctrl-C in the terminal is this process's to handle
            )
        except OSError:
            raise Told("no process can be started that reads the body; push again later") from None

    def _asked(
        self, process: subprocess.Popen[bytes], kind: bytes, body: bytes
    ) -> tuple[bytes | None, bytes]:
        """The kind of an answer, None where the process ended instead of one, and the answer."""
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(self.limit_s, process.kill)
        late.start()
        try:
            process.stdin.write(_HEAD.pack(kind, len(body)))
            process.stdin.write(body)
            process.stdin.flush()
            said, size = _HEAD.unpack(_exactly(process.stdout, _HEAD.size))
            if size > unpack.most_sent(self.most_unpacked):
                raise EOFError
            return said, _exactly(process.stdout, size)
        except (OSError, EOFError):
            return None, b""
        finally:
            late.cancel()

    def _too_large(self, size: int) -> RequestRefused:
        found = f"{size} bytes" if size else "more than can be told, or more than is read in time"
        return RequestRefused(
            f"the body unpacks to {found}; push at most {self.most_unpacked} unpacked bytes at "
            "once, so send fewer rows",
            status=413,
            where="body",
        )

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            while self._idle:
                _end(self._idle.pop())


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _end(process: subprocess.Popen[bytes]) -> int:
    """End a process; its exit code."""
    process.kill()
    process.communicate()
    return process.returncode


def check_number(rows: int, most: int, where: str) -> None:
    """RequestRefused, 413, for a push of more than `most` rows."""
    if rows > most:
        raise RequestRefused(f"{rows} rows; push at most {most} at once", status=413, where=where)
