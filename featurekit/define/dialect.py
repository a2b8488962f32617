"""Turns the options of a CSV source into one checked description of how its files are written."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from featurekit.errors import DefinitionError

Compression = Literal["none", "gzip", "bz2", "xz", "zstd"]
COMPRESSIONS: tuple[str, ...] = get_args(Compression)
_ENDINGS = {"gz": "gzip", "bz2": "bz2", "xz": "xz", "zst": "zstd"}
# Codecs that decode escapes or drop state between characters: their text is no text of a file.
_NO_FILES = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How CSV files are written. `quote` is empty where nothing is quoted. The texts of
    `null_values` are null, quoted or not; an unquoted empty field always is."""

    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    decimal: str = "."
    null_values: tuple[str, ...] = ()
    compression: str = "none"
    declares: ClassVar[bool] = True
    """Whether someone can say otherwise: the files of a source may be written in another way."""


class FixedDialect(Dialect):
    """How a CSV file is written that has no source: labels, and rows pushed to a source of another
    format."""

    declares = False


def ending_of(path: str) -> str:
    """The ending of a path that tells its format: of `x.csv.gz` it is csv."""
    parts = path.lower().rsplit("/", 1)[-1].split(".")
    if len(parts) > 2 and parts[-1] in _ENDINGS:
        parts.pop()
    return parts[-1]


def packed_as(path: str) -> str:
    """The compression that the ending of a path tells."""
    return _ENDINGS.get(path.lower().rsplit(".", 1)[-1], "none")


def dialect_of(
    path: str,
    *,
    encoding: str,
    delimiter: str,
    quote: str | None,
    decimal: str,
    null_values: Sequence[str],
    compression: str | None,
    what: str,
) -> Dialect:
    """The dialect of these options; without `compression`, the path's ending tells it.
    DefinitionError for an option that no CSV file has."""
    listed = isinstance(null_values, Sequence) and not isinstance(null_values, str)
    if not listed or not all(isinstance(value, str) for value in null_values):
        raise DefinitionError(
            f'{what}: null_values is a list of texts, as in ["NA", "NULL"], found {null_values!r}'
        )
    quote = quote or ""
    _check_signs(delimiter, quote, what=what)
    if decimal not in (".", ","):
        raise DefinitionError(f'{what}: decimal is "." or ",", found {decimal!r}')
    if compression is None:
        compression = packed_as(path)
    if compression not in COMPRESSIONS:
        raise DefinitionError(
            f"{what}: compression is one of {', '.join(COMPRESSIONS)}, found {compression!r}"
        )
    return Dialect(
        _codec(encoding, what=what), delimiter, quote, decimal, tuple(null_values), compression
    )


def _check_signs(delimiter: Any, quote: Any, *, what: str) -> None:
    for name, sign in (("delimiter", delimiter), ("quote", quote)):
        one = isinstance(sign, str) and (len(sign) == 1 or (name == "quote" and not sign))
        if not one or sign in ("\r", "\n", "\ufeff"):
            shown = '";"' if name == "delimiter" else '"\'", or None where nothing is quoted'
            raise DefinitionError(
                f"{what}: {name} is one character and no line break, as in {name}={shown}, found "
                f"{sign!r}"
            )
    if delimiter == quote:
        raise DefinitionError(f"{what}: delimiter and quote are both {quote!r}; write two")


def _codec(encoding: Any, *, what: str) -> str:
    """The name of an encoding of text; a byte order mark needs no name of its own."""
    try:
        found = codecs.lookup(encoding)
        # Codecs such as base64 turn bytes into bytes; they are refused here.
        "".encode(encoding)
    except (LookupError, TypeError, ValueError):
        found = None
    if found is None or found.name.replace("-", "_") in _NO_FILES:
        raise DefinitionError(
            f'{what}: {encoding!r} is no encoding of text; write encoding="latin-1", "cp1252", '
            '"utf-16" or another that Python knows'
        )
    return "utf-8" if found.name == "utf-8-sig" else found.name
