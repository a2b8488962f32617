"""Says the errors of a source in the words of a Feast repo, whose user writes no EventSource."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from featurekit.errors import BadRowError, SourceError

_TYPES = {
    "int": "Int64",
    "float": "Float64",
    "str": "String",
    "bool": "Bool",
    "bytes": "Bytes",
    "datetime": "UnixTimestamp",
}
_TYPE = "|".join(_TYPES)
_INSTEAD: list[tuple[str, Any]] = [
    (r"^EventSource ", "Feast's view "),
    (r"declared (\w+(?:\[\w+\])?)(?: \| None)?, ", lambda m: f"declared {_feast(m[1])}, "),
    (rf"declare it ({_TYPE})\b", lambda m: f"declare it {_feast(m[1])} in the view's schema"),
    (r"; mend the row, declare .*$", "; mend the row, or declare the type that the column has"),
    (r"; mend the row, or write .*$", "; mend the row"),
    (r"say (?:how its texts are written|what its numbers count), .*$", "write it as a timestamp"),
    (r", or say format=.*$", ""),
]
"""What stands in an error of featurekit's sources, and what a user of Feast can do in its place."""


def _feast(name: str) -> str:
    """A type of featurekit by its name in Feast."""
    item = re.fullmatch(r"list\[(\w+)\]", name)
    return f"Array({_feast(item[1])})" if item else _TYPES.get(name, name)


@contextmanager
def in_words_of_feast() -> Iterator[None]:
    """Raises an error of a source again, in the same class, with Feast's view and types."""
    try:
        yield
    except (SourceError, BadRowError) as error:
        text = str(error)
        for found, instead in _INSTEAD:
            text = re.sub(found, instead, text)
        raise type(error)(text) from None
