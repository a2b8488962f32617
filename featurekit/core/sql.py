"""Turns names and values into SQL identifiers and literals, in one spelling for all queries."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

from featurekit.core.types import Type


def quote(identifier: str) -> str:
    """A quoted SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def unquoted(quoted: str) -> str:
    """The name inside a quoted identifier; the inverse of `quote`."""
    return quoted[1:-1].replace('""', '"')


def literal(value: Any, type_: Type) -> str:
    """A typed SQL literal, exact to the bit."""
    if value is None:
        return f"NULL::{type_.duckdb}" if type_.name != "None" else "NULL"
    match value:
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return f"'{value}'::BIGINT" if value < 0 else f"{value}::BIGINT"
        case float():
            text = "nan" if math.isnan(value) else repr(value)
            return f"'{text}'::DOUBLE"
        case str():
            return text_literal(value)
        case bytes():
            return "'" + "".join(f"\\x{b:02X}" for b in value) + "'::BLOB"
        case dt.datetime():
            return f"'{value.astimezone(dt.UTC).replace(tzinfo=None)}'::TIMESTAMP"
        case dt.date():
            return f"'{value}'::DATE"
        case dt.timedelta():
            return f"'{value // dt.timedelta(microseconds=1)}'::BIGINT"
        case list() | tuple():
            assert type_.item is not None
            items = ", ".join(literal(v, type_.item) for v in value)
            return f"CAST([{items}] AS {type_.duckdb})"  # x::T[][1] is a type, not an element
        case _:
            raise TypeError(f"{value!r} has no SQL literal")


def text_literal(value: str, *, apart: str = "\0") -> str:
    """A VARCHAR literal. Characters in `apart` are written by their code points: a NUL cannot stand
    in the text of a query."""
    pieces, plain = [], ""
    for character in value:
        if character in apart:
            pieces += [_quoted_text(plain), f"chr({ord(character)})"]
            plain = ""
        else:
            plain += character
    pieces.append(_quoted_text(plain))
    shown = [p for p in pieces if p != "''"] or ["''"]
    return shown[0] if len(shown) == 1 else f"({' || '.join(shown)})"


def _quoted_text(plain: str) -> str:
    return "'" + plain.replace("'", "''") + "'"


def paths_sql(paths: Sequence[str]) -> str:
    """The paths as a DuckDB list, each a glob that matches only itself."""
    return f"[{', '.join(text_literal(escaped(path)) for path in paths)}]"


def escaped(path: str) -> str:
    """The path as a glob that matches only itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def parquet_sql(paths: Sequence[str]) -> str:
    """A FROM item over Parquet files with equal columns. A folder name such as `a=1` makes no
    column."""
    return f"read_parquet({paths_sql(paths)}, hive_partitioning=false, union_by_name=false)"
