"""Removes one entity's events and states everywhere, and keeps them from coming back.

First a tombstone is recorded: from then on nothing reads the events that arrived before it. Then
the entity's states are removed, states of other views over the same events are computed again, the
log of pushes is rewritten, and the source's files too where that is asked for. A run that dies half
way is run again.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.calls import near
from featurekit.core.coerce import Misfit, canonical
from featurekit.core.gone import Gone
from featurekit.core.keys import clock_key, encode_key, project_key
from featurekit.core.screen import Progress
from featurekit.core.sql import parquet_sql, quote
from featurekit.core.status import NEVER, NEVER_VISIBLE
from featurekit.core.tables import rows, temp_table
from featurekit.core.types import Type, instant
from featurekit.core.waiting import until as wait_until
from featurekit.define.contracts.compiled import check_lists
from featurekit.define.definitions import Entity, EventSource
from featurekit.define.origins import Database
from featurekit.define.plan import View
from featurekit.define.union import own_row, told_by_rows
from featurekit.errors import (
    DamagedState,
    DefinitionError,
    EntityFrameError,
    OnlineError,
    RegistryError,
)
from featurekit.feed.forget_served import strip_outcomes_of, strip_served
from featurekit.feed.forgotten_labels import labels_below
from featurekit.feed.materialise import materialize_view, remake
from featurekit.feed.naming import naming
from featurekit.feed.repair import Repair
from featurekit.log import journal
from featurekit.log.compaction import PATIENCE_S, alone_in
from featurekit.log.journal import SUFFIX
from featurekit.log.segments import (
    journal_table,
    log_folder,
    put_journal,
    put_segment,
    read_segment,
    segments,
)
from featurekit.log.sums import check
from featurekit.log.tombstones import Columns, Tombstone, key_columns, make_secret
from featurekit.offline.buckets import explaining_disk
from featurekit.offline.counted_events import make_events
from featurekit.online.state.blocks import head_key, state_keys
from featurekit.online.state.ids import Ids
from featurekit.online.state.seal import opened
from featurekit.online.state.state import State, newest_arrival
from featurekit.online.state.update import update_states
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.contracts import drop_measured
from featurekit.project.deployment import fed_views
from featurekit.project.leases import alone, settled_until
from featurekit.project.project import Project
from featurekit.project.rights import check_may_record
from featurekit.sources.check import ROW
from featurekit.sources.events import numbered_rows
from featurekit.sources.files import absent
from featurekit.sources.objects import drop_older_objects
from featurekit.sources.origins.copies import drop_older_copies
from featurekit.sources.protocol import FileInfo
from featurekit.sources.reading import files_of
from featurekit.sources.rewrite import remove_rows, rewriting

_POLL_S, _PATIENCE_S = 0.05, 60.0
_STEP = 1000


@dataclass(frozen=True, slots=True)
class FileRows:
    """A file that held rows of the entity, or lists with it, and whether these were removed."""

    path: str
    rows: int
    rewritten: bool


@dataclass(frozen=True, slots=True)
class Forgot(Named):
    """What `forget` did.

    Events that arrived up to `until` are gone. `states` counts the states that were removed, by
    "view:fingerprint", and `repaired` the states of other views that were computed again without
    the events. `log_rows` are rows of the log of pushes that were removed, or whose list lost the
    entity; the latter, which stay with the rest of their list, are `log_lists`. `files` are source
    files that hold or held rows, and `set_aside` files of quarantined rows that may hold some.
    `unknown` are versions with states whose keys cannot be read; `gc` removes them. `served_rows`
    of the serving log say FORGOTTEN now, and `outcomes` of them are gone. `told` are contracts and
    manifests below the folder of the repo that name the entity, and `labels` files of labels of
    training sets there that have rows of it, which only their owner can make anew.
    """

    entity: str
    until: dt.datetime
    states: Mapping[str, int]
    repaired: Mapping[str, int]
    log_rows: int
    files: tuple[FileRows, ...]
    set_aside: tuple[FileRows, ...]
    unknown: tuple[str, ...]
    served_rows: int = 0
    outcomes: int = 0
    told: tuple[str, ...] = ()
    log_lists: int = 0
    labels: tuple[FileRows, ...] = ()


def forget(
    project: Project,
    name: str,
    keys: Mapping[str, Any],
    *,
    rewrite_files: bool,
    logs: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> Forgot:
    """Remove an entity's events and states, and record it; see `FeatureStore.forget`."""
    entity = _entity(project, name)
    values = _checked(entity, keys)
    project.served_places(logs)  # a log that is not there is refused before anything is forgotten
    with project.audit.doing("forget", {"entity": name, "rewrite_files": rewrite_files}) as found:
        return _forget(
            project,
            entity,
            values,
            found,
            rewrite_files=rewrite_files,
            logs=logs,
            progress=progress,
        )


