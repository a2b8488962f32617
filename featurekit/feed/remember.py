"""Turns the rows of a source with an `event_id` into what a view's version remembers of ids (T7).

It is the second half of materialising such a view. The states are written first. The memories
follow, and correct the states where rows were pushed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.status import NEVER
from featurekit.core.tables import in_types
from featurekit.define.plan import View
from featurekit.errors import DamagedState
from featurekit.feed.events import ViewWriter
from featurekit.feed.repair import Repair
from featurekit.feed.settle import settle_ids
from featurekit.online.state.ids import Row
from featurekit.online.store.protocol import OnlineStore

_CHUNK = 500
_BATCH = 50_000


@dataclass(slots=True)
class Lost:
    """What a run does with damaged values. It writes them `anew` from what it has, or it leaves
    them as they are and only notes their keys. `memories` says whether more than states may be
    affected."""

    anew: bool = False
    keys: set[bytes] = field(default_factory=set)
    memories: bool = False

    def of_state(self, _: int, error: DamagedState) -> bool:
        """Note a damaged state; whether it is written anew."""
        self.keys.add(error.key)
        return self.anew

    def of_memory(self, error: DamagedState) -> bool:
        """As `of_state`, for what is remembered of ids."""
        self.memories = True
        return self.of_state(0, error)


def remember(
    con: Any,
    store: OnlineStore,
    project: str,
    view: View,
    arrived: str,
    counting: str,
    *,
    after: int,
    until: int,
    repair: Repair | None = None,
    lost: Lost | None = None,
) -> None:
    """Replace the remembered rows that arrived in (after, until] by those of `arrived`.

    `counting` has the rows of `arrived` that count. After enough time has passed, ids that no new
    row can be compared with are dropped, and the floor is moved. With `repair`, rows that arrived
    after the clock are dropped, too (S3).
    """
    writer = ViewWriter(project, view)
    assert writer.ids is not None
    assert view.dedupe_us is not None
    known = store.read([writer.floor_key])[0]
    try:
        held = writer.ids.read_floor(writer.floor_key, known)
    except DamagedState as error:
        if lost is None:
            raise
        if not lost.of_memory(error):
            return
        held = None
    floor = NEVER if held is None else held
    if repair is not None and repair.ahead(floor):
        floor = NEVER  # a clock that ran ahead moved it
    wanted = until - view.dedupe_us
    whole = after == NEVER
    sweep = whole or wanted - floor >= view.dedupe_us
    if sweep:
        floor = max(floor, wanted)
    relation = f"(SELECT * FROM {arrived} WHERE __created > {after})"
    if whole:
        relation = _compared(view, arrived, counting, floor)
    written: set[bytes] = set()
    for chunk in _chunks(_by_id(con, writer, relation)):
        _replace(store, writer, chunk, after, until, floor, repair, lost)
        written |= chunk.keys()
    if sweep:
        others = [key for key in store.keys(writer.ids_prefix) if key not in written]
        for first in range(0, len(others), _CHUNK):
            # An incremental run leaves rows that it did not find again as they are.
            span = (after, until) if whole else (until, until)
            names: dict[bytes, list[Row]] = {key: [] for key in others[first : first + _CHUNK]}
            _replace(store, writer, names, *span, floor, repair, lost)
        store.write({writer.floor_key: writer.ids.written_floor(writer.floor_key, floor)})


def _compared(view: View, arrived: str, counting: str, floor: int) -> str:
    """The rows after the floor; from before it, only those that later rows are compared with."""
    assert view.dedupe_us is not None
    near = f"__created < {floor} AND __created >= {floor - view.dedupe_us}"
    columns = ", ".join([*(quote(p.name) for p in view.source.schema), "__ts", "__created"])
    of = arrived if view.source.op is not None else counting
    return (
        f"(SELECT {columns} FROM {arrived} WHERE __created >= {floor} "
        f"UNION ALL SELECT {columns} FROM {of} WHERE {near})"
    )


def _by_id(con: Any, writer: ViewWriter, relation: str) -> Iterator[tuple[bytes, list[Row]]]:
    """The rows of each id, by the key of its memory."""
    ids, schema = writer.ids, writer.view.source.schema
    assert ids is not None
    columns = ", ".join([*(quote(p.name) for p in schema), "__ts", "__created"])
    reader = con.sql(
        f"SELECT {columns} FROM {relation} ORDER BY {quote(ids.event_id)}"
    ).to_arrow_reader(_BATCH)
    types = {p.name: p.type for p in schema}
    rows = (row for batch in reader for row in in_types(batch, types).to_pylist())
    for _, group in groupby(rows, key=lambda row: row[ids.event_id]):
        found = list(group)
        yield writer.ids_prefix + ids.name(found[0]), found


def _chunks(named: Iterator[tuple[bytes, list[Row]]]) -> Iterator[dict[bytes, list[Row]]]:
    chunk: dict[bytes, list[Row]] = {}
    for key, rows in named:
        chunk[key] = rows
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = {}
    if chunk:
        yield chunk


def _replace(
    store: OnlineStore,
    writer: ViewWriter,
    chunk: dict[bytes, list[Row]],
    after: int,
    until: int,
    floor: int,
    repair: Repair | None,
    lost: Lost | None,
) -> None:
    """Replace the rows of the ids in `chunk` that arrived in (after, until], and drop what arrived
    before `floor`."""
    ids = writer.ids
    assert ids is not None
    pushed: set[bytes] = set()

    def change(blobs: list[bytes | None]) -> list[bytes | None]:
        out: list[bytes | None] = []
        for (key, rows), blob in zip(chunk.items(), blobs, strict=True):
            try:
                known = ids.read(key, blob)
            except DamagedState as error:
                if lost is None:
                    raise
                if not lost.of_memory(error):
                    out.append(None)
                    continue
                known = []
            others = [r for r in known if not after < r["__created"] <= until]
            if repair is not None:
                others = [r for r in others if not repair.ahead(r["__created"])]
            if any(row["__created"] > until for row in others):
                pushed.add(key)
            out.append(ids.written(key, ids.kept(ids.merged(others, rows), floor)))
        return out

    store.update(list(chunk), change)
    if pushed:
        # Rows pushed since then were compared with fewer or more rows than are known now.
        try:
            settle_ids(store, writer, {key: [] for key in sorted(pushed)})
        except DamagedState as error:
            if lost is None or lost.anew:
                raise
            lost.of_memory(error)
