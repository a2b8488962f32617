"""What a Float32 is in a query of DuckDB and in a proto: the same double, which is short."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

import duckdb
from feast.value_type import ValueType

from featurekit.plugins.feast.kinds import KINDS


def test_a_float32_is_the_same_double_in_a_query_and_in_a_proto() -> None:
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    edges = np.arange(256, dtype=np.uint32) << 23  # powers of two, where neighbours differ in width
    every = np.concatenate([bits, edges, edges + 1, edges[1:] - 1]).view(np.float32)
    every = every[np.isfinite(every)]
    kind = KINDS[ValueType.FLOAT]
    with duckdb.connect() as con:
        con.register("given", pa.table({"x": every.astype(np.float64)}))
        query = f"SELECT {kind.kept_sql('x', 'x')} AS y FROM given"
        of_query = con.execute(query).fetchnumpy()["y"]
    of_proto = [kind.of_proto(value) for value in every]
    assert list(map(pack, of_query)) == list(map(pack, of_proto))
    assert np.array_equal(of_query.astype(np.float32).view(np.uint32), every.view(np.uint32))


def pack(value: float) -> bytes:
    """The bits of a double."""
    return struct.pack("<d", value)