def _forget(
    project: Project,
    entity: Entity,
    values: Mapping[str, Any],
    found: dict[str, Any],
    *,
    rewrite_files: bool,
    logs: Sequence[str | Path],
    progress: Progress | None,
) -> Forgot:
    """Forget an entity; `found` gets what the audit log is to say of it."""
    name, types = entity.name, dict(entity.join_keys)
    held = _held(project, name, types)
    sources = [s for n, s in project.repo.sources.items() if held[n]]
    if rewrite_files:
        for one in sources:
            rewriting(one)  # refused before anything is forgotten
    others, taking = _others(project, sources, types)
    online = project.online
    with ExitStack() as stack:
        stack.enter_context(explaining_disk(project.state_dir))
        for source in sorted({s.name for s in sources}.union(*(v.source_names for v in taking))):
            online = stack.enter_context(alone(online, project.name, source, "forget"))
        tombstone, number = _record(project, online, name, types, values)
        until = tombstone.until
        # Wait for pushes that have begun since, too: they may not have seen the record.
        _settle(online, project.name, sources, online.stamp(clock_key(project.name)) - 1)
        con = project.connect()
        stack.callback(con.close)
        mine = _Rows(con, types, values, until, _repair_of(project), held)
        repaired = {
            f"{view.name}:{view.fingerprint}": _repair(project, online, con, view, mine, until)
            for view in others
        }
        tell = progress or (lambda what, done, total: None)
        states, unknown = _remove_states(project, online, con, name, types, values, mine, tell)
        repaired |= _fill_again(project, online, con, taking)
        log = [gone for s in sources for gone in mine.strip_log(project.state_dir, s.name)]
        files = tuple(
            f for s in sources for f in _files(project, con, s, mine, rewrite=rewrite_files)
        )
        aside = tuple(f for s in sources for f in _set_aside(project, s, values, held[s.name]))
        fed = fed_views(project.online, project.name)
        known = project.registry.tombstones()
        project.marks.carried(fed, known[:number], but=tombstone, store=online)
    served = strip_served(project, tombstone, logs)
    outcomes = strip_outcomes_of(project, [tombstone], logs, ever=True)
    log_rows = sum(len(gone.touched) for gone in log)
    log_lists = log_rows - sum(len(gone.rows) for gone in log)
    rows = {"log_rows": log_rows, "served_rows": served, "outcomes": outcomes}
    removed = _counted(states, repaired, files) | rows
    found |= {"tombstone": number, "digest": tombstone.digest[:16], **removed}
    project.registry.forgot(number, removed)
    project.record()
    told = naming(project.path, project.state_dir, values.values())
    labels = tuple(FileRows(path, n, False) for path, n in labels_below(project, tombstone))
    return Forgot(
        name, instant(until), states, repaired, log_rows, files, aside, unknown, served, outcomes,
        told, log_lists, labels,
    )  # fmt: skip


def _counted(
    states: Mapping[str, int], repaired: Mapping[str, int], files: Sequence[FileRows]
) -> dict[str, int]:
    """How many states were removed and made anew, and rows taken out of files."""
    return {
        "states": sum(states.values()),
        "repaired": sum(repaired.values()),
        "file_rows": sum(f.rows for f in files if f.rewritten),
    }


