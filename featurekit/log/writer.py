"""Writes pushes to the log of pushed events, for one process."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

from featurekit.define.definitions import EventSource
from featurekit.log.journal import SUFFIX, Journal
from featurekit.log.segments import BYTES, FEW, PUSHES, Columns, columns_of, new, write_segment

_OPEN = 64
"""For how many sources a process keeps journals open."""
_FILES = 32
"""After this many new files of a source it is time to join them."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class PushLog:
    """The log as one process writes it. Small pushes go into journals of the process, of which
    there are as many as were ever written to at once; each large push becomes a segment. If files
    cannot be locked, all pushes become segments. Threads may share the log."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._idle: dict[str, list[tuple[Columns, Journal]]] = {}
        self._pid = os.getpid()
        self._files: dict[str, int] = {}
        self._locks = True

    def keep(self, source: EventSource, rows: Any, claim: str | None = None) -> bool:
        """Keep the rows of a push, so that they survive a power failure, and its claim with them.
        They are an Arrow table or dicts of the source's columns, with `__ts` and `__created`.
        Returns whether it is time to join files. If it raises, nothing is kept."""
        columns = columns_of(source)
        batch = columns.batch(rows) if self._locks and len(rows) <= FEW else None
        if batch is None or batch.nbytes > BYTES:
            write_segment(self.state_dir, source, rows, claim=claim)
            return self._made_a_file(source.name)
        mine = self._taken(source.name, columns)
        try:
            while mine is None or not mine.append(batch, claim):
                if mine is not None:
                    mine.close()
                mine = Journal(new(self.state_dir, source.name, batch, SUFFIX), columns.schema)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self._locks = False
            return self.keep(source, rows, claim)
        if mine.pushes >= PUSHES or mine.size >= BYTES:
            mine.end()
            return True
        self._idle.setdefault(source.name, []).append((columns, mine))
        if len(self._idle) > _OPEN:
            _let_go(self._idle.pop(next(iter(self._idle)), []))
        return mine.pushes == 1 and self._made_a_file(source.name)

    def _taken(self, source: str, columns: Columns) -> Journal | None:
        """A journal with these columns that nobody else writes to; None if there is none."""
        if self._pid != os.getpid():  # a forked process leaves its parent's journals alone
            self.close()
            self._pid = os.getpid()
        idle = self._idle.get(source)
        while idle:
            try:
                of, found = idle.pop()
            except IndexError:  # another thread was faster
                break
            if of is columns or of.schema.equals(columns.schema):
                return found
            found.close()
        return None

    def _made_a_file(self, source: str) -> bool:
        """Whether it is time to join files, now that there is one more. It is also time after the
        first file, since other processes may have left some."""
        self._files[source] = files = self._files.get(source, 0) + 1
        return files % _FILES == 1

    def close(self) -> None:
        """Close the journals, which stay as they are."""
        idle, self._idle = self._idle, {}
        for of_source in idle.values():
            _let_go(of_source)


def _let_go(idle: list[tuple[Columns, Journal]]) -> None:
    # One by one: another thread may be about to take one.
    with contextlib.suppress(IndexError):
        while True:
            idle.pop()[1].close()
