"""Turns the rows of a copy into a count and a hash for each bucket of keys, so that two copies can
be told apart by the keys whose rows differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.core.sql import parquet_sql, quote
from featurekit.core.tables import fetch

BUCKETS = 64
_NAMED = 5


def key_buckets(con: Any, path: str, keys: Sequence[str]) -> dict[str, Any]:
    """The rows and the hashes of the buckets of a Parquet file, whatever the order of its rows; the
    bucket of a row is that of its keys. They hold for one version of DuckDB, which has the hash."""
    import duckdb

    scan, named = parquet_sql([path]), ", ".join(map(quote, keys))
    columns = [name for name, *_ in fetch(con, f"DESCRIBE SELECT * FROM {scan}")]
    row = f"hash({', '.join(map(quote, columns))})"
    found = fetch(
        con,
        f"SELECT hash({named}) % {BUCKETS}, count(*), sum({row}::HUGEINT) FROM {scan} GROUP BY 1",
    )
    rows, hashes = [0] * BUCKETS, [0] * BUCKETS
    for bucket, count, total in found:
        rows[bucket], hashes[bucket] = count, int(total) % 2**64
    by = f"duckdb {duckdb.__version__}"
    return {"keys": [*keys], "rows": rows, "hashes": [f"{h:016x}" for h in hashes], "by": by}


def differing(then: Mapping[str, Any], path: str) -> str:
    """Which buckets of keys have other rows now than a manifest tells, with their numbers; "" where
    that cannot be told."""
    import duckdb

    with duckdb.connect() as con:
        try:
            now = key_buckets(con, path, then["keys"])
        except duckdb.Error:  # it has no such keys any more
            return ""
        if now["by"] != then["by"] or len(now["rows"]) != len(then["rows"]):
            return ""
        pairs = zip(now["hashes"], then["hashes"], strict=True)
        other = [bucket for bucket, (here, there) in enumerate(pairs) if here != there]
        shown = [
            f"bucket {b} ({now['rows'][b]:,} rows, and {then['rows'][b]:,} then"
            f"{_example(con, path, then['keys'], b)})"
            for b in other[:_NAMED]
        ]
    if not other:
        return ""
    more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
    keys = ", ".join(then["keys"])
    return f"of {BUCKETS} buckets of {keys}, these differ: {', '.join(shown)}{more}"


def agree(then: Mapping[str, Any], path: str) -> bool:
    """Whether the rows are those that a manifest tells, in whatever order: every bucket has as many
    rows, and the same hash of them."""
    import duckdb

    with duckdb.connect() as con:
        try:
            now = key_buckets(con, path, then["keys"])
        except duckdb.Error:  # it has no such keys any more
            return False
    return all(now[name] == then[name] for name in ("by", "rows", "hashes"))


def _example(con: Any, path: str, keys: Sequence[str], bucket: int) -> str:
    """The first keys of a bucket."""
    named = ", ".join(map(quote, keys))
    rows = fetch(
        con,
        f"SELECT DISTINCT {named} FROM {parquet_sql([path])} WHERE hash({named}) % {BUCKETS} = "
        f"{bucket} ORDER BY ALL LIMIT 3",
    )
    texts = "; ".join(", ".join(map(repr, row)) for row in rows)
    return f": {texts} …" if rows else ""
