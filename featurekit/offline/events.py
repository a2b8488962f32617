"""Turns the files of a source and its log of pushes into a relation of its events in DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.core.sql import quote
from featurekit.define.contracts.compiled import contract_of
from featurekit.define.definitions import EventSource
from featurekit.define.origins import Database
from featurekit.define.plan import Part, Source
from featurekit.define.union import united_sql
from featurekit.errors import SourceError
from featurekit.log.relation import log_sql
from featurekit.log.segments import segments
from featurekit.log.tombstones import Forgotten
from featurekit.sources import read_events
from featurekit.sources.contract import judged_sql, kept_sql
from featurekit.sources.events import CheckedFiles
from featurekit.sources.identity import Identity
from featurekit.sources.reading import key_of, readings_of
from featurekit.sources.seen import never_had_files, remember_files, vanished


@dataclass(frozen=True, slots=True)
class EventRows:
    """A source's rows in DuckDB: the columns of the schema, `__ts` and `__created`.

    `prompt`: every event arrived when it happened, so __created adds nothing (T3). `rows`: the
    number of rows, if it is known. `newest`: for a view of labels, the newest arrival of each of
    its sources, NEVER where one has no row (T10).
    """

    relation: str
    prompt: bool
    rows: int | None = None
    newest: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A source as it was read: its events, and the files that they came from."""

    events: EventRows
    about: dict[str, Any]
    files: str | None = None
    """The rows of the files alone, as a relation; of a union, their arrivals."""
    copy: str | None = None
    """The path of the copy, where the source is a database."""
    parts: Mapping[str, Snapshot] | None = None
    """Of a union, each of its sources as it was read; then `about` is empty."""

    def each(self, name: str) -> dict[str, Snapshot]:
        """What was read of each source by its name: of this one, or of those of the union."""
        return {name: self} if self.parts is None else dict(self.parts)

    def arriving_after(self, con: Any, known_at: int) -> int:
        """The number of rows of the files that have not arrived by `known_at` (S3)."""
        if self.files is None:
            return 0
        counted = f"SELECT count(*) FROM {self.files} WHERE __created > {known_at}"
        return int(con.execute(counted).fetchall()[0][0])


def check_unchanged(read: Mapping[str, Snapshot]) -> None:
    """SourceError where a file that is there has another content than when it was read, of each
    source by its name: a query that was made of it meanwhile may have seen either."""
    for name, snapshot in read.items():
        for file in snapshot.about["files"]:
            path = Path(file.get("path", ""))
            if path.is_file() and Identity.of(path, None).digest != file["sha256"]:
                raise SourceError(
                    f"EventSource {name!r}: {path} changed while it was read; run this again"
                )


def united_events(
    source: Source,
    parts: Sequence[Snapshot],
    *,
    marked: bool = False,
    enriched: Callable[[Part, str], str] = lambda part, relation: relation,
) -> Snapshot:
    """The events of a union, of what was read of each of its sources (T11); `marked` as they are.
    `enriched` gives a relation of a part's rows with what they take from other views."""
    assert source.parts is not None
    also = ["__pushed"] if marked else []
    rows = [part.events.rows for part in parts]
    relations = [
        enriched(part, read.events.relation) for part, read in zip(source.parts, parts, strict=True)
    ]
    events = EventRows(
        united_sql(source, relations, also),
        all(part.events.prompt for part in parts),
        None if None in rows else sum(n for n in rows if n is not None),
    )
    arrivals = [f"SELECT __created FROM {part.files}" for part in parts if part.files is not None]
    return Snapshot(
        events,
        {},
        f"({' UNION ALL '.join(arrivals)})" if arrivals else None,
        parts=dict(zip((one.name for one in source.sources), parts, strict=True)),
    )


def source_events(
    con: Any,
    source: EventSource,
    *,
    base: Path,
    state_dir: Path,
    forgotten: Forgotten | None = None,
    marked: bool = False,
    may_be_empty: bool = False,
    judged: bool = True,
) -> Snapshot:
    """The events of a source's files and log of pushes, without those of `forgotten` entities. With
    `marked`, a column `__pushed` says whether an event was pushed.

    A source without a file yet has what was pushed to it. SourceError where nothing was, unless it
    `may_be_empty`: the path may be misspelt. SourceError, too, where files were read before and
    none is there any more.

    Rows that the source's contract sets aside are left out, of the log as of the files: they may
    have been pushed before there was the rule (S5). Where rows are not `judged`, they are there.
    """
    lost = vanished(source, base, state_dir)
    if lost is not None:
        raise lost
    logged = segments(state_dir, source.name)
    then_none = readings_of(con).get(key_of(source)) == ()  # when a manifest was made
    none = never_had_files(source, base, state_dir) and (logged or may_be_empty)
    if none or then_none:
        read = CheckedFiles(log_sql(con, [], source), 0, 0, (), ())
    else:
        read = read_events(con, source, base=base, state_dir=state_dir, judged=judged)
        remember_files(source, read.files, state_dir)
    relation = read.relation
    if logged or marked:
        columns = ", ".join([*map(quote, source.schema), "__ts", "__created"])
        no, yes = (", FALSE AS __pushed", ", TRUE") if marked else ("", "")
        relation = f"SELECT {columns}{no} FROM {relation}"
        if logged:
            pushed = log_sql(con, logged, source)
            if judged:
                pushed = _kept(con, source, pushed)
            relation += f" UNION ALL SELECT {columns}{yes} FROM {pushed}"
        relation = f"({relation})"
    about: dict[str, Any] = {
        "files": [
            about if "sha256" in about or "frame" in about else {**about, "sha256": digest}
            for about, digest in zip((f.about for f in read.files), read.digests, strict=True)
        ],
        "rows": read.rows,
        "quarantined": read.quarantined,
        "pushed_segments": len(logged),
    }
    if forgotten:
        relation = forgotten.relation(con, relation)
        about["forgotten"] = sum(map(len, forgotten.groups.values()))
    prompt = source.created_timestamp_column is None and source.arrives is None and not logged
    rows = None if forgotten or logged else read.rows
    copy = read.files[0].path if isinstance(source.origin, Database) and read.files else None
    return Snapshot(EventRows(relation, prompt, rows), about, read.relation, copy)


def _kept(con: Any, source: EventSource, pushed: str) -> str:
    """The rows of the log that break no rule which sets rows aside."""
    aside = contract_of(source).aside if source.expect else ()
    if not aside:
        return pushed
    ruled = judged_sql(aside, pushed)
    ruled.register(con)
    return f"({kept_sql(source, ruled)})"
