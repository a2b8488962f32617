"""Puts variables of the environment into texts, and keeps what they hold out of others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import quote as percent

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A variable of the environment in a text."""


class Lacking(Exception):
    """What is not there: a variable of the environment, or a package. The text says so."""


def filled(text: str) -> tuple[str, tuple[str, ...]]:
    """A text with its variables replaced, and what was put in their place. Within a URL a value is
    encoded as a part of it; a text that is one variable is its value. Lacking for a variable that
    the environment has not."""
    put, alone = [], VARIABLE.fullmatch(text) is not None
    for name in VARIABLE.findall(text):
        found = os.environ.get(name)
        if found is None:
            raise Lacking(f"the environment has no variable {name!r}; set it")
        put.append(found)
        text = text.replace(f"${{{name}}}", found if alone else percent(found, safe=""))
    return text, tuple(one for one in put if one)


def without_secrets(said: str, secrets: Iterable[str]) -> str:
    """A text without what the environment gave."""
    for secret in sorted(secrets, key=len, reverse=True):
        said = said.replace(secret, "***").replace(percent(secret, safe=""), "***")
    return said
