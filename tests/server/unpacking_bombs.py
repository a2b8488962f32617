"""Bodies that are small and unpack to much. `write FOLDER NAME …` writes some of them, or all;
`read FOLDER` reads them, and says what became of each, and how much memory this process and those
that read took at most.
"""

from __future__ import annotations

import json
import re
import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurekit.errors import RequestRefused
from featurekit.server.orders import ARROW, PARQUET
from featurekit.server.tables import Tables

MOST_BYTES, MOST_UNPACKED, MOST_ROWS = 4 * 2**20, 64 * 2**20, 100_000


def arrow(table: pa.Table | pa.RecordBatch, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write(table)
    return bytes(sink.getvalue().to_pybytes())


def parquet(table: pa.Table, **how: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **how)
    return bytes(sink.getvalue().to_pybytes())


def _listed(values: pa.Array) -> pa.Table:
    return pa.table({"a": pa.LargeListArray.from_arrays(pa.array([0, len(values)]), values)})


def _nulls(number: int) -> pa.Array:
    return pa.Array.from_buffers(pa.null(), number, [None])


def _varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made, number = made + bytes([number & 127 | 128]), number >> 7
    return made + bytes([number])


def nested_parquet(levels: int) -> bytes:
    """A file without rows, whose one column lies so many groups deep."""
    group = b"\x48\x01a\x15\x02\x00"  # a name, and one child
    leaf = b"\x15\x02\x25\x00\x18\x01a\x00"  # a type, whether it must be there, a name
    size = levels + 1
    footer = b"\x15\x02\x19\xfc" + _varint(size) + group * levels + leaf + b"\x16\x00\x19\x0c\x00"
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def _texts() -> list[str]:
    return ["x" * 1_000_000]


def _many() -> pa.Table:
    indices = pa.array(np.zeros(MOST_ROWS, np.int8))
    return pa.table({"a": pa.DictionaryArray.from_arrays(indices, _texts())})


def _idle() -> pa.Table:
    values = ["x", "\0" * 100_000_000]
    return pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), values)})


def _blob() -> pa.Table:
    return pa.table({"a": pa.array([b"\0" * 120_000_000], pa.large_binary())})


def _views() -> pa.Table:
    (text,) = _texts()
    one = struct.pack("<i4sii", len(text), b"xxxx", 0, 0)  # its length, its beginning, where
    parts = [None, pa.py_buffer(one * MOST_ROWS), pa.py_buffer(text.encode())]
    return pa.table({"a": pa.Array.from_buffers(pa.string_view(), MOST_ROWS, parts)})


def _run() -> pa.Table:
    ends = pa.array([MOST_ROWS], pa.int32())
    return pa.table({"a": pa.RunEndEncodedArray.from_arrays(ends, pa.array(_texts()))})


def _prefixes() -> bytes:
    how = {"compression": "zstd", "column_encoding": "DELTA_BYTE_ARRAY"}
    return parquet(pa.table({"a": _texts() * 120}), use_dictionary=False, **how)


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "equal values in runs": (
        PARQUET, lambda: parquet(_listed(pa.array(np.zeros(12_000_000, np.int64))))),
    "no values in runs": (PARQUET, lambda: parquet(_listed(_nulls(100_000_000)))),
    "a dictionary of Parquet": (PARQUET, lambda: parquet(_many(), store_schema=False)),
    "a dictionary of both": (PARQUET, lambda: parquet(_many())),
    "a page of zeros": (
        PARQUET, lambda: parquet(_blob(), compression="zstd", use_dictionary=False)),
    "prefixes": (PARQUET, _prefixes),
    "levels of groups": (PARQUET, lambda: nested_parquet(500_000)),
    "zstd": (ARROW, lambda: arrow(_blob(), "zstd")),
    "lz4": (ARROW, lambda: arrow(_blob(), "lz4")),
    "a dictionary of Arrow": (ARROW, lambda: arrow(_many())),
    "a dictionary of idle values": (ARROW, lambda: arrow(_idle(), "zstd")),
    "a view of one text": (ARROW, lambda: arrow(_views())),
    "one run": (ARROW, lambda: arrow(_run())),
    "lists of nothing": (ARROW, lambda: arrow(_listed(_nulls(2**31 - 1)))),
    "columns of nothing": (
        ARROW, lambda: arrow(pa.table({f"c{i}": pa.nulls(MOST_ROWS) for i in range(2_000)}))),
}  # fmt: skip
"""Each by its name: its kind, and what makes its bytes."""


def write(folder: Path, *names: str) -> None:
    for name in names or BOMBS:
        kind, make = BOMBS[name]
        (folder / f"{name}.{kind}").write_bytes(make())


def read(folder: Path) -> None:
    tables = Tables(
        most_bytes=MOST_BYTES, most_unpacked=MOST_UNPACKED, most_rows=MOST_ROWS, limit_s=30.0
    )
    found = {}
    for path in sorted(folder.iterdir()):
        body, kind, began = path.read_bytes(), path.suffix[1:], time.monotonic()
        try:
            tables.read(kind, body)
            found[path.stem] = [200, "", 0.0]
        except RequestRefused as error:
            found[path.stem] = [error.status, str(error), round(time.monotonic() - began, 2)]
    tables.close()
    # Of this program alone: the other figure begins with what its parent took.
    (mine,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    peaks = [1024 * int(mine), 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]
    print(json.dumps({"found": found, "peaks": peaks}))


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
