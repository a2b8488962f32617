"""Splits the entities of a point-in-time join into buckets, so that each fits into memory.

An entity's bucket is a hash modulo the number of buckets. The hash is the second half of the MD5 of
the bytes of its key (`core.keys.entity_key`), read as a little-endian number: the same on every
machine and in every engine. All events of an entity are in its bucket, so the results of the
buckets together are the whole result.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featurekit.core.keys import entity_key, entity_key_sql
from featurekit.core.types import Type
from featurekit.define.plan import View
from featurekit.errors import DataError, WriteError
from featurekit.log.sums import check_again
from featurekit.sources.csv import check_copies_again

MOST_BUCKETS = 4_096
# The memory that a join of windows holds at once, in multiples of its events: their table, the rows
# that it sorts or hashes, and the sums (benchmarks/bounded_memory.py).
_COPIES = 4
# A join of latest rows holds the keys and instants of its events, and the rows of its labels. With
# memory to spare the process takes 0.75 to 2.1 times their bytes (10 M x 100 M, 1 M x 20 M). With a
# limit of 0.6 times their bytes it spills and takes up to 2.3 times as long, like a join that reads
# its files twice.
_COPIES_OF_LATEST = 1
_WIDTHS = {"str": 32, "bytes": 32, "list": 64, "bool": 1}
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def bucket_of(values: Sequence[tuple[Type, Any]], buckets: int) -> int:
    """The bucket of an entity, by the types and values of its join keys."""
    digest = hashlib.md5(entity_key(values), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little") % buckets


def bucket_sql(view: View, buckets: int) -> str:
    """`bucket_of` in SQL over the view's join keys as columns; 0 if one is null, since that is no
    entity."""
    key = entity_key_sql({param.name: param.type for param in view.join_keys})
    return f"coalesce(md5_number_lower({key}) % {buckets}, 0)::BIGINT"


def count_buckets(
    con: Any, view: View, relation: str, labels: str, *, rows: int | None = None
) -> int:
    """Count the buckets with which the join of `labels` and the events of `relation` fits into
    DuckDB's memory limit, as far as the number and the types of the rows tell. `rows` is the number
    of events, if it is known."""
    limit = read_memory_limit(con)
    bare = 32 + sum(_WIDTHS.get(key.type.name, 8) for key in view.join_keys)
    width = bare + sum(_width(slot.type) for slot in view.slots)

    def needed(size: int) -> int:
        return min(MOST_BUCKETS, -(-size // limit)) or 1

    everything = f"SELECT count(*) FROM {relation}"
    if rows is None:
        rows = con.execute(everything).fetchall()[0][0]
    if view.kind == "latest" and view.source.op is None:
        # It sorts only the keys and instants of the events; only the labels have whole rows.
        asked = con.execute(f"SELECT count(*) FROM {labels}").fetchall()[0][0]
        return needed((rows * bare + asked * width) * _COPIES_OF_LATEST)
    most = needed(rows * width * _COPIES)
    if most == 1 or view.kind == "latest":
        return most
    low, high = con.execute(f"SELECT min(__t), max(__t) FROM {labels}").fetchall()[0]
    if low is None:
        return 1
    ahead = view.kind == "label"
    first, last = (low, high + view.retain_us) if ahead else (low - view.retain_us, high)
    within = f"{everything} WHERE __ts > {first} AND __ts <= {last}"
    return needed(con.execute(within).fetchall()[0][0] * width * _COPIES)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def explaining_disk(state_dir: Path | None) -> Iterator[None]:
    """Turn the error of what fits neither into memory nor on the disk into a WriteError, and one of
    a file in the state folder that was damaged since it was checked into a DamagedLog or
    SourceError."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException:
        raise  # no damage of a file makes this of a query
    except duckdb.Error as error:
        if not isinstance(error, duckdb.IOException) or not any(
            os.strerror(number) in str(error) for number in _FULL
        ):
            if state_dir is not None:  # whatever the error: a damaged footer has other columns
                check_again(state_dir)
                check_copies_again(state_dir)
            raise
        raise WriteError(
            f"what does not fit into memory cannot be written to the state folder: {error}. "
            "Nothing of it was kept; make room there, or raise memory_limit under featurekit: in "
            "feature_store.yaml"
        ) from error


@contextmanager
def explaining_memory(state_dir: Path | None) -> Iterator[None]:
    """As `explaining_disk`, and turn the error of work that does not fit into memory into a
    DataError."""
    import duckdb

    try:
        with explaining_disk(state_dir):
            yield
    except duckdb.OutOfMemoryException as error:
        raise DataError(
            "the training set does not fit into the memory that DuckDB may use; raise memory_limit "
            "under featurekit: in feature_store.yaml, or split it into more parts by buckets=: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _width(type_: Type) -> int:
    """About the bytes of a value, with what sums make of it."""
    return _WIDTHS.get(type_.name, 24)


def read_memory_limit(con: Any) -> int:
    """DuckDB's memory limit in bytes."""
    shown = con.execute("SELECT current_setting('memory_limit')").fetchall()[0][0]
    number, unit = shown.split()
    return int(float(number) * _UNITS[unit])
