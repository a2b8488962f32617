"""Turns the parts of a file of HTML and the values of their names into pages.

A package that makes pages has a page.html with parts (`<template id=…>`) and its own style. What is
no `Html` is escaped, so that nothing that comes from data is markup. `base.css` is what all pages
share.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib import resources
from typing import Any

CATALOG_MARK = "featurekit-catalog.json"
"""The file by which a catalogue of pages is known, so that no other folder is replaced or
served."""
_PART = re.compile(r'<template id="([\w-]+)">(.*?)</template>', re.DOTALL)
_MARKUP = re.compile("[&<>\"']")
_NAME = re.compile(r"\$\{?(\w+)\}?")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


class Parts:
    """The parts of the page.html of a package."""

    def __init__(self, package: str) -> None:
        self.package = package

    def fill(self, part: str, **values: object) -> Html:
        """A part of the page with values in the place of its names."""
        # Written by hand, since a large catalogue fills half a million parts.
        first, *pieces = self._parts[part]
        made = [first]
        for name, literal in pieces:
            value = values[name]
            made += value if isinstance(value, Html) else escaped(value), literal
        return Html("".join(made))

    def asset(self, name: str) -> Html:
        """The text of a file that goes into the page as it is."""
        return Html(_text(self.package, name))

    @cached_property
    def _parts(self) -> Mapping[str, tuple[Any, ...]]:
        """The parts by name, each as its first literal, and then pairs of a name and the literal
        behind it."""
        # Line breaks with the indents after them lay out the file, and are no white space of the
        # page.
        found = _PART.findall(_text(self.package, "page.html"))
        return {name: _pieces(re.sub(r"\n\s*", "", text)) for name, text in found}


def _pieces(text: str) -> tuple[Any, ...]:
    first, *rest = _NAME.split(text)
    return first, *zip(rest[::2], rest[1::2], strict=True)


def escaped(value: object) -> str:
    """A value's text without markup. A lone surrogate, which no file can hold, is written as its
    escape."""
    text = str(value)
    if _MARKUP.search(text):
        text = html.escape(text)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def joined(parts: Iterable[Html]) -> Html:
    """Several parts, one after the other."""
    return Html("".join(parts))


def base_css() -> Html:
    """The style that all pages share."""
    return Html(_text(__name__, "base.css"))


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
