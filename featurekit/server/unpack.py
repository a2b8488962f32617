"""Turns bodies of Arrow and Parquet into plain streams of Arrow, in a process of its own:
`python -m featurekit.server.unpack UNPACKED ROOM ROWS`.

How much such a body unpacks to stands in it only as its sender says: a page of Parquet names its
own length, and a few bytes may say that a text stands in every row. So the memory of this process
is bounded, and the kernel counts it. Bodies come over standard input, and answers go over standard
output, each with its kind and length before it (see `featurekit.server.tables`).
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from pathlib import Path
from typing import IO, Any

HEAD = struct.Struct(">cQ")
"""A kind of one byte, and the length of what follows."""
ARROW, PARQUET = b"a", b"p"
PLAIN, LARGE, ROWS, WRONG = b"t", b"l", b"r", b"w"
"""The kinds of answers: a stream, the bytes that it would have (0 where its memory did not do), the
number of its rows where they are too many, and why the body cannot be read."""


class TooLarge(Exception):
    """What a body holds is more than is taken: so many of what `kind` says."""

    def __init__(self, kind: bytes, number: int) -> None:
        super().__init__(kind, number)
        self.kind, self.number = kind, number


def unpacked(kind: bytes, body: bytes, *, most_rows: int) -> Any:
    """The table in a body of ARROW or PARQUET. TooLarge for more rows; what pyarrow raises for a
    body that it cannot read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if kind == ARROW:
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.ipc.open_stream(pa.BufferReader(body), options=options) as stream:
            batches, rows = [], 0
            for batch in stream:
                rows += batch.num_rows
                _check_rows(rows, most_rows)
                batches.append(batch)
            return pa.Table.from_batches(batches, stream.schema)
    with pq.ParquetFile(pa.BufferReader(body)) as file:
        told = file.metadata
        groups = (told.row_group(i).num_rows for i in range(told.num_row_groups))
        _check_rows(max(told.num_rows, sum(groups)), most_rows)
        return file.read(use_threads=False)


def _check_rows(rows: int, most: int) -> None:
    if rows > most:
        raise TooLarge(ROWS, rows)


def written_out(column: Any) -> int:
    """The bytes of a column where each row has its whole value: a text that stands once, for many
    rows, counts in each of them. An upper bound for forms that hardly anybody writes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.ChunkedArray):
        return sum(written_out(chunk) for chunk in column.chunks)
    type_, rows = column.type, len(column)
    if isinstance(type_, pa.BaseExtensionType):
        return written_out(column.storage)
    if pa.types.is_dictionary(type_):
        return _referred(column.dictionary, column.indices)
    if pa.types.is_run_end_encoded(type_):
        return rows * _longest(column.values)
    if _is_text(type_):
        return 4 * rows + (pc.sum(_lengths(column)).as_py() or 0)
    if pa.types.is_list_view(type_) or pa.types.is_large_list_view(type_):
        items = pc.sum(pc.list_value_length(column)).as_py() or 0
        return 8 * rows + items * _longest(column.values)
    if pa.types.is_nested(type_):
        return 8 * rows + sum(map(written_out, _parts(column)))
    return rows * _width(type_)


def _is_text(type_: Any) -> bool:
    import pyarrow.types as types

    texts = types.is_string, types.is_large_string, types.is_string_view
    raw = types.is_binary, types.is_large_binary, types.is_binary_view
    return any(is_one(type_) for is_one in (*texts, *raw))


def _lengths(texts: Any) -> Any:
    """The bytes of each text of a column; None for None."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string_view(texts.type) or pa.types.is_binary_view(texts.type)):
        return pc.binary_length(texts)
    # pyarrow has no kernel for views, of which each has 16 bytes that begin with the length.
    views = np.frombuffer(texts.buffers()[1], np.int32).reshape(-1, 4)
    lengths = pa.array(views[texts.offset : texts.offset + len(texts), 0].astype(np.int64))
    return pc.if_else(pc.is_valid(texts), lengths, None)


