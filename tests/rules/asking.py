"""One entity of a real store: its events are pushed, and both paths are asked about it.

Instants are microseconds after `NOON`, so that a test can say `at=-10 * S` and `as_of=0`.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from oracle import bits

from featurekit import FeatureStore

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
S, H, D = 1_000_000, 3_600_000_000, 86_400_000_000
LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
INSTANT = pa.timestamp("us", tz="UTC")
Answer = tuple[Any, str]
"""A value's bits and its status."""

_numbers = itertools.count(1)


def present(value: Any) -> Answer:
    """The answer of a value that is there."""
    return bits(value), "PRESENT"


def empty(value: Any) -> Answer:
    """The answer of an unknown entity: what its empty windows give, or None."""
    return bits(value), "NOT_FOUND"


NULL = bits(None), "NULL_VALUE"
ERRED = bits(None), "ERROR"
EXPIRED = bits(None), "OUTSIDE_MAX_AGE"


def instant(us: int) -> dt.datetime:
    """The instant so many microseconds after NOON."""
    return NOON + dt.timedelta(microseconds=us)


class One:
    """An entity that no other test has, in a store that tests share."""

    def __init__(self, store: FeatureStore) -> None:
        self.store, self.key = store, next(_numbers)

    def event(self, at: int, *, arrived: int | None = None, **columns: Any) -> dict[str, Any]:
        """A row of this entity that happened `at` and arrived then, or when `arrived` says."""
        known = at if arrived is None else arrived
        return {"key": self.key, "at": instant(at), "arrived": instant(known), **columns}

    def push(self, source: str, at: int, *, arrived: int | None = None, **columns: Any) -> Any:
        """Push one row; what the store did with it."""
        return self.store.push(source, [self.event(at, arrived=arrived, **columns)])

    def ask(self, service: str, as_of: int = 0, **row: Any) -> dict[str, Answer]:
        """Each output's answer, once both paths have given it in the same bits."""
        asked = {"key": self.key, **row}
        return ask(self.store, service, asked, instant(as_of))


def ask(
    store: FeatureStore, service: str, row: Mapping[str, Any], as_of: dt.datetime
) -> dict[str, Answer]:
    """Each output's answer, once both paths have given it in the same bits."""
    return ask_all(store, service, [row], as_of)[0]


def ask_all(
    store: FeatureStore, service: str, rows: Sequence[Mapping[str, Any]], as_of: dt.datetime
) -> list[dict[str, Answer]]:
    """Each row's answers, once both paths have given them in the same bits."""
    online = store.get_online_features(service, rows, as_of=as_of)
    frame = [{**row, "event_timestamp": as_of} for row in rows]
    made = store.get_historical_features(frame, service, statuses=True).to_arrow()
    trained = made.to_pylist(maps_as_pydicts="strict")
    names = list(online.status)
    served = [
        {n: (bits(online.columns[n][i]), online.status[n][i]) for n in names}
        for i in range(len(rows))
    ]
    assert served == [{n: (bits(r[n]), r[f"{n}__status"]) for n in names} for r in trained]
    return served


def table(*rows: Mapping[str, Any], **types: pa.DataType) -> pa.Table:
    """Rows, none by default, of a key, two instants, and columns of these types."""
    all_types = {"key": pa.int64(), "at": INSTANT, "arrived": INSTANT, **types}
    return pa.Table.from_pylist(list(rows), schema=pa.schema(list(all_types.items())))


def write_repo(folder: Path, module: str, tables: Mapping[str, pa.Table]) -> Path:
    """A feature repo with this module and a Parquet file for each table; its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = f"project: {folder.name}\nprovider: local\nonline_store:\n  type: redis\n"
    (folder / "feature_store.yaml").write_text(settings, encoding="utf-8")
    (folder / "definitions.py").write_text(module, encoding="utf-8")
    for name, made in tables.items():
        pq.write_table(made, folder / f"{name}.parquet")
    return folder


@contextmanager
def opened(
    folder: Path, url: str, module: str, tables: Mapping[str, pa.Table]
) -> Iterator[FeatureStore]:
    """The store of such a repo, applied and filled with what had arrived long ago: its views are
    served, and pushes bring their own arrivals."""
    with FeatureStore(write_repo(folder, module, tables), redis_url=url) as store:
        store.apply()
        store.materialize(LONG_AGO)
        yield store
