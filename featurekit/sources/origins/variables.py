"""Turns a text with variables of the environment into the text that is meant, and what a library
says of it back into one without their values."""

from __future__ import annotations

import os
from collections.abc import Iterable
from urllib.parse import quote

from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.define.origins import VARIABLE
from featurekit.errors import SourceError
from featurekit.sources.origins.copies import where_of


def filled(source: EventSource, text: str) -> tuple[str, tuple[str, ...]]:
    """A text with its variables replaced, and what was put in their place. Within a URL a value is
    encoded as a part of it; a text that is one variable is its value."""
    put, alone = [], VARIABLE.fullmatch(text) is not None
    for name in VARIABLE.findall(text):
        found = os.environ.get(name)
        if found is None:
            fault = f"{where_of(source)}: the environment has no variable {name!r}; set it"
            raise placed(SourceError(fault), source.place)
        put.append(found)
        text = text.replace(f"${{{name}}}", found if alone else quote(found, safe=""))
    return text, tuple(one for one in put if one)


def without_secrets(said: str, secrets: Iterable[str]) -> str:
    """A text without what the environment gave."""
    for secret in sorted(secrets, key=len, reverse=True):
        said = said.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return said