def _record(
    project: Project,
    online: OnlineStore,
    name: str,
    types: Mapping[str, Type],
    values: Mapping[str, Any],
) -> tuple[Tombstone, int]:
    """Record that an entity is forgotten until now; the tombstone, and its number."""
    project.claim()
    check_may_record(online, project.name)
    until = online.stamp(clock_key(project.name))
    secret = make_secret(project.state_dir)
    digest = secret.digest(name, {n: (types[n], values[n]) for n in types})
    tombstone = Tombstone(name, tuple(sorted(types.items())), digest, secret.name, until)
    number = project.registry.forget(tombstone)
    project.record()
    return tombstone, number


# --- who ------------------------------------------------------------------------------------------


def _entity(project: Project, name: str) -> Entity:
    known = {e.name: e for view in project.repo.views.values() for e in view.entities}
    if name not in known:
        close = near(name, known, listed="there are")
        raise DefinitionError(f"no view is of an entity {name!r}; {close}")
    return known[name]


def _held(project: Project, name: str, types: Mapping[str, Type]) -> dict[str, list[Columns]]:
    """The columns of each source that hold the entity's keys. DefinitionError where none of them
    says whose a row is."""
    views = project.repo.views.values()
    for view in views:
        mine = any(e.name == name for e in view.entities)
        taken = [key for key in types if mine and key in view.taken]
        if taken:
            raise DefinitionError(
                f"the key {taken[0]!r} of {name!r} is taken from another view in view "
                f"{view.name!r}, so no row of its source says whose it is; take the rows out where "
                "they lie, and run `featurekit materialize`"
            )
    held = {n: key_columns(views, s, name, types) for n, s in project.repo.sources.items()}
    for source, columns in held.items():
        check_lists(project.repo.sources[source], {c for one in columns for c in one.lists})
    return held