def _parts(column: Any) -> list[Any]:
    """The columns inside of a nested one: the parts of a struct or a union, the items of lists."""
    import pyarrow as pa

    if pa.types.is_struct(column.type):
        found: list[Any] = column.flatten()
        return found
    if pa.types.is_union(column.type):
        return [column.field(i) for i in range(column.type.num_fields)]
    if pa.types.is_map(column.type):
        return [column.keys, column.items]
    return [column.flatten()]


def _width(type_: Any) -> int:
    """The bytes of a value of a type that is not nested; 8 for a null, which Python keeps so."""
    import pyarrow as pa

    return 8 if pa.types.is_null(type_) else max(1, type_.bit_width // 8)


def _referred(values: Any, indices: Any) -> int:
    """The bytes of values, each as often as it is referred to."""
    import pyarrow.compute as pc

    if _is_text(values.type):
        lengths = pc.take(_lengths(values), indices)
        return 4 * len(indices) + (pc.sum(lengths).as_py() or 0)
    return len(indices) * _longest(values)


def _longest(values: Any) -> int:
    """At least the bytes of the longest of some values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_text(values.type):
        return 4 + (pc.max(_lengths(values)).as_py() or 0)
    if pa.types.is_nested(values.type) or pa.types.is_dictionary(values.type):
        return 8 + written_out(values)
    return _width(values.type)


def _answer(kind: bytes, body: bytes, unpacked_most: int, most_rows: int) -> tuple[bytes, Any]:
    """The kind of an answer, and what it says: a table for PLAIN, else bytes."""
    import pyarrow as pa

    try:
        table = unpacked(kind, body, most_rows=most_rows)
        table.validate()
        size = sum(map(written_out, table.columns))
        if size > unpacked_most:
            raise TooLarge(LARGE, size)
        # To the last value, since DuckDB trusts what stands there; afterwards, since a text is read
        # as often as it stands in a row.
        table.validate(full=True)
        return PLAIN, table
    except TooLarge as error:
        return error.kind, b"%d" % error.number
    except MemoryError:
        return LARGE, b"0"
    except (pa.ArrowException, OSError, ValueError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        return WRONG, text[:200].encode(errors="replace")


def _warm_up() -> None:
    """Load what reads, and let it start its threads: bounded is what bodies take."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    table = pa.table({"a": pa.array(["", None], pa.string_view()), "b": [[1], None]})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write_table(table)
    _answer(ARROW, sink.getvalue().to_pybytes(), 1000, 2)
    sink = pa.BufferOutputStream()
    pq.write_table(table.select(["b"]), sink)
    _answer(PARQUET, sink.getvalue().to_pybytes(), 1000, 2)


def _bound(room: int) -> None:
    """Take no more memory than what is taken now and so many bytes. Linux counts all that this
    process may write to; other systems may count less."""
    status = Path("/proc/self/status")
    if not status.exists():
        return
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    most = 1024 * int(lines["VmData"].split()[0]) + room
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def main() -> None:
    """Answer until standard input ends."""
    unpacked_most, room, most_rows = map(int, sys.argv[1:])
    _warm_up()
    _bound(room)
    # Nobody but the process above reads what is written there.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while head := sys.stdin.buffer.read(HEAD.size):
        kind, size = HEAD.unpack(head)
        said, answer = _answer(kind, sys.stdin.buffer.read(size), unpacked_most, most_rows)
        _reply(out, said, answer, most_sent(unpacked_most))


def most_sent(unpacked_most: int) -> int:
    """How many bytes an answer may have: those of its values, of what says which are None, and of
    what lies between. A body may have values, too, that no row refers to."""
    return unpacked_most + unpacked_most // 4 + 2**20


def _reply(out: IO[bytes], said: bytes, answer: Any, most: int) -> None:
    import pyarrow as pa

    if said == PLAIN:
        counted = pa.MockOutputStream()
        _write(answer, counted)
        size = counted.size()
        if size > most:
            said, answer = LARGE, b"%d" % size
    if said == PLAIN:
        out.write(HEAD.pack(said, size))
        _write(answer, out)
    else:
        out.write(HEAD.pack(said, len(answer)) + answer)
    out.flush()


def _write(table: Any, sink: Any) -> None:
    import pyarrow as pa

    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


if __name__ == "__main__":
    main()
