"""The log of pushed events as a process writes it."""

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
"""Sources whose journals a process keeps open."""
_FILES = 32
"""New files of a source after which it is time to join them."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class PushLog:
    """The log as one process writes it: small pushes into journals of its own, as many as were ever
    written to at once, and each large one as a segment; all as segments where files cannot be
    locked. Threads may share it."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._idle: dict[str, list[tuple[Columns, Journal]]] = {}
        self._pid = os.getpid()
        self._files: dict[str, int] = {}
        self._locks = True

    def keep(self, source: EventSource, rows: Any) -> bool:
        """Keep the rows of a push, as an Arrow table or as dicts of the source's columns, with
        `__ts` and `__created`, to last through a power failure; whether it is time to join what has
        come together. Where it raises, nothing is kept."""
        columns = columns_of(source)
        batch = columns.batch(rows) if self._locks and len(rows) <= FEW else None
        if batch is None or batch.nbytes > BYTES:
            write_segment(self.state_dir, source, rows)
            return self._made_a_file(source.name)
        mine = self._taken(source.name, columns)
        try:
            while mine is None or not mine.append(batch):
                if mine is not None:
                    mine.close()
                mine = Journal(new(self.state_dir, source.name, batch, SUFFIX), columns.schema)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self._locks = False
            return self.keep(source, rows)
        if mine.pushes >= PUSHES or mine.size >= BYTES:
            mine.end()
            return True
        self._idle.setdefault(source.name, []).append((columns, mine))
        if len(self._idle) > _OPEN:
            _let_go(self._idle.pop(next(iter(self._idle)), []))
        return mine.pushes == 1 and self._made_a_file(source.name)

    def _taken(self, source: str, columns: Columns) -> Journal | None:
        """A journal that nobody else writes to; None where there is none of these columns."""
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
        """Whether it is time to join files, now that there is one more: also after the first, for
        what others have left."""
        self._files[source] = files = self._files.get(source, 0) + 1
        return files % _FILES == 1

    def close(self) -> None:
        """Let go of the journals, which stay as they are."""
        idle, self._idle = self._idle, {}
        for of_source in idle.values():
            _let_go(of_source)


def _let_go(idle: list[tuple[Columns, Journal]]) -> None:
    # One by one: another thread may be about to take one.
    with contextlib.suppress(IndexError):
        while True:
            idle.pop()[1].close()
