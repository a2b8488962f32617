"""Turns the names of a file's folders into the texts of columns, as Hive writes them."""

from __future__ import annotations

from urllib.parse import unquote

_NULL = "__HIVE_DEFAULT_PARTITION__"


def folder_texts(path: str) -> dict[str, str | None]:
    """The columns that the names of a path's folders say, as `region=eu/day=2024-01-01` does, with
    their texts; null is written `__HIVE_DEFAULT_PARTITION__`."""
    named = (part.partition("=") for part in path.split("/")[:-1])
    texts = {unquote(name): unquote(text) for name, sign, text in named if sign and name}
    return {name: None if text == _NULL else text for name, text in texts.items()}
