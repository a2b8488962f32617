"""Turns a CSV file, compressed or not and in any encoding, into pieces of text and back (S4).

A byte that the encoding does not have becomes a lone surrogate, U+DC00 and the byte, which no text
of a file has. So the record in which it stands can be told, and be written back as it was.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from featurekit.define.dialect import Dialect
from featurekit.errors import SourceError

_PIECE = 1 << 22
_HANDLER = "featurekit.undecodable"
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)
_MARKS = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(256)}


def _mark(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeDecodeError):
        wrong = error.object[error.start : error.end]
        return "".join(chr(0xDC00 + byte) for byte in wrong), error.end
    if isinstance(error, UnicodeEncodeError):
        marks = [ord(sign) - 0xDC00 for sign in error.object[error.start : error.end]]
        if all(0 <= byte < 256 for byte in marks):
            return bytes(marks), error.end
    raise error


codecs.register_error(_HANDLER, _mark)


def shown(text: str) -> str:
    """The text with its undecodable bytes written out, as in \\xff."""
    return text.translate(_MARKS)


def pieces(path: Path, dialect: Dialect) -> Iterator[str]:
    """The text of the file in pieces of some megabytes. SourceError if it cannot be read to its
    end."""
    decoder = codecs.getincrementaldecoder(dialect.encoding)(_HANDLER)
    try:
        with opened(path, dialect) as file:
            while data := file.read(_PIECE):
                yield decoder.decode(data)
    except UnicodeError as error:
        raise _no_text(path, dialect, error) from None
    except _BROKEN as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        packed = "" if dialect.compression == "none" else f" as {dialect.compression}"
        said = ', or say how it is packed with compression="…"' if dialect.declares else ""
        raise SourceError(
            f"{path}: it cannot be read to its end{packed} ({why}); write it again{said}"
        ) from None
    try:
        yield decoder.decode(b"", True)
    except UnicodeError as error:
        raise _no_text(path, dialect, error) from None


def _no_text(path: Path, dialect: Dialect, error: UnicodeError) -> SourceError:
    """A codec that gives up: UTF-16 and UTF-32 want a byte order mark at the beginning."""
    hint = looks_like(path, dialect) or "write encoding=… as the file is written"
    return SourceError(f"{path}: its bytes are no {dialect.encoding} ({error}); {hint}")


_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_OTHER = (
    (b"PK\x03\x04", "it is a zip archive or an Excel file; unpack it, or save its sheet as CSV"),
    (b"PAR1", "it is Parquet; {}", 'write format="parquet"', "end its name in .parquet"),
)
_MARKED = (
    (b"\xff\xfe\0\0", "utf-32", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32", "utf-32-be"),
    (b"\xff\xfe", "utf-16", "utf-16-le"),
    (b"\xfe\xff", "utf-16", "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8", "utf-8"),
)
"""The byte order marks, and the encodings that read what is after them."""
_ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}
"""Which of each four bytes are mostly NUL, by the encoding of a header that is mostly ASCII."""


def looks_like(path: Path, dialect: Dialect) -> str:
    """What a file is by its first bytes, once it is unpacked, and what to write; "" where they tell
    nothing else than the dialect."""
    try:
        with opened(path, dialect) as file:
            first = file.read(64)
    except _BROKEN:
        return ""
    for sign, packed in _PACKED:
        if first.startswith(sign):
            way = _either(dialect, f'write compression="{packed}"', "unpack it")
            return f"it is packed; {way}"
    for sign, said, *ways in _OTHER:
        if first.startswith(sign):
            return said.format(_either(dialect, *ways) if ways else "")
    names = next((names for sign, *names in _MARKED if first.startswith(sign)), [])
    zeros = tuple(2 * first[at::4].count(0) > len(first[at::4]) for at in range(4))
    if not names and zeros in _ZEROS:
        names = [_ZEROS[zeros]]
    if not names or dialect.encoding in names:
        return ""
    name = names[0]
    way = _either(dialect, f'write encoding="{name}"', "write the file in UTF-8")
    return f"it is {name.upper()}; {way}"


def _either(dialect: Dialect, declared: str, instead: str) -> str:
    """What to write at the source; where there is none, what to do with the file."""
    return declared if dialect.declares else instead


@contextmanager
def opened(path: Path, dialect: Dialect, mode: str = "rb") -> Iterator[IO[bytes]]:
    """The file's bytes as they are before compression; `mode` is "rb" or "wb"."""
    kinds: dict[str, Any] = {"none": open, "gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
    if dialect.compression == "zstd":
        import pyarrow as pa

        make = pa.CompressedInputStream if mode == "rb" else pa.CompressedOutputStream
        with path.open(mode) as raw, make(raw, "zstd") as packed:
            yield cast("IO[bytes]", packed)
        return
    with kinds[dialect.compression](path, mode) as file:
        yield file


def encoder(dialect: Dialect) -> codecs.IncrementalEncoder:
    """Turns text that `pieces` gave back into the bytes of the file."""
    return codecs.getincrementalencoder(dialect.encoding)(_HANDLER)
