"""Turns a push through Feast into a push of featurekit: an event of its source, on both paths."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from feast.utils import _convert_arrow_to_proto

from featurekit.errors import DefinitionError
from featurekit.feed.push import take
from featurekit.plugins.feast.kinds import kind_of
from featurekit.plugins.feast.published import is_published, kind_of_view, project_of
from featurekit.plugins.feast.shown import OF

Row = tuple[Any, dict[str, Any], dt.datetime, dt.datetime | None]
_MOST = 64
_taken: OrderedDict[bytes, None] = OrderedDict()
"""Pushes of this process that Feast may still hand to the offline store, too."""
_lock = threading.Lock()


def is_push(view: Any) -> bool:
    """Whether Feast writes to a published view. DefinitionError for one that takes no pushes."""
    if not is_published(view):
        return False
    if kind_of_view(view) != "push":
        raise DefinitionError(
            f"view {view.name!r} is published by featurekit, which fills it itself (`featurekit "
            "materialize`); push the events of its source, to the push source beside it"
        )
    return True


def push_rows(
    config: Any, view: Any, data: Sequence[Row], progress: Callable[[int], Any] | None
) -> None:
    """Push rows to the source of a view that takes pushes. They are on both paths then."""
    source = project_of(config).source(view.tags[OF])
    kinds = {f.name: kind_of(f.dtype, what=f"column {f.name!r}") for f in view.features}
    rows = []
    for _, values, happened, created in data:
        row = {name: kind.read(values[name], name) for name, kind in kinds.items()}
        row[source.timestamp_field] = _in_utc(happened)
        if source.created_timestamp_column is not None and created is not None:
            row[source.created_timestamp_column] = _in_utc(created)
        rows.append(row)
    take(project_of(config), source.name, rows)
    with _lock:
        _taken[_digest(view, data)] = None
        while len(_taken) > _MOST:
            _taken.popitem(last=False)
    if progress is not None:
        progress(len(rows))


def pushed_columns(config: Any, source: Any) -> list[tuple[str, str]]:
    """The columns of a push to a published source, with their types in words."""
    made = project_of(config).source(source.tags[OF])
    found = {name: str(type_) for name, type_ in made.schema.items()}
    for instant in (made.timestamp_field, made.created_timestamp_column):
        if instant is not None:
            found.setdefault(instant, "datetime")
    return list(found.items())


def settle_offline(config: Any, view: Any, table: pa.Table) -> None:
    """The offline half of a push to both stores, whose rows were taken just before: there is
    nothing to do. DefinitionError, with nothing taken, for a push to the offline store alone."""
    data = _convert_arrow_to_proto(table, view, {})
    with _lock:
        if _taken.pop(_digest(view, data), _taken) is None:
            return
    raise DefinitionError(
        f"push source {view.name!r}: a push to featurekit is on both paths at once, and there is "
        "none to the offline store alone; push with to=PushMode.ONLINE"
    )


def _digest(view: Any, data: Sequence[Row]) -> bytes:
    made = hashlib.sha256(view.name.encode())
    for _, values, happened, created in data:
        for name in sorted(values):
            made.update(values[name].SerializeToString(deterministic=True) + b"\0")
        made.update(f"{happened!r} {created!r}".encode())
    return made.digest()


def _in_utc(given: dt.datetime) -> dt.datetime:
    return given.replace(tzinfo=dt.UTC) if given.tzinfo is None else given.astimezone(dt.UTC)
