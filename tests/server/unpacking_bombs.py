"""Bodies that are small and unpack to much. `write FOLDER` writes them; `read FOLDER` reads them,
and says what became of each, and how much memory this process and those that read took at most.
"""

from __future__ import annotations

import json
import re
import resource
import struct
import sys
import time
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


def bombs() -> dict[str, tuple[str, bytes]]:
    """Each by its name: its kind and its bytes."""
    zeros, texts = np.zeros(12_000_000, np.int64), ["x" * 1_000_000]
    many = pa.DictionaryArray.from_arrays(pa.array(np.zeros(MOST_ROWS, np.int8)), texts)
    blob = pa.table({"a": pa.array([b"\0" * 120_000_000], pa.large_binary())})
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([MOST_ROWS], pa.int32()), pa.array(texts))
    nothing = _nulls(2**31 - 1)
    nulls = {f"c{i}": pa.nulls(MOST_ROWS) for i in range(2_000)}
    one = struct.pack("<i4sii", len(texts[0]), b"xxxx", 0, 0)  # its length, its beginning, where
    parts = [None, pa.py_buffer(one * MOST_ROWS), pa.py_buffer(texts[0].encode())]
    views = pa.Array.from_buffers(pa.string_view(), MOST_ROWS, parts)
    return {
        "equal values in runs": (PARQUET, parquet(_listed(pa.array(zeros)))),
        "no values in runs": (PARQUET, parquet(_listed(_nulls(100_000_000)))),
        "a dictionary of Parquet": (PARQUET, parquet(pa.table({"a": many}), store_schema=False)),
        "a dictionary of both": (PARQUET, parquet(pa.table({"a": many}))),
        "a page of zeros": (PARQUET, parquet(blob, compression="zstd", use_dictionary=False)),
        "prefixes": (PARQUET, parquet(
            pa.table({"a": pa.array(texts * 120)}), use_dictionary=False,
            compression="zstd", column_encoding="DELTA_BYTE_ARRAY")),
        "levels of groups": (PARQUET, nested_parquet(500_000)),
        "zstd": (ARROW, arrow(blob, "zstd")),
        "lz4": (ARROW, arrow(blob, "lz4")),
        "a dictionary of Arrow": (ARROW, arrow(pa.table({"a": many}))),
        "a view of one text": (ARROW, arrow(pa.table({"a": views}))),
        "one run": (ARROW, arrow(pa.table({"a": runs}))),
        "lists of nothing": (ARROW, arrow(_listed(nothing))),
        "columns of nothing": (ARROW, arrow(pa.table(nulls))),
    }  # fmt: skip


def write(folder: Path) -> None:
    for name, (kind, body) in bombs().items():
        (folder / f"{name}.{kind}").write_bytes(body)


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
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
