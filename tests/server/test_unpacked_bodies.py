"""Bodies of pushes that are small and unpack to much: refused before their memory is spent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import unpacking_bombs as made

from featurekit.errors import RequestRefused
from featurekit.server import unpack
from featurekit.server.bodies import source_and_rows
from featurekit.server.callers import ANYONE
from featurekit.server.orders import ARROW, JSON, OWN, PARQUET, Order
from featurekit.server.tables import Tables

MB = 2**20


@pytest.fixture(scope="module")
def tables() -> Iterator[Tables]:
    found = Tables(most_bytes=MB, most_unpacked=2 * MB, most_rows=1_000, limit_s=20.0)
    yield found
    found.close()


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([*made.BOMBS], id="all", marks=pytest.mark.slow),
        pytest.param(["a dictionary of Parquet", "a page of zeros", "zstd", "lists of nothing",
                      "levels of groups", "a dictionary of idle values"], id="some"),
    ],
)  # fmt: skip
def test_no_bomb_takes_more_memory_than_it_may(tmp_path: Path, names: list[str]):
    """Of the process that pushes, and of the one that reads bodies."""
    program = [sys.executable, made.__file__]
    subprocess.run([*program, "write", tmp_path, *names], check=True)
    files = [*tmp_path.iterdir()]
    assert sorted(file.stem for file in files) == sorted(names)
    assert max(file.stat().st_size for file in files) <= made.MOST_BYTES
    read = subprocess.run([*program, "read", tmp_path], capture_output=True, check=True)
    told = json.loads(read.stdout)
    wanted = {file.stem: 413 for file in files} | {"levels of groups": 400}
    assert {name: status for name, (status, _, _) in told["found"].items()} == wanted
    assert all("bytes" in text or "nested" in text for _, text, _ in told["found"].values())
    assert max(seconds for _, _, seconds in told["found"].values()) < 20
    mine, reading = told["peaks"]
    # What the libraries take without a body is some 75 MB.
    assert mine < 150 * MB
    assert reading < 100 * MB + 3 * made.MOST_UNPACKED + made.MOST_BYTES + 32 * MB


def test_what_is_below_the_limit_is_read_as_it_was_written(tables: Tables):
    rows = 500
    texts = pa.array(["é", None, "", "x" * 900] * (rows // 4))
    table = pa.table({
        "text": texts, "word": texts.dictionary_encode(), "view": texts.cast(pa.string_view()),
        "raw": texts.cast(pa.binary()).cast(pa.binary_view()),
        "list": pa.array([[1.5], None, [], [float("nan")] * 9] * (rows // 4)),
        "struct": pa.array([{"a": 1}, None] * (rows // 2)),
        "map": pa.array([[("a", 1)], None] * (rows // 2), pa.map_(pa.string(), pa.int64())),
        "bool": pa.array([True, None] * (rows // 2)), "null": pa.nulls(rows),
    })  # fmt: skip
    for compression in (None, "zstd", "lz4"):
        found = tables.read(ARROW, made.arrow(table, compression))
        assert found.schema == table.schema
        assert made.arrow(found) == made.arrow(table)
    kept = table.drop_columns(["view", "raw"])
    found = tables.read(PARQUET, made.parquet(kept))
    assert str(found.to_pylist()) == str(kept.to_pylist())
    assert found.schema.names == kept.schema.names


@pytest.mark.parametrize(
    ("column", "size"),
    [
        (pa.array([1, None, 3]), 24),
        (pa.array([1, 2], pa.int8()), 2),
        (pa.nulls(5), 40),
        (pa.array(["ab", None, "c"]), 12 + 3),
        (pa.array(["ab", None, "c"]).cast(pa.string_view()), 12 + 3),
        (pa.array([b"abc"] * 4, pa.binary_view()).slice(1, 2), 8 + 6),
        (pa.array(["ab", "ab", None]).dictionary_encode(), 12 + 4),
        (pa.array([[1, 2], None, [3]]), 24 + 24),
        (pa.array([[1, 2], [3]], pa.list_view(pa.int64())), 16 + 24),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)), 16 + 16),
        (pa.array([{"a": 1, "b": "x"}]), 8 + 8 + 4 + 1),
        (pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), pa.array(["ab"])), 3 * 6),
        (pa.chunked_array([[1], [2, 3]]), 24),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_a_value_counts_in_each_row_that_has_it(column: Any, size: int):
    assert unpack.written_out(column) == size


def test_the_limit_is_that_of_the_unpacked_bytes(tables: Tables):
    def texts(number: int) -> bytes:
        return made.arrow(pa.table({"a": ["x" * 4092] * number}), "zstd")

    assert len(tables.read(ARROW, texts(512))) == 512  # 4096 bytes a row, with the offset
    with pytest.raises(
        RequestRefused, match=f"unpacks to {513 * 4096} bytes; push at most"
    ) as told:
        tables.read(ARROW, texts(513))
    assert told.value.status == 413


def test_too_many_rows_are_told_before_they_are_read(tables: Tables):
    many = pa.table({"a": [1] * 1001})
    for kind, body in ((ARROW, made.arrow(many)), (PARQUET, made.parquet(many))):
        with pytest.raises(RequestRefused, match="1001 rows; push at most 1000 at once") as told:
            tables.read(kind, body)
        assert told.value.status == 413


def test_a_process_that_ends_while_it_reads_fails_its_body_alone(tables: Tables):
    good = made.arrow(pa.table({"a": [1]}))
    assert tables.read(ARROW, good).num_rows == 1
    (idle,) = tables._idle
    idle.kill()
    idle.wait()
    assert tables.read(ARROW, good).num_rows == 1
    (idle,) = tables._idle
    idle.send_signal(19)  # it answers nothing any more
    late = Tables(most_bytes=MB, most_unpacked=MB, most_rows=9, limit_s=0.3)
    late._idle, tables._idle = tables._idle, []
    with pytest.raises(RequestRefused, match="more than is read in time") as told:
        late.read(ARROW, good)
    assert told.value.status == 413
    assert idle.poll() is not None
    assert tables.read(ARROW, good).num_rows == 1


@pytest.mark.parametrize("body", [b"[" * MB, b'{"rows":' * 100_000, b'{"rows": [' + b"[" * MB])
def test_json_that_is_nested_without_end_is_refused(tables: Tables, body: bytes):
    order = Order(OWN, JSON, "clicks", None, "id", 1.0, ANYONE)
    with pytest.raises(RequestRefused, match="nested too deeply"):
        source_and_rows(order, body, lambda _: pytest.fail("it was read"), tables)
