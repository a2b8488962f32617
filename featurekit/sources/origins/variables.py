"""Puts variables of the environment into what a source says of its origin."""

from __future__ import annotations

from featurekit.core import variables
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError
from featurekit.sources.origins.copies import where_of


def filled(source: EventSource, text: str) -> tuple[str, tuple[str, ...]]:
    """As `featurekit.core.variables.filled`. SourceError for a variable that is not there."""
    try:
        return variables.filled(text)
    except variables.Lacking as error:
        raise placed(SourceError(f"{where_of(source)}: {error}"), source.place) from None
