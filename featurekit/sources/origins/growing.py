"""Copies a table that has only grown since its last copy from that copy and its new rows.

Each row of a table knows the transaction that wrote it. All transactions below a number are over
when a copy is made, so none of them adds a row later; the rows of these are *settled*, and come
first in the copy. Where as many settled rows are still there, they are the same ones: none was
changed or deleted, and all others are new. So the verdict is one on all rows (S4), and the database
hands over the new ones alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from featurekit.core.types import Type

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 1 << 16


@dataclass(frozen=True, slots=True)
class Growth:
    """What tells settled rows of a table: JSON of the `table` as it is defined and stored, and the
    transaction `below` which all are over."""

    table: Any
    below: int


@dataclass(frozen=True, slots=True)
class Earlier:
    """A copy that was made before, the transaction `below` which its first `rows` are settled."""

    copy: Path
    below: int
    rows: int


@runtime_checkable
class Growing(Protocol):
    """A database at one snapshot, whose rows know their transactions."""

    def growth(self) -> Growth | None:
        """None where nothing tells the settled rows."""

    def settled(self, below: int) -> int:
        """How many rows there are of transactions below a number."""

    def since(
        self, wanted: Mapping[str, Type], first: int | None, below: int
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch], Iterator[pa.RecordBatch]]:
        """As `Opened.batches`, of the rows of transactions from `first` on, or of all: those of
        transactions below a number, and then the others."""


class Reading:
    """The rows of a growing table, in the order of a copy; once they are read, `noted` is what is
    to be kept of them."""

    def __init__(
        self,
        opened: Growing,
        growth: Growth,
        wanted: Mapping[str, Type],
        earlier: Iterable[Earlier],
    ) -> None:
        last = next((e for e in earlier if opened.settled(e.below) == e.rows), None)
        first = None if last is None else last.below
        self.schema, self._settled, self._others = opened.since(wanted, first, growth.below)
        if last is not None and not _same(last.copy, self.schema):
            last = None
            self.schema, self._settled, self._others = opened.since(wanted, None, growth.below)
        self._last, self._below, self._rows = last, growth.below, 0

    @property
    def noted(self) -> dict[str, int]:
        """What a later copy has to know of this one."""
        return {"below": self._below, "rows": self._rows}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows: the settled ones of the earlier copy, those that are settled since, and the
        others."""
        for batches in (self._kept(), self._settled):
            for batch in batches:
                self._rows += batch.num_rows
                yield batch
        yield from self._others

    def _kept(self) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        if self._last is None:
            return
        left = self._last.rows
        with pq.ParquetFile(self._last.copy) as file:
            for batch in file.iter_batches(_BATCH) if left else ():
                yield batch.slice(0, left).cast(self.schema)
                left -= batch.num_rows
                if left <= 0:
                    return


def _same(copy: Path, schema: pa.Schema) -> bool:
    """Whether a copy has these columns."""
    import pyarrow.parquet as pq

    had = pq.read_schema(copy)
    return bool(had.names == schema.names and had.types == schema.types)
