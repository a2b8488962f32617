"""Plays the histories of a shard of one space: offline as one training set, and online in every way
in which events can come to a state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from featurekit.core.arrays import array_of
from featurekit.core.status import NEVER
from featurekit.core.tables import Row
from featurekit.core.types import instant
from featurekit.define.plan import Service, View
from featurekit.offline.events import EventRows, Snapshot
from featurekit.online.state.blocks import in_blocks_of
from featurekit.online.store.memory import MemoryStore
from featurekit.parity.compare import Answers, Stated, parting
from featurekit.parity.modes.exhaust.forms import Kind, Space
from featurekit.parity.modes.exhaust.histories import ARRIVALS, INSTANTS
from featurekit.parity.modes.fuzz.reading import connect
from featurekit.parity.paths import Asked, Offline, Online
from featurekit.parity.report import Difference
from featurekit.parity.scenario import Delivery, Scenario, lenient

_KEPT = 3


@dataclass(frozen=True, slots=True)
class Way:
    """How the events of a history come online. Those that arrive by `fills` come by
    materialisations, one for each; the rest is pushed, each event on its own. With `history` the
    states answer any instant, else only those from the newest arrival on (T8). With `blocks` the
    states lie in blocks of an instant each."""

    name: str
    fills: tuple[int, ...] = ()
    history: bool = False
    blocks: bool = False

    @property
    def filled(self) -> int:
        """The last instant whose arrivals come by a materialisation."""
        return self.fills[-1] if self.fills else NEVER


WAYS: tuple[Way, ...] = (
    Way("pushed"),
    Way("pushed, with history", history=True),
    Way("pushed into blocks", history=True, blocks=True),
    Way("materialised", fills=(ARRIVALS[-1],)),
    Way("materialised twice, then pushed", fills=(ARRIVALS[0], ARRIVALS[2]), history=True),
    Way("materialised into blocks, then pushed", fills=(ARRIVALS[2],), history=True, blocks=True),
)


@dataclass(slots=True)
class Found:
    """What a shard showed: its histories and questions, and of each feature the values compared,
    those that differ, and the offline statuses. Each way compares each value once more."""

    space: str
    shard: int
    histories: int = 0
    questions: int = 0
    compared: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


def play(space: Space, shard: int, shards: int) -> Found:
    """Compare both paths over the histories of one of `shards` shards."""
    return _Shard(space, shard, shards).found()


class _Shard:
    """The histories of a shard, each of which is an entity, and the questions about them."""

    def __init__(self, space: Space, shard: int, shards: int) -> None:
        assert space.service is not None
        self.space, self.service = space, lenient(space.service)
        self.result = Found(space.name, shard)
        self.events: list[list[Row]] = []
        asked: list[tuple[int, int]] = []
        for number, of_one in space.histories.part(shard, shards):
            rows = [_row(number, k, space.kinds[kind]) for k, kind in enumerate(of_one)]
            self.events.append(rows)
            asked += ((number, t) for t in space.edges)
            self.result.histories += 1
        self.arrived = {rows[0]["k"]: rows[-1]["__created"] for rows in self.events if rows}
        self.of_entity = {rows[0]["k"]: rows for rows in self.events if rows}
        self.asked = Asked({"k": [k for k, _ in asked]}, [t for _, t in asked])
        self.con = connect()

    def found(self) -> Found:
        """What both paths say, compared in every way."""
        try:
            if not self.events:
                return self.result
            self._make_events()
            offline = Offline.over(connect, self._snapshot).answers(self.service, self.asked)
            self.result.questions = len(self.asked.at)
            self._count(offline)
            for way in WAYS:
                self._compare(way, offline)
        finally:
            self.con.close()
        return self.result

    # --- offline ----------------------------------------------------------------------------------

    def _make_events(self) -> None:
        self.table = self._table([row for rows in self.events for row in rows])

    def _table(self, rows: Sequence[Row]) -> Any:
        import pyarrow as pa

        (view,) = self.service.views
        columns = {
            p.name: array_of([row[p.name] for row in rows], p.type.arrow)
            for p in view.source.schema
        }
        for name in ("__ts", "__created"):
            columns[name] = pa.array([row[name] for row in rows], pa.int64())
        return pa.table(columns)

    def _relation(self, con: Any) -> str:
        con.register("histories_arrow", self.table)
        con.execute("CREATE OR REPLACE TEMP TABLE histories AS SELECT * FROM histories_arrow")
        con.unregister("histories_arrow")
        return "histories"

    def _snapshot(self, con: Any, view: View) -> Snapshot:
        return Snapshot(EventRows(self._relation(con), False, self.table.num_rows), {})

    def _count(self, offline: Answers) -> None:
        for o, output in enumerate(self.service.outputs):
            counts = offline.statuses[o].value_counts().to_pylist()
            found = Counter({c["values"]: c["counts"] for c in counts})
            self.result.statuses[output.full_name] = found

    # --- online -----------------------------------------------------------------------------------

    def _compare(self, way: Way, offline: Answers) -> None:
        service = lenient(self.space.with_history()) if way.history else self.service
        rows = range(len(self.asked.at)) if way.history else self._answerable()
        asked = self.asked.some(rows)
        limits: AbstractContextManager[None] = in_blocks_of(1) if way.blocks else nullcontext()
        with limits:
            online = self._online(way, service, asked)
        told = offline.some(rows)
        parted = parting(service, told, online)
        for o, output in enumerate(service.outputs):
            self.result.compared[output.full_name] += len(asked.at)
            self.result.differing[output.full_name] += len(parted[o])
            for i in parted[o][: _KEPT if len(self.result.differences) < 4 * _KEPT else 0]:
                pair = told.offline(o, i), online.online(o, i)
                self._differ(way, service, output.full_name, asked, i, pair)

    def _answerable(self) -> list[int]:
        """The questions about instants from the newest arrival on (T8)."""
        newest = self.arrived
        asked = zip(self.asked.columns["k"], self.asked.at, strict=True)
        return [i for i, (k, t) in enumerate(asked) if t >= newest.get(k, NEVER)]

    def _online(self, way: Way, service: Service, asked: Asked) -> Answers:
        path = Online(MemoryStore(), service)
        (view,) = service.views
        after = NEVER
        for until in way.fills:
            events = EventRows(self._relation(self.con), False, self.table.num_rows)
            path.materialize(self.con, view, events, after=after, until=until)
            after = until
        for arrival in ARRIVALS:
            if arrival > way.filled:
                at_once = [r for rows in self.events for r in rows if r["__created"] == arrival]
                if at_once:
                    path.push([view], at_once)
        told = path.ask([{"k": k} for k in asked.columns["k"]], asked.at)
        made, statuses = zip(*told, strict=True)
        return Answers(list(zip(*made, strict=True)), list(zip(*statuses, strict=True)))

    def _differ(
        self,
        way: Way,
        service: Service,
        feature: str,
        asked: Asked,
        i: int,
        pair: tuple[Stated, Stated],
    ) -> None:
        row, at = asked.row(i), asked.at[i]
        own = self.of_entity.get(row["k"], [])
        scenario = Scenario(service, tuple(Delivery("events", r) for r in own), row, at, way.filled)
        made = Difference(feature, row, instant(at).isoformat(), *pair, scenario)
        self.result.differences.append(made)


def _row(number: int, k: int, kind: Kind) -> Row:
    """The k-th event of a history, as a push reads it."""
    row: Row = {"k": number, "x": kind.value, "kept": kind.kept}
    if kind.id is not None:
        row["id"] = number * 10 + kind.id
    if kind.op is not None:
        row["op"] = kind.op
    return row | {"__ts": INSTANTS[kind.instant], "__created": ARRIVALS[k]}
