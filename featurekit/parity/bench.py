"""Turns scenarios into what both paths say of them.

Offline answers from a scratch DuckDB, by the SQL that makes training sets; online from a store in
memory, by the code that takes pushes and answers lookups.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from featurekit.core.kept import Kept
from featurekit.core.sql import quote
from featurekit.core.status import NEVER
from featurekit.core.tables import rows, temp_table
from featurekit.core.types import INSTANT_MAX, INSTANT_MIN
from featurekit.define.plan import Service, View
from featurekit.define.published import plan_bytes
from featurekit.errors import PlanRefused
from featurekit.feed.enrich import Entity
from featurekit.feed.entity_events import events_of_entities
from featurekit.offline.events import EventRows, Snapshot
from featurekit.offline.session import prepare
from featurekit.online.state.state import Event
from featurekit.online.store.memory import MemoryStore
from featurekit.parity.compare import Stated, bits, parts
from featurekit.parity.paths import Asked, Offline, Online
from featurekit.parity.scenario import Delivery, Scenario, by_source, column_types
from featurekit.parity.taken import PLACE, in_order, make_taken

Opinions = dict[str, tuple[Stated, Stated]]
"""For each output, by its full name, what offline and what online says."""

_DAY, _LONG = 86_400_000_000, 100 * 366 * 86_400_000_000
_numbers = itertools.count()


def both(scenario: Scenario) -> Opinions:
    """What each path says of every output, by its full name: (offline, online), each a value and
    its status. An exception of a path is its status, with no value; but PlanRefused is raised."""
    with bench() as opened:
        return opened.both(scenario)


def differing(opinions: Opinions) -> list[str]:
    """The outputs on which the paths do not agree in type, bits and status."""
    return [n for n, (one, other) in opinions.items() if parts(one, other)]


@contextmanager
def bench() -> Iterator[Bench]:
    """A `Bench` that is closed in the end."""
    opened = Bench()
    try:
        yield opened
    finally:
        opened.close()


class Bench:
    """One scratch DuckDB, for many scenarios one after the other."""

    def __init__(self) -> None:
        import duckdb

        self.con = duckdb.connect(config={"threads": 1})
        prepare(self.con)
        self._plan = Kept(plan_bytes)

    def close(self) -> None:
        """Let go of the database."""
        self.con.close()

    def both(self, scenario: Scenario) -> Opinions:
        """See `both`."""
        offline, online = self.offline(scenario), self.online(scenario)
        names = [o.full_name for o in scenario.service.outputs]
        absent: Stated = None, "NO_SUCH_FEATURE"
        return {n: (offline[n], online.get(n, absent)) for n in names}

    # --- offline ----------------------------------------------------------------------------------

    def offline(self, scenario: Scenario) -> dict[str, Stated]:
        """Each output by the point-in-time join, as `get_historical_features` has it. PlanRefused
        where a function does what no compiled one does: that is no answer."""
        service = scenario.service
        with self.tables(scenario) as events:
            path = Offline.over(
                lambda: _Lent(self.con),
                lambda con, view: Snapshot(events[view.source.name], {}),
                buckets=1,
            )
            try:
                found = path.answers(service, _asked(scenario))
            except PlanRefused:
                raise
            except Exception as error:
                return {o.full_name: (None, shown_error(error)) for o in service.outputs}
        return {o.full_name: found.offline(i, 0) for i, o in enumerate(service.outputs)}

    @contextmanager
    def tables(self, scenario: Scenario) -> Iterator[dict[str, EventRows]]:
        """The rows of each source as a table, as reading its files gives them, with what they take
        from other views."""
        given = by_source(scenario.deliveries if scenario.files is None else scenario.files)
        made: dict[str, EventRows] = {}
        joined = any(view.source.joins for view in scenario.service.views)
        before = _temporary(self.con) if joined else set()
        try:
            for view in scenario.service.fed:
                if view.source.name not in made:
                    own = given.get(view.source.name, [])
                    made[view.source.name] = self._table(view, own, made)
            yield made
        finally:
            if joined:
                _drop(self.con, map(quote, sorted(_temporary(self.con) - before)))
            else:
                _drop(self.con, [e.relation for e in made.values()])

    def _table(
        self, view: View, rows: Sequence[dict[str, Any]], others: Mapping[str, EventRows]
    ) -> EventRows:
        if view.source.joins:
            return EventRows(make_taken(self.con, view.source, rows, others), False)
        types = column_types(view)
        named = f"__scenario_{next(_numbers)}"
        table = temp_table(self.con, named, types, [[r[n] for n in types] for r in rows])
        prompt = all(r["__ts"] == r["__created"] for r in rows)
        return EventRows(table, prompt and not view.arrival_known)

    # --- online -----------------------------------------------------------------------------------

    def online(self, scenario: Scenario) -> dict[str, Stated]:
        """Each output from states that took the deliveries as pushes, one by one. PlanRefused where
        the plan is none that can be read, or a function does what no compiled one does."""
        outputs = scenario.online.outputs
        try:
            ((found, statuses),) = self.fed(scenario).ask([scenario.row], [scenario.at])
        except PlanRefused:
            raise
        except Exception as error:
            return {o.full_name: (None, shown_error(error)) for o in outputs}
        stated = zip(found, statuses, strict=True)
        return {o.full_name: one for o, one in zip(outputs, stated, strict=True)}

    def fed(self, scenario: Scenario) -> Online:
        """The version that answers online, over a store that knows what had arrived, of each view
        as late as it can be asked (T8)."""
        path = self._filled(scenario)
        fed, filled = path.service.fed, scenario.filled_until
        reach = {v.name: v.history_us for v in fed}
        if any(v.source.joins for v in fed):
            # What rows take is there as soon as the rows are, and may be asked for, too.
            reach = dict.fromkeys(reach, min(v.history_us for v in path.service.views))
        for delivery in in_order(path.service, scenario.deliveries):
            created = delivery.row["__created"]
            views = [
                view
                for view in fed
                if view.source.name == delivery.source
                and filled < created <= scenario.at + reach[view.name]
            ]
            if views:
                path.push(views, [delivery.row])
        return path

    def _filled(self, scenario: Scenario) -> Online:
        """The version that answers online, over a store that was filled and took no push yet."""
        path = self.served(scenario.online)
        path.ask_log = partial(self._all_events, scenario)
        if scenario.filled_until > NEVER:
            with self.tables(scenario) as events:
                for view in path.service.fed:
                    of_view = events[view.source.name]
                    path.materialize(
                        self.con, view, of_view, after=NEVER, until=scenario.filled_until
                    )
        return path

    # --- what rows take ---------------------------------------------------------------------------

    def taking(self, scenario: Scenario) -> Scenario:
        """The scenario of rows that have what each path gives them: the deliveries what they took
        as pushes, or by the materialisation, the files what they take offline. No view's source
        has joins, so both paths read these rows as they are."""
        service = scenario.service
        joined = {view.source.name: view for view in service.fed if view.source.joins}
        scenario = replace(scenario, files=None, served=None)
        deliveries = in_order(service, scenario.deliveries)
        offline = self._taken_offline(replace(scenario, deliveries=tuple(deliveries)), joined)
        path, taken = self._filled(scenario), list(offline)
        others = {other.fingerprint for view in joined.values() for other in view.joined}
        for i, delivery in enumerate(deliveries):
            if delivery.row["__created"] <= scenario.filled_until:
                continue
            if delivery.source in joined:
                (row,) = path.taken(joined[delivery.source].source, [delivery.row])
                taken[i] = Delivery(delivery.source, row)
            views = [v for v in service.fed if v.source.name == delivery.source]
            views = [v for v in views if v.fingerprint in others]
            if views:
                path.push(views, [delivery.row])
        same = [bits(d.row) for d in offline] == [bits(d.row) for d in taken]
        views = [replace(v, source=replace(v.source, parts=None)) for v in service.views]
        return replace(
            scenario,
            service=replace(service, views=tuple(views)),
            deliveries=tuple(taken),
            files=None if same else tuple(offline),
        )

    def _taken_offline(self, scenario: Scenario, joined: Mapping[str, View]) -> list[Delivery]:
        """The deliveries with what they take offline."""
        made = list(scenario.deliveries)
        with self.tables(scenario) as events:
            for name, view in joined.items():
                own = [i for i, d in enumerate(made) if d.source == name]
                types, relation = column_types(view), events[name].relation
                found = rows(self.con, relation, types, then=f"ORDER BY {PLACE}")
                for i, row in zip(own, found, strict=True):
                    made[i] = Delivery(name, row)
        return made

    def _all_events(
        self, scenario: Scenario, view: View, entities: Sequence[Entity]
    ) -> Mapping[bytes, Sequence[Event]]:
        with self.tables(scenario) as events:
            return events_of_entities(self.con, view, events[view.source.name], entities)

    def served(self, service: Service) -> Online:
        """A version over an empty store."""
        return Online(MemoryStore(), service, plan=self._plan(service))


def _asked(scenario: Scenario) -> Asked:
    """The question, and behind it the same long before and after: what a join reads for many labels
    is more than it reads for one."""
    service = scenario.service
    instants = [scenario.at]
    if all(v.on_error != "fail" for v in service.views):
        reach = max([_DAY, *(v.retain_us for v in service.views if v.retain_us < _LONG)])
        last = max([scenario.at, *(d.row["__created"] for d in scenario.deliveries)])
        instants += [max(scenario.at - reach, INSTANT_MIN), min(last + reach, INSTANT_MAX)]
    return Asked.of(service, [scenario.row] * len(instants), instants)


def shown_error(error: Exception) -> str:
    """An exception in the place of a status: the checker's own word, which no path states."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


class _Lent:
    """The bench's connection for one training set, which closes it: its tables go, it stays."""

    def __init__(self, con: Any) -> None:
        self.con = con
        self.before = _temporary(con)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.con, name)

    def close(self) -> None:
        _drop(self.con, map(quote, sorted(_temporary(self.con) - self.before)))


def _temporary(con: Any) -> set[str]:
    found = con.execute("SELECT table_name FROM duckdb_tables() WHERE temporary").fetchall()
    return {name for (name,) in found}


def _drop(con: Any, tables: Iterable[str]) -> None:
    for table in tables:
        con.execute(f"DROP TABLE IF EXISTS {table}")
