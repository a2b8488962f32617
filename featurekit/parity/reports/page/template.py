"""Turns a part of page.html and the values of its names into HTML.

What is no `Html` is escaped, so that nothing that comes from data is markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from string import Template

_PART = re.compile(r'<template id="([\w-]+)">(.*?)</template>', re.DOTALL)


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def fill(part: str, **values: object) -> Html:
    """A part of the page with values in the place of its names."""
    shown = {n: v if isinstance(v, Html) else html.escape(str(v)) for n, v in values.items()}
    return Html(_parts()[part].substitute(shown))


def joined(parts: Iterable[Html]) -> Html:
    """Several parts, one after the other."""
    return Html("".join(parts))


def asset(name: str) -> Html:
    """The text of a file that goes into the page as it is."""
    return Html(_text(name))


@cache
def _parts() -> dict[str, Template]:
    # Line breaks with the indents after them lay out the file, and are no white space of the page.
    return {
        n: Template(re.sub(r"\n\s*", "", text)) for n, text in _PART.findall(_text("page.html"))
    }


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
