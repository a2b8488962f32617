"""Turns what a store has to say into small pieces of HTML, which notebooks show.

Everything is escaped, since names and values are whatever users and their data say. There are no
scripts, and no colours but the page's own, so that it reads well on a dark page, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST_ROWS = 100
"""How many rows of a table are shown."""
_MOST_LETTERS, _MOST_OF_A_LINE = 80, 4_000
_CELL = "padding:2px 8px;text-align:left;vertical-align:top;border:1px solid currentcolor"
_TABLE = "border-collapse:collapse;margin:4px 0;opacity:.9"


def box(title: str, *parts: str) -> str:
    """A heading, and below it pieces of HTML."""
    return f'<div class="featurekit"><b>{text(title)}</b>{"".join(parts)}</div>'


def line(words: object) -> str:
    """A line of text, such as an error, which is not shortened as a value is."""
    return f"<div>{text(words, most=_MOST_OF_A_LINE)}</div>"


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a heading for each column. Only its first rows are shown, and how many are
    left."""
    every = list(rows)
    head = "".join(f'<th style="{_CELL}">{text(name)}</th>' for name in names)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{text(value)}</td>' for value in row) + "</tr>"
        for row in every[:MOST_ROWS]
    )
    made = f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    left = len(every) - MOST_ROWS
    return made + (line(f"… and {left:,} more") if left > 0 else "")


def facts(found: Mapping[str, Any]) -> str:
    """A table of names and what they are."""
    return table(["", ""], found.items())


def text(value: Any, *, most: int = _MOST_LETTERS) -> str:
    """A value as text that is no HTML, shortened. A str is itself, anything else its repr."""
    from html import escape  # a serving process shows nothing, and need not load it

    shown = value if isinstance(value, str) else repr(value)
    if len(shown) > most:
        shown = f"{shown[: most - 1]}…"
    return escape(shown.encode(errors="backslashreplace").decode())
