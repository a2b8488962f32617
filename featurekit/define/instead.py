"""Turns a wrong part of a definition into what to write instead, as the end of an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featurekit.aggregates.base import Aggregate
from featurekit.core.examples import assigned
from featurekit.core.frames import is_frame
from featurekit.define.object_stores import no_objects, scheme_of

_OTHER_FORMATS = frozenset(
    {"json", "jsonl", "ndjson", "xlsx", "xls", "avro", "orc", "feather", "arrow", "db", "sqlite"}
    | {"pkl", "pickle", "h5", "hdf5", "xml", "delta", "iceberg", "duckdb"}
)


def as_mapping(names: Any) -> str:
    """The features of a view, as a list of columns probably means them."""
    if isinstance(names, (list, tuple, set)) and names and all(isinstance(n, str) for n in names):
        shown = [f'"{name}": "{name}"' for name in list(names)[:2]] + ["…"] * (len(names) > 2)
        return f"features={{{', '.join(shown)}}} for these columns of the latest row"
    return assigned("FeatureView", "features")


def as_item(item: Any) -> str:
    """What to write instead of something that is no part of a service."""
    if isinstance(item, str):
        name = item.partition(":")[0] if item.partition(":")[0].isidentifier() else "the variable"
        return f"; write {name}, the variable, without quotes"
    if callable(item):
        return "; write @feature above its def"
    if isinstance(item, Mapping):
        return "; write the view itself, as in features=[customer_orders], and not its features"
    return f"; write {assigned('FeatureService', 'features')}"


def as_path(given: Any) -> str:
    """The path as one text."""
    one = given[0] if isinstance(given, (list, tuple)) and given else None
    if not isinstance(one, str):
        return assigned("EventSource", "path")
    several = ', or for several files a glob, as in path="data/*.csv"'
    return f'path="{one}"{several}'


def as_source(given: Any) -> str:
    """What to write instead of something that is no source: a frame is put into one."""
    if is_frame(given):
        return (
            'source=EventSource("orders", frame=…, schema={"customer_id": int, …}, '
            'timestamp_field="ordered_at"), with this frame'
        )
    if isinstance(given, str):
        name = given if given.isidentifier() else "orders"
        return f"source={name}, the variable and not its name"
    if isinstance(given, (list, tuple)):
        return "sources=[web, app] for the events of several sources"
    return "source=orders, the variable of an EventSource"


def elsewhere(path: str) -> str | None:
    """Why a path names no file of this machine or of a store of objects, and what to write; None
    where it may."""
    if scheme_of(path) is not None:
        return no_objects(path)
    if path == "~" or path.startswith("~/"):
        return f'~ is not read as a home folder; write path="{Path(path).expanduser()}"'
    return None


def of_ending(ending: str, formats: Sequence[str]) -> str:
    """What to do with files that end so: convert those of another format, and name those of a
    folder."""
    written = " or ".join(f'format="{name}"' for name in formats)
    if not ending:
        return (
            'write a file, as in path="data/orders.csv", the files of a folder, as in '
            f'path="data/*.csv", or, where it is one file of such a name, {written}'
        )
    if ending in _OTHER_FORMATS:
        return "convert the files to Parquet or CSV, or hand over their events with frame="
    return f"write {written} where the files are of that format, or convert them"


def as_keys(names: Any) -> str:
    """Join keys as they are written, with the names of a list or of one text."""
    given = [names] if isinstance(names, str) else names
    if isinstance(given, (list, tuple)) and given and all(isinstance(n, str) for n in given):
        keys = ", ".join(f'"{name}": int' for name in given)
        return f"join_keys={{{keys}}}, with the type of each"
    return assigned("Entity", "join_keys")


def as_feature(name: str, value: Any) -> str:
    """What to write instead of a value that is no feature."""
    if isinstance(value, type) and issubclass(value, Aggregate):
        return f'call it, as in {value.__name__}("amount", window="7d")'
    if callable(value):
        return "write @feature above its def"
    return f'write "{name}": "amount", the name of a column, or Sum("amount", window="7d")'


def add_to_schema(role: str, column: str, type_: str) -> str:
    """What to write for a column that the schema lacks. None of its other columns is proposed:
    events that are told apart or ordered by the wrong column are other events."""
    return (
        f'add it there with its type, as in "{column}": {type_}, correct the name, or leave {role} '
        "out"
    )