def _checked(entity: Entity, keys: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the keys, converted to the types of the join keys."""
    if keys.keys() != entity.join_keys.keys():
        raise EntityFrameError(
            f"entity {entity.name!r} is named by {', '.join(entity.join_keys)}, found "
            f"{', '.join(map(str, keys)) or 'nothing'}"
        )
    values = {}
    for name, type_ in entity.join_keys.items():
        try:
            values[name] = canonical(keys[name], type_, zone_name="UTC")
        except Misfit as reason:
            raise EntityFrameError(f"entity {entity.name!r}, {name!r}: {reason}") from None
    return values


def _others(
    project: Project, sources: Sequence[EventSource], types: Mapping[str, Type]
) -> tuple[list[View], list[View]]:
    """The views that are fed with the sources' events and have another key; those that remember ids
    (T7), since their memories hold the rows of all entities; and those of which an event is one
    element of a list, since the elements after it move up (T6). Then the views whose rows take
    features that are made of the sources' events (T11)."""
    names = {source.name for source in sources}
    found: list[View] = []
    taking: list[View] = []
    for view in fed_views(project.online, project.name, trust=project.trust):
        takes = _takes_of(view, names)
        shared = view.dedupe_us is not None or view.explode is not None
        apart = shared or not _keyed_by(view, types)
        if takes or (not names.isdisjoint(view.source_names) and apart):
            if not project.readable(view):
                raise RegistryError(
                    f"view {view.name}:{view.fingerprint[:12]} is fed with these events and reads "
                    f"source {view.source.title!r} as it was defined before, so its states cannot "
                    "be computed again; make its successor live (`featurekit materialize`), and "
                    "if it is retained, release it (`featurekit gc --retained`)"
                )
            (taking if takes else found).append(view)
    return found, taking


def _takes_of(view: View, names: Collection[str]) -> bool:
    """Whether rows of a view take features that are made of events of these sources."""
    return any(not {*names}.isdisjoint(other.source_names) for other in view.joined)


def _fill_again(
    project: Project, online: OnlineStore, con: Any, views: Sequence[View]
) -> dict[str, int]:
    """Fill the views anew whose rows have taken features of who is forgotten: nobody knows which of
    their states these are in. A push that began before may have taken them, too, so it is waited
    for. The result is the number of states of each version."""
    if not views:
        return {}
    until = online.stamp(clock_key(project.name)) - 1
    read = [project.source(name) for name in sorted({n for v in views for n in v.source_names})]
    _settle(online, project.name, read, until)
    done = {}
    for view in views:  # each after those from which its rows take something
        events, repair = project.events(con, view), _repair_of(project)
        made = materialize_view(con, online, project.name, view, events, until=until, repair=repair)
        done[f"{view.name}:{view.fingerprint}"] = made.entities
    return done


def _keyed_by(view: View, types: Mapping[str, Type]) -> bool:
    keys = {p.name: p.type for p in view.join_keys}
    return all(keys.get(name) == type_ for name, type_ in types.items())


# --- events ---------------------------------------------------------------------------------------


def _settle(online: OnlineStore, project: str, sources: Sequence[EventSource], until: int) -> None:
    """Wait for the pushes that are under way, since rows that they stamped before `until` must go
    too."""
    names = [source.name for source in sources]
    wait_until(
        lambda: [name for name in names if settled_until(online, project, name) < until],
        holds=lambda under_way: not under_way,
        within_s=_PATIENCE_S,
        every_s=_POLL_S,
        or_say=lambda under_way: OnlineError(
            f"a push to source {under_way[0]!r} does not end, and may hold events of the entity; "
            "the entity is recorded as forgotten, and its events are not read any more; run this "
            "again to remove the states (`featurekit unlock` shows whose push it is)"
        ),
    )


class _Rows:
    """The rows of the entity that arrived up to an instant, in any relation or file. `held` has for
    each source the columns that hold the entity's keys, in every way that some view takes them."""

    def __init__(
        self,
        con: Any,
        types: Mapping[str, Type],
        values: Mapping[str, Any],
        until: int,
        repair: Repair,
        held: Mapping[str, Sequence[Columns]],
    ) -> None:
        self.con, self.types, self.until, self.repair = con, types, until, repair
        self.held = held
        temp_table(con, "__who", types, [[values[name] for name in types]])

    def sql(self, source: EventSource, relation: str) -> str:
        """Those rows in a relation that has the source's columns and `__created`."""
        return f"(SELECT * FROM {self.whenever(source, relation)} WHERE __created <= {self.until})"

    def whenever(self, source: EventSource, relation: str) -> str:
        """As `sql`, of whatever arrival: a state may hold a row that arrived after the clock."""
        return f"(SELECT * FROM {relation} s SEMI JOIN __who w ON {self._same(source.name)})"

    def _same(self, source: str) -> str:
        """Whether a row `s` of a source is of the entity `w`, or has it in a list, in SQL."""
        ways = [_is_who(columns) for columns in self.held[source]]
        return f"({' OR '.join(f'({way})' for way in ways) or 'FALSE'})"

    def gone(self, source: str, relation: str, row: str, when: str) -> Gone:
        """What of a relation is the entity's, where `when` holds: whole rows, by their numbers in
        the SQL column `row`, and elements of the lists of others. A relation that lacks a column
        has nothing of the entity in it."""
        there = {name for name, *_ in self.con.execute(f"DESCRIBE FROM {relation}").fetchall()}
        whole: set[int] = set()
        elements: dict[str, dict[int, list[int]]] = {}
        for columns in self.held[source]:
            if not {*columns.names.values()} <= there:
                continue
            at = "NULL"
            if columns.listed is not None:
                of, who = quote(columns.names[columns.listed]), quote(columns.listed)
                at = f"list_filter(range(len(s.{of})), lambda i: s.{of}[i + 1] = w.{who})"
            found = self.con.execute(
                f"SELECT {row}, {at} FROM (SELECT * FROM {relation} WHERE {when}) s "
                f"JOIN __who w ON {_is_who(columns)}"
            ).fetchall()
            if columns.listed is None:
                whole.update(n for n, _ in found)
            else:
                elements.setdefault(columns.names[columns.listed], {}).update(found)
        cut = {c: {n: at for n, at in of.items() if n not in whole} for c, of in elements.items()}
        return Gone(whole, {column: of for column, of in cut.items() if of})

    def strip_log(self, state_dir: Path, source: str) -> list[Gone]:
        """Rewrite the segments of a source's log that hold some of the rows; what is taken out of
        each.

        It also rewrites segments that were joined into others and wait for their removal; their
        rows do not count.
        """
        folder = log_folder(state_dir, source)
        if not folder.is_dir():
            return []
        with alone_in(folder, wait=True) as mine:
            if mine is None:
                raise OnlineError(
                    f"another process has been joining the files of {folder} for {PATIENCE_S:.0f} "
                    "s, so the entity's rows cannot be taken out of them; the entity is recorded "
                    "as forgotten, and its events are not read any more; end that process, and "
                    "run this again"
                )
            found = sorted(path for path in folder.iterdir() if path.suffix in (".parquet", SUFFIX))
            for path in found:
                if path.suffix == SUFFIX:
                    journal.end(path)  # a writer that appends to it goes on in another
            counted = segments(state_dir, source)
            gone = {path: self._strip(path, source) for path in found}
        return [gone[path] for path in counted if path in gone]

    def _strip(self, path: Path, source: str) -> Gone:
        if path.suffix == SUFFIX:
            table = read_segment(path)
            if table is None:
                return Gone()
            relation, put = journal_table(self.con, table), put_journal
        else:
            check(path)
            relation, put = parquet_sql([str(path)]), put_segment
        numbered = f"(SELECT *, row_number() OVER () - 1 AS __row FROM {relation})"
        # No event arrives after the clock from now on, and a row that says so was there before.
        when = f"__created <= {self.until} OR __created > {self.repair.latest_now()}"
        # What was written before the source had such a column holds no row of the entity.
        gone = self.gone(source, numbered, "__row", when)
        if gone:
            put(path, gone.without(read_segment(path)))
        return gone


def _is_who(columns: Columns) -> str:
    """Whether a row `s` is of the entity `w` by these columns, or has it in its list, in SQL."""
    return " AND ".join(
        f"list_contains(s.{quote(c)}, w.{quote(n)})"
        if n == columns.listed
        else f"w.{quote(n)} = s.{quote(c)}"
        for n, c in columns.names.items()
    )


def _files(
    project: Project, con: Any, source: EventSource, mine: _Rows, *, rewrite: bool
) -> Iterator[FileRows]:
    """The source's files that hold rows of the entity, or have it in lists, each rewritten where
    `rewrite` says so."""
    there = not absent(source, project.path)
    for file in files_of(con, source, project.path, project.state_dir) if there else ():
        numbered = numbered_rows(con, source, file, project.state_dir)
        gone = mine.gone(source.name, numbered, ROW, f"__created <= {mine.until}")
        if gone:
            if rewrite:
                remove_rows(con, source, file, gone, state_dir=project.state_dir)
            yield FileRows(_shown(source, file), len(gone.touched), rewritten=rewrite)
    if source.origin is not None:
        drop_older_copies(source, project.state_dir)
    drop_older_objects(source, project.state_dir)


def _shown(source: EventSource, file: FileInfo) -> str:
    if isinstance(source.origin, Database):
        return source.origin.text
    return file.shown if file.digest is None else f"the frame of {source.name}"


def _set_aside(
    project: Project,
    source: EventSource,
    values: Mapping[str, Any],
    held: Sequence[Columns],
) -> Iterator[FileRows]:
    """The files of quarantined rows where some row has the texts of the entity's keys. What was
    measured for the source's contract, with rows as examples, is removed."""
    import pyarrow.parquet as pq

    drop_measured(project.state_dir, source.name)
    wanted = [{column: str(values[n]) for n, column in one.names.items()} for one in held]
    for path in sorted((project.state_dir / "quarantine").glob(f"{source.name}.*")):
        if path.suffix == ".jsonl":
            lines = path.read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line)["values"] for line in lines]
        elif path.suffix == ".parquet":
            rows = pq.read_table(path, partitioning=None).to_pylist()
        else:
            continue
        count = sum(any(_may_hold(row, way) for way in wanted) for row in rows)
        if count:
            yield FileRows(str(path), count, rewritten=False)


