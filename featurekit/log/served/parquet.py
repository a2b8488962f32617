"""Keeps the serving log in typed Parquet files, which DuckDB and pandas can read as well.

A file holds rows of one version: `served_at`, `as_of`, `request`, and structs of the join keys, the
request fields, the values, the statuses, the arrivals, and what was predicted, if a model was
asked. It is written under another name and then
renamed, so a reader of the folder sees whole files only.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurekit.core.files import write_whole
from featurekit.core.openness import make_folder
from featurekit.errors import DataError
from featurekit.log.served.block import ServedBlock, ServedHead

HEAD, ABOUT = b"featurekit.head", b"featurekit.about"


@dataclass(slots=True)
class _Open:
    """The rows that the next file of a version will hold."""

    head: ServedHead
    since: float
    first: int
    blocks: list[bytes] = field(default_factory=list)
    about: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0


class ParquetSink:
    """Writes files to `folder`, each of up to about `rows` rows or `seconds` of time.

    A crash loses the rows that are in no file yet: at most one such file of each version.
    """

    def __init__(self, folder: Path, *, rows: int, seconds: float) -> None:
        self.folder, self.rows, self.seconds = folder, rows, seconds
        self._open: dict[str, _Open] = {}

    def take(self, block: ServedBlock, data: bytes) -> None:
        """Keep a block for the next file; a file that is full is written first."""
        name = block.head.to_json()
        if self._full(self._open.get(name)):
            self._put(name)
        open_ = self._open.setdefault(
            name, _Open(block.head, time.monotonic(), min(block.served_at, default=0))
        )
        open_.blocks.append(data)
        open_.about.append({**block.about(), "rows": block.rows})
        open_.rows += block.rows

    def _full(self, open_: _Open | None) -> bool:
        return open_ is not None and (
            open_.rows >= self.rows or time.monotonic() - open_.since >= self.seconds
        )

    def flush(self) -> None:
        """Write the files that are full or old enough."""
        for name in [n for n, open_ in self._open.items() if self._full(open_)]:
            self._put(name)

    def close(self) -> None:
        """Write all files."""
        for name in list(self._open):
            self._put(name)

    def _put(self, name: str) -> None:
        open_ = self._open[name]
        head = open_.head
        path = self.folder / (
            f"{open_.first:020d}-{head.service}-{head.fingerprint[:12]}-{uuid.uuid4().hex}.parquet"
        )
        made = written(head, open_.blocks, open_.about)
        make_folder(self.folder)
        write_whole(path, made, durable=True)
        del self._open[name]


def written(
    head: ServedHead, blocks: Sequence[bytes], about: Sequence[Mapping[str, Any]]
) -> memoryview:
    """A file of these blocks, which `encode` made, with what is known `about` each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from featurekit.log.served.arrow import batch

    batches = []
    for data in blocks:
        batches.append(batch(head, data))
        time.sleep(0)  # lookups go on
    told = json.dumps(about, separators=(",", ":")).encode()
    table = pa.Table.from_batches(batches)
    table = table.replace_schema_metadata({HEAD: head.to_json().encode(), ABOUT: told})
    made = pa.BufferOutputStream()
    pq.write_table(table, made)
    return memoryview(made.getvalue())


def read_parquet(
    folder: Path, *, request: str | None = None, since_us: int | None = None
) -> Iterator[ServedBlock]:
    """The blocks of one file, or of every file in a folder in the order of their names; with a
    `request`, an id or PROCESS:NUMBER, of the files alone that may have a row of it, and with
    `since_us` of those that may have a row which was served at that instant or later.

    DataError for a file that is not a serving log or cannot be read.
    """
    files = [folder] if folder.is_file() else sorted(folder.glob("*.parquet"))
    for path in files:
        yield from _read(path, request, since_us)


def _may_hold(file: Any, request: str) -> bool:
    """Whether a file may have a row of a request, by its ids and processes alone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    metadata = file.schema_arrow.metadata or {}
    told = json.loads(metadata.get(ABOUT, b"[]"))
    if request.rpartition(":")[0] in [about["process"] for about in told]:
        return True
    if "predicted" not in file.schema_arrow.names:
        return False
    column = file.read(columns=["predicted.request_id"])["predicted"]
    ids = pc.struct_field(column, "request_id")
    return bool(pc.is_in(pa.scalar(request), value_set=ids.combine_chunks()).as_py())


def _is_before(metadata: Any, since_us: int) -> bool:
    """Whether all rows of a file were served before an instant, by its statistics alone."""
    import pyarrow as pa

    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    place = names.index("served_at") if "served_at" in names else None
    if place is None or not metadata.num_rows:
        return False
    for group in range(metadata.num_row_groups):
        known = metadata.row_group(group).column(place).statistics
        if known is None or not known.has_min_max:
            return False
        last = pa.scalar(known.max, pa.timestamp("us", "UTC")).cast(pa.int64()).as_py()
        if last >= since_us:
            return False
    return True


def _read(path: Path, request: str | None, since_us: int | None) -> Iterator[ServedBlock]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        if request is not None and not _may_hold(file, request):
            return
        if since_us is not None and _is_before(file.metadata, since_us):
            return
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}; move it out of the log") from None
    metadata = table.schema.metadata or {}
    if HEAD not in metadata or ABOUT not in metadata:
        raise DataError(f"{path} is no file of a serving log; name the folder that serving writes")
    head = ServedHead.from_json(metadata[HEAD])
    at = 0
    for about in json.loads(metadata[ABOUT]):
        yield _block(head, table.slice(at, about["rows"]), about)
        at += about["rows"]


def _block(head: ServedHead, table: Any, about: Mapping[str, Any]) -> ServedBlock:
    import pyarrow as pa

    def columns(name: str, names: Sequence[str]) -> list[list[Any]]:
        if not names:
            return []
        whole = table[name].combine_chunks()
        return [_list(whole.field(n)) for n in names]

    def instants(name: str) -> list[int]:
        found: list[int] = table[name].cast(pa.int64()).to_pylist()
        return found

    return ServedBlock(
        head,
        instants("served_at"),
        instants("as_of"),
        table["request"].to_pylist(),
        columns("newest_arrival", head.views),
        columns("key", list(head.keys)),
        columns("request_field", list(head.request)),
        columns("value", list(head.outputs)),
        columns("status", list(head.outputs)),
        [None if u is None else (u[0], u[1]) for u in about["until"]],
        about["process"],
        about["dropped"],
        columns("predicted", list(head.predicted)),
    )


def _list(column: Any) -> list[Any]:
    found: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    return found
