"""Turns Feast's sources into EventSources, and says where their rows are to be found."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from featurekit.plugins.feast.importing.draft import (
    Draft,
    SourceDraft,
    definition,
    described,
    plain_name,
)
from featurekit.plugins.feast.importing.python_text import Part, call, mapping, text

_STREAMS = ("PushSource", "KafkaSource", "KinesisSource")
_EXPORTS = {
    "BigQuerySource": "`bq extract --destination_format PARQUET`",
    "SnowflakeSource": "`COPY INTO @stage … FILE_FORMAT = (TYPE = PARQUET)`",
    "RedshiftSource": "`UNLOAD … FORMAT PARQUET`",
    "AthenaSource": "`UNLOAD … WITH (format = 'PARQUET')`",
}
_CREATED = (
    "`created_timestamp_column` orders rows of one instant, as `sequence=`, on both paths; online, "
    "Feast does not look at it",
    "where it says when a row was known, write `created_timestamp_column=` in the place of "
    "`sequence=`: then no training row sees a row before that (T3)",
)


def draft_sources(draft: Draft) -> None:
    """Draft each source of files and tables; streams and pushes go to the one that they fill."""
    for source in draft.repo.contents.data_sources:
        if type(source).__name__ == "RequestSource":
            draft.report.about("request source", source.name)
        elif type(source).__name__ in _STREAMS:
            _stream(draft, source)
        else:
            source_of(draft, source)


def source_of(draft: Draft, source: Any) -> SourceDraft:
    """The draft of a source of files or tables."""
    known = draft.sources.get(source.name)
    if known is not None:
        return known
    told = draft.report.about("source", source.name)
    name = _free_name(draft, source)
    if name != source.name:
        told.changed(f"it is called `{name}` here")
    place = _place(draft, source, name)
    made = SourceDraft(
        variable=draft.variable(name, "source"),
        name=name,
        source=source,
        place=place,
        timestamp=source.timestamp_field or "event_timestamp",
        created=source.created_timestamp_column or None,
    )
    if not source.timestamp_field:
        told.changed(
            "Feast finds its timestamp when it is applied; `event_timestamp` is written here",
            "write the column that says when a row happened as `timestamp_field=`",
        )
    back = {new: old for old, new in (source.field_mapping or {}).items()}
    made.timestamp = back.get(made.timestamp, made.timestamp)
    if made.created is not None:
        made.created = back.get(made.created, made.created)
        made.schema[made.created] = "datetime | None"
        draft.imports.add("from datetime import datetime")
        if not draft.repo.ours:
            told.changed(*_CREATED)
    told.here = made.variable
    draft.sources[source.name] = made
    return made


def _free_name(draft: Draft, source: Any) -> str:
    """The source's name; that of its file where Feast took the path for a name."""
    given = source.name
    if "/" in given or given.endswith(".parquet"):
        given = Path(given.rstrip("/")).stem
    name = made = plain_name(given)
    names = {one.name.lower() for one in draft.sources.values()}
    number = 2
    while made.lower() in names:
        made, number = f"{name}_{number}", number + 1
    return made


def _place(draft: Draft, source: Any, name: str) -> dict[str, Part | str]:
    """Where its rows are, as arguments of an EventSource."""
    kind = type(source).__name__
    told = draft.report.about("source", source.name)
    path = getattr(source, "path", None)
    form = str(getattr(source, "file_format", None) or "parquet").lower()
    if kind in ("FileSource", "SparkSource", "RaySource") and path:
        if getattr(source, "s3_endpoint_override", ""):
            told.changed(
                f"its endpoint {source.s3_endpoint_override} is not in the definition",
                "set AWS_ENDPOINT_URL in the environment",
            )
        if "delta" in form:
            draft.imports.add("from featurekit import Delta")
            return {"origin": call("Delta", text(_path(draft, path)))}
        if "parquet" in form or "csv" in form:
            return _files(draft, path, "csv" if "csv" in form else "parquet")
    if kind == "PostgreSQLSource":
        return _postgres(draft, source)
    wanted = getattr(source, "table", None) or getattr(source, "query", None) or path or name
    how = _EXPORTS.get(kind, "its own export")
    told.lost(
        f"its rows are in a {kind} ({_one_line(str(wanted))}), which featurekit does not read",
        f"export them to data/{name}.parquet, as by {how}, or push them: until there is a file "
        "the source has what is pushed",
    )
    return {"path": text(f"data/{name}.parquet")}


