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
    except _BROKEN as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        packed = "" if dialect.compression == "none" else f" as {dialect.compression}"
        raise SourceError(
            f"{path}: it cannot be read to its end{packed} ({why}); write it again, or say how it "
            'is packed with compression="…"'
        ) from None
    yield decoder.decode(b"", True)


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
