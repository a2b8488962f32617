"""Turns questions and deliveries into answers: `Offline` as training sets do, `Online` as pushes,
materialisations and lookups do. Every mode of parity asks these two."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.arrays import array_of
from featurekit.core.keys import project_key
from featurekit.core.types import micros
from featurekit.define.plan import Service, Source, View
from featurekit.define.published import OWN, plan_bytes
from featurekit.feed.enrich import AskLog, Enricher, Entity
from featurekit.feed.events import prepare
from featurekit.feed.materialise import materialize_view
from featurekit.feed.settle import write
from featurekit.offline.engines.spread import Elsewhere
from featurekit.offline.events import EventRows
from featurekit.offline.training_set import Connect, TakeSnapshot, TrainingSet
from featurekit.online.lookup.evaluator import Ahead, Evaluator
from featurekit.online.lookup.service import OnlineService
from featurekit.online.lookup.view import RowAnswer
from featurekit.online.state.blocks import Moved, Patience
from featurekit.online.state.state import Event
from featurekit.online.store.protocol import OnlineStore
from featurekit.parity.compare import Answers
from featurekit.parity.taken import taken_online

_AFTER_ALL = micros(dt.datetime.max.replace(tzinfo=dt.UTC))
PROJECT = "parity"
"""The project under whose keys a store of a check's own holds what it is given."""


@dataclass(slots=True)
class Asked:
    """Rows: join keys and request fields by column, and each row's instant in microseconds."""

    columns: Mapping[str, Sequence[Any]]
    at: Sequence[int]

    @classmethod
    def of(
        cls, service: Service, rows: Sequence[Mapping[str, Any]], at: int | Sequence[int]
    ) -> Asked:
        """Rows as dicts, about one instant or each about its own."""
        names = [*service.join_keys, *(p.name for p in service.request)]
        instants = [at] * len(rows) if isinstance(at, int) else at
        return cls({name: [row[name] for row in rows] for name in names}, instants)

    def some(self, rows: Sequence[int]) -> Asked:
        """The rows of these numbers."""
        return Asked(
            {name: [column[i] for i in rows] for name, column in self.columns.items()},
            [self.at[i] for i in rows],
        )

    def row(self, i: int) -> dict[str, Any]:
        """One row."""
        return {name: column[i] for name, column in self.columns.items()}

    def frame(self, service: Service) -> Any:
        """The rows as an entity frame."""
        import pyarrow as pa

        types = {**service.join_keys, **{p.name: p.type for p in service.request}}
        made = {n: array_of(self.columns[n], type_.arrow) for n, type_ in types.items()}
        made["event_timestamp"] = pa.array(self.at, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
        return pa.table(made)


class Offline:
    """Answers questions by training sets, which `training_set` makes of a service and a frame, as
    `Project.training_set` does: with full names and statuses."""

    def __init__(self, training_set: Callable[[Service, Any], TrainingSet]) -> None:
        self._training_set = training_set

    @classmethod
    def over(
        cls,
        connect: Connect,
        snapshot: TakeSnapshot,
        *,
        buckets: int | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> Offline:
        """Over the events that `snapshot` reads, and no project's; or those that the workers of an
        engine read."""

        def made(service: Service, frame: Any) -> TrainingSet:
            return TrainingSet(
                service,
                frame,
                connect=connect,
                snapshot=snapshot,
                full_names=True,
                statuses=True,
                timezone="UTC",
                buckets=buckets,
                elsewhere=elsewhere,
            )

        return cls(made)

    def answers(self, service: Service, asked: Asked) -> Answers:
        """What the training set says of the rows, each as of its own instant. What making it raises
        is raised."""
        table = self._training_set(service, asked.frame(service)).to_arrow()
        names = [o.full_name for o in service.outputs]
        return Answers(
            [table[n].combine_chunks() for n in names],
            [table[f"{n}__status"].combine_chunks() for n in names],
        )


class Online:
    """One version of a service, live in a store: takes its events, and answers lookups from them.

    The version goes through its `plan`'s bytes, as to a serving process: the service's own, where
    none are given. The store is a check's own, and its clock is after every event: a question about
    any instant is answered (S3).
    """

    def __init__(self, store: OnlineStore, service: Service, *, plan: bytes | None = None) -> None:
        self.store, self.service = store, service
        store.clock = lambda: _AFTER_ALL
        self.ask_log: AskLog = _nobody
        """Who has all rows of other views, where their states do not tell what rows take (T11)."""
        self._enricher = Enricher(store, PROJECT, lambda view, some: self.ask_log(view, some))
        self._plan = plan_bytes(service) if plan is None else plan
        self._publish()
        self._lookups = OnlineService(store, PROJECT, service.name, trust=OWN)

    def _publish(self) -> None:
        live = self.service.fingerprint or "live"
        self.store.write({
            project_key(PROJECT, "plan", self.service.name, live): self._plan,
            project_key(PROJECT, "live", self.service.name): live.encode(),
        })  # fmt: skip

    @property
    def plan(self) -> Evaluator:
        """What answers, as it came through its bytes."""
        return self._lookups.current()

    def clear(self) -> None:
        """Let go of all states."""
        self.store.delete(list(self.store.keys(project_key(PROJECT, ""))))
        self._publish()

    def push(self, views: Sequence[View], rows: Sequence[dict[str, Any]]) -> None:
        """Take rows of the source that the views read: its columns, `__ts` and `__created`. What
        they take from other views they take now, whatever they have there."""
        once = {view.fingerprint: view for view in views}  # a view in two roles has one state
        taken = self.taken(views[0].source, rows)
        write(self.store, prepare(PROJECT, list(once.values()), taken))

    def taken(self, source: Source, rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Rows of a source with what they would take from other views if they were pushed now."""
        return taken_online(self._enricher, source, rows) if source.joins else rows

    def materialize(
        self, con: Any, view: View, events: EventRows, *, after: int, until: int
    ) -> None:
        """Fill the view's states with what arrived in (after, until], read by DuckDB."""
        materialize_view(con, self.store, PROJECT, view, events, after=after, until=until)

    def ask(self, rows: Sequence[Mapping[str, Any]], instants: Sequence[int]) -> list[RowAnswer]:
        """Each row's outputs, values and statuses, as of its own instant. OnlineError where a row
        is refused."""
        return self._lookups.lookup(rows, instants)[2]


def _nobody(view: View, entities: Sequence[Entity]) -> Mapping[bytes, Sequence[Event]]:
    """As `AskLog`, where there is nobody to ask."""
    raise LookupError(f"nobody has all rows of view {view.name!r}")


def answer_from(
    store: OnlineStore,
    plan: Evaluator,
    keys: list[bytes | None],
    found: Mapping[bytes, bytes | None],
    request: dict[str, Any],
    at: int,
    ahead: Ahead | None = None,
) -> RowAnswer:
    """A row's outputs from the states that were `found` in a live store, read again where a push
    was faster than the second read of a large state. AsOfTooOld where something arrived after
    `at`, unless that is `ahead`."""
    patience = Patience()
    while True:
        try:
            return plan.evaluate([keys], found, [request], [at], store.read, ahead)[0]
        except Moved as moved:
            patience.spend(moved)
            own = [k for k in keys if k is not None]
            found = dict(zip(own, store.read(own), strict=True))