def _may_hold(row: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether a row that was set aside has these texts: in its columns, or somewhere in a line that
    could not be taken apart."""
    line = row.get("__text")
    if line is not None:
        return all(text in line for text in wanted.values())
    return all(text in _texts(row.get(name)) for name, text in wanted.items())


def _texts(value: Any) -> list[str]:
    """The text of a value, or those of a list's elements."""
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value)]


# --- states ---------------------------------------------------------------------------------------


def _repair_of(project: Project) -> Repair:
    return Repair(project.online, project.name, project.tolerance_us)


def _repair(
    project: Project, online: OnlineStore, con: Any, view: View, mine: _Rows, until: int
) -> int:
    """Compute the states that hold the entity's events again, without them; the number of these
    states.

    Where ids are remembered, this computes all states again: without one of the entity's events,
    another event of the same id may count, for another entity (T7). So it does where the entity of
    an event is taken from another view.
    """
    if view.dedupe_us is not None or not told_by_rows(view):
        events = project.events(con, view)
        done = materialize_view(
            con, online, project.name, view, events, until=until, repair=_repair_of(project)
        )
        return done.entities
    types = {p.name: p.type for p in view.join_keys}
    relation = make_events(con, view, project.all_events(con, view, mine.whenever))
    known = " AND ".join(f"{quote(n)} IS NOT NULL" for n in types)
    named = f"(SELECT DISTINCT {', '.join(map(quote, types))} FROM {relation})"
    entities = [[*row.values()] for row in rows(con, named, types, then=f"WHERE {known}")]
    if entities:
        events = project.events(con, view)
        materialize_view(
            con,
            online,
            project.name,
            view,
            events,
            until=until,
            only=entities,
            repair=_repair_of(project),
        )
    return len(entities)


