"""Turns the names of a file's folders into columns of text, as Hive writes them.

The texts stand in the query as constants. So DuckDB reads no file whose texts a query leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from featurekit.core.sql import quote, text_literal
from featurekit.sources.protocol import FileColumn

Texts = Mapping[str, str | None]
_NULL = "__HIVE_DEFAULT_PARTITION__"


def folder_texts(path: str) -> dict[str, str | None]:
    """The columns that the names of a path's folders say, as `region=eu/day=2024-01-01` does, with
    their texts; null is written `__HIVE_DEFAULT_PARTITION__`."""
    named = (part.partition("=") for part in path.split("/")[:-1])
    texts = {unquote(name): unquote(text) for name, sign, text in named if sign and name}
    return {name: None if text == _NULL else text for name, text in texts.items()}


def with_texts(scan: str, texts: Texts, found: Mapping[str, FileColumn]) -> str:
    """A scan with a column for each text, under the name that `found` gives it."""
    if not texts:
        return scan
    items = ", ".join(f"{_sql(text)} AS {quote(found[n].held)}" for n, text in texts.items())
    return f"(SELECT *, {items} FROM {scan})"


def with_texts_by_path(
    scan: str, texts: Mapping[str, Texts], found: Mapping[str, FileColumn]
) -> str:
    """A scan of many paths with a column for each text of a path."""
    names = [*next(iter(texts.values()))]
    rows = ", ".join(
        f"({', '.join([text_literal(path), *(_sql(of[name]) for name in names)])})"
        for path, of in texts.items()
    )
    held = [quote(found[name].held) for name in names]
    columns = ", ".join(f"__t.__{place} AS {name}" for place, name in enumerate(held))
    named = ", ".join(["__path", *(f"__{place}" for place in range(len(names)))])
    joined = f"{scan} AS __f JOIN (VALUES {rows}) AS __t({named}) ON __f.filename = __t.__path"
    return f"(SELECT __f.*, {columns} FROM {joined})"


def _sql(text: str | None) -> str:
    return f"{'NULL' if text is None else text_literal(text)}::VARCHAR"