def _files(draft: Draft, path: str, form: str) -> dict[str, Part | str]:
    made = _path(draft, path)
    whole = "://" not in path and (draft.repo.folder / path).is_dir()
    if whole or path.endswith("/"):
        made = f"{made.rstrip('/')}/**/*.{form}"
    ending = made.endswith(f".{form}")
    placed: dict[str, Part | str] = {"path": text(made)}
    return placed if ending else {**placed, "format": text(form)}


def _path(draft: Draft, path: str) -> str:
    """The path as it is from the new folder."""
    if "://" in path and not path.startswith("file://"):
        return path
    path = path.removeprefix("file://")
    if Path(path).is_absolute():
        return path
    return Path(os.path.relpath(draft.repo.folder / path, draft.folder.resolve())).as_posix()


def _one_line(value: str) -> str:
    flat = " ".join(value.split())
    return flat if len(flat) <= 80 else f"{flat[:77]}…"


def _postgres(draft: Draft, source: Any) -> dict[str, Part | str]:
    """A table or query of PostgreSQL, with a variable for the password."""
    options = source._postgres_options
    store = draft.repo.settings.get("offline_store")
    store = store if isinstance(store, dict) else {}
    told = draft.report.about("source", source.name)
    told.changed(
        "it is read with the URL that stands in the definition, and the password is a variable",
        "set POSTGRES_PASSWORD in the environment",
    )
    host = f"{store.get('host', 'localhost')}:{store.get('port', 5432)}"
    user = quote(str(store.get("user", "feast")), safe="${}")
    url = f"postgresql://{user}:${{POSTGRES_PASSWORD}}@{host}/{store.get('database', 'feast')}"
    draft.imports.add("from featurekit import Postgres")
    if options._table:
        table = options._table
        schema = store.get("db_schema", "public")
        named = {"table": text(table if "." in table else f"{schema}.{table}")}
    else:
        named = {"query": text(options._query)}
    return {"origin": call("Postgres", text(url), **named)}


def _stream(draft: Draft, source: Any) -> None:
    """A push source or a stream: its rows go to the source that it fills."""
    kind = type(source).__name__
    told = draft.report.about("push source" if kind == "PushSource" else "stream", source.name)
    batch = source.batch_source
    if batch is None:
        told.lost("it has no batch source, so it has no columns", "write an EventSource for it")
        return
    fills = source_of(draft, batch)
    told.here = fills.variable
    if kind == "PushSource":
        told.changed(f"its rows are pushed to `{fills.name}`, which both paths read")
    else:
        told.lost(
            f"featurekit reads no {kind.removesuffix('Source')}; the rows of its batch source are "
            f"those of `{fills.name}`",
            f"push its rows to `{fills.name}` over HTTP, or by `featurekit consume {fills.name}` "
            "from a Redis stream",
        )


def source_part(made: SourceDraft, timezone: str = "UTC") -> Part:
    """The definition of a source."""
    named: dict[str, Part | str | None] = dict(made.place)
    named["schema"] = mapping(made.schema)
    named["timestamp_field"] = text(made.timestamp)
    if made.created is not None:
        named["sequence"] = text(made.created)
    return definition("EventSource", made.name, **named, **described(made.source))


def needs(made: SourceDraft, column: str, hint: str) -> str | None:
    """Have the source read a column; why not, where another view reads it as another type."""
    known = made.schema.get(column)
    if known is not None and _base(known) != _base(hint):
        return f"another view reads the column {column!r} of its source as {_base(known)}"
    # A join key is never None, so that it is read as it is written first.
    if known is None or len(hint) < len(known):
        made.schema[column] = hint
    return None


def _base(hint: str) -> str:
    return re.sub(r" \| None$", "", hint)