def _remove_states(
    project: Project,
    online: OnlineStore,
    con: Any,
    name: str,
    types: Mapping[str, Type],
    values: Mapping[str, Any],
    mine: _Rows,
    progress: Progress,
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Remove the entity's states for every version of every view.

    The result is the number removed for each version, and the versions that neither the registry
    nor the repo knows.
    """
    known = {(v.name, v.fingerprint): v for v in _all_views(project)}
    fed = fed_views(online, project.name)
    repairs = {(v.name, v.fingerprint): (v, _repair_of(project)) for v in fed}
    wanted = {n: encode_key(types[n], values[n]) for n in types}
    total = online.count()
    removed: Counter[str] = Counter()
    unknown: dict[str, None] = {}

    def stored(kind: str) -> Iterator[list[tuple[bytes, View, bytes]]]:
        return _stored(online, project.name, kind, known, unknown)

    names = {source for source, held in mine.held.items() if held}

    def is_left(view: View) -> bool:
        """Whether it is a version that is fed no longer, whose rows have taken features."""
        return (view.name, view.fingerprint) not in repairs and _takes_of(view, names)

    def is_mine(view: View, rest: bytes) -> bool:
        if is_left(view):
            return True
        return _is_of(project, view, name, types) and _parts(view, rest, types) == wanted

    for number, batch in enumerate(stored("state"), 1):
        progress("states", min(number * _STEP, total), total)
        for key, view, rest in batch:
            if is_mine(view, rest):
                version = (view.name, view.fingerprint)
                repair = repairs[version][1] if version in repairs else None
                _remove_state(online, view, key, mine.until, repair)
                removed[":".join(version)] += 1
    for key, view, rest in chain.from_iterable(stored("block")):
        if is_mine(view, rest):
            _remove_left_block(online, view, key)
    for key, view, _ in chain.from_iterable(stored("ids")):
        if is_left(view):
            online.delete([key])
        elif (view.name, view.fingerprint) not in repairs:  # fed ones were computed again
            _remove_memory(online, view, key, types, wanted, mine.held)
    for view, repair in repairs.values():
        if repair.keys and project.readable(view):
            remake(project, online, con, view, repair)  # of what has arrived since
    progress("states", total, total)
    return dict(removed), tuple(unknown)


def _stored(
    online: OnlineStore,
    project: str,
    kind: str,
    known: Mapping[tuple[str, str], View],
    unknown: dict[str, None],
) -> Iterator[list[tuple[bytes, View, bytes]]]:
    """The keys of a kind in batches, each with its view and the part that names the entity. The
    versions of views that are not `known` are added to `unknown`."""
    for keys in online.scan(project_key(project, kind) + b":"):
        batch = []
        for key in keys:
            _, _, _, view_name, fingerprint, rest = key.split(b":", 5)
            version = (view_name.decode(), fingerprint.decode())
            view = known.get(version)
            if view is None:
                unknown[":".join(version)] = None
            else:
                batch.append((key, view, rest))
        yield batch


def _remove_left_block(online: OnlineStore, view: View, key: bytes) -> None:
    """Remove a block that belongs to no state, as where only a state's own key was removed."""
    head = head_key(key)
    assert head is not None
    while True:
        (blob,) = online.read([head])
        if blob is not None and key in state_keys(view, head, opened(head, blob)):
            return
        if online.delete_if([key], [head], [blob]):
            return


def _remove_memory(
    online: OnlineStore,
    view: View,
    key: bytes,
    types: Mapping[str, Type],
    wanted: Mapping[str, bytes],
    held: Mapping[str, Sequence[Columns]],
) -> None:
    """Remove what a version that is no longer fed remembers of an id, if one of the rows is the
    entity's."""
    (blob,) = online.read([key])
    try:
        known = Ids(view).read(key, blob)
    except DamagedState:  # nobody can tell any more whose rows it has
        online.delete([key])
        return
    for row in known:
        source, own = own_row(view.source, row)
        # A version may read a source that is no longer defined, where its keys have their names.
        ways = held.get(source) or [Columns({name: name for name in types})]
        if any(_is_of_row(own, columns, types, wanted) for columns in ways):
            online.delete([key])
            return


def _is_of_row(
    row: Mapping[str, Any],
    columns: Columns,
    types: Mapping[str, Type],
    wanted: Mapping[str, bytes],
) -> bool:
    """Whether a row has the encoded keys in these columns, or in its list."""
    for name, column in columns.names.items():
        value = row.get(column)
        here = (value or ()) if name == columns.listed else (value,)
        if wanted[name] not in [encode_key(types[name], one) for one in here if one is not None]:
            return False
    return True


def _all_views(project: Project) -> Iterator[View]:
    registry = project.registry
    for name in registry.names("view"):
        for fingerprint, *_ in registry.versions("view", name):
            found = registry.definition("view", name, fingerprint)
            assert isinstance(found, View)
            yield found
    yield from fed_views(project.online, project.name)


def _is_of(project: Project, view: View, name: str, types: Mapping[str, Type]) -> bool:
    """Whether a version of a view is keyed by the entity. Where two entities have the same keys,
    the repo's view of that name decides."""
    written = project.repo.views.get(view.name)
    named = written is None or any(e.name == name for e in written.entities)
    return _keyed_by(view, types) and named


def _parts(view: View, rest: bytes, types: Mapping[str, Type]) -> dict[str, bytes]:
    """The encoded values of the given keys, from the end of a state's key, `{2:i1…}`."""
    parts, at = {}, 1
    for param in view.join_keys:
        colon = rest.index(b":", at)
        end = colon + 1 + int(rest[at:colon])
        if param.name in types:
            parts[param.name] = rest[colon + 1 : end]
        at = end
    return parts


def _remove_state(
    online: OnlineStore, view: View, key: bytes, until: int, repair: Repair | None
) -> None:
    """Remove a state. Where it is fed, and has later events, remove only what it knows of the time
    before; `repair` notes one whose later arrival is impossible (S3)."""

    def change(_: int, state: State) -> None:
        state.replace(NEVER, until, [], first=NEVER_VISIBLE, newest=NEVER)

    while True:
        (value,) = online.read([key])
        # A damaged state has no blocks that it names; what is left of these is removed below.
        blob = None if value is None else opened(key, value)
        if blob is not None and repair is not None and newest_arrival(blob) > until:
            if not repair.ahead(newest_arrival(blob)):
                update_states(online, view, [key], change, create=False)
                return
            repair.keys.add(key)
        if value is None or online.delete_if(state_keys(view, key, blob), [key], [value]):
            return
