"""Operators on bytes, digests, and the stable bucket of a value."""

from __future__ import annotations

import hashlib
from typing import Any

from featurekit.core.types import BOOL, BYTES, INT, STR
from featurekit.language.ops.table import NAMESPACE, Op, register


def bucket(value: str | int, buckets: int) -> int:
    """A stable bucket, from 0 to `buckets` - 1, for a text, or for an int by its decimal text.

    It is the first eight bytes of the MD5 of the UTF-8 text, little-endian, divided by 16, modulo
    `buckets`. ValueError where `buckets` is not positive.
    """
    if buckets <= 0:
        raise ValueError("buckets must be positive")
    digest = hashlib.md5(str(value).encode(), usedforsecurity=False).digest()
    return (int.from_bytes(digest[:8], "little") >> 4) % buckets


def _decoded(value: bytes, encoding: str) -> str:
    return value.decode(encoding)


_ENCODINGS = ("utf-8", "utf8", "ascii", "latin-1", "idna", "punycode")


def _encoding_check(value: Any, encoding: Any) -> str | None:
    if encoding is None or encoding in _ENCODINGS:
        return None
    return f"an encoding is one of {', '.join(_ENCODINGS)}"


NAMESPACE |= {"hashlib": hashlib, "bucket": bucket, "decoded": _decoded}

_BUCKET = "CASE WHEN {1} > 0 THEN ((md5_number_upper(%s) >> 4) %% {1}::UBIGINT)::BIGINT END"
_UTF8 = ("utf-8", "utf8")
_DIGESTS = ("md5", "sha1", "sha256", "sha512", "blake2b")

register(
    Op("len", (BYTES,), INT, "len({0})", "octet_length({0})"),
    Op("bool", (BYTES,), BOOL, "{0} != b''", "(octet_length({0}) <> 0)"),
    Op("+", (BYTES, BYTES), BYTES, "{0} + {1}", "({0} || {1})"),
    Op("in", (BYTES, BYTES), BOOL, "{0} in {1}"),
    Op("getitem", (BYTES, INT), INT, "{0}[{1}]", raises=True),
    Op("slice", (BYTES, INT, INT), BYTES, "{0}[{1}:{2}]"),
    Op("slice.from", (BYTES, INT), BYTES, "{0}[{1}:]"),
    Op("slice.to", (BYTES, INT), BYTES, "{0}[:{1}]"),
    Op("bytes.startswith", (BYTES, BYTES), BOOL, "{0}.startswith({1})"),
    Op("bytes.endswith", (BYTES, BYTES), BOOL, "{0}.endswith({1})"),
    Op("bytes.hex", (BYTES,), STR, "{0}.hex()", "lower(hex({0}))"),
    Op(
        "bytes.decode",
        (BYTES, STR),
        STR,
        "decoded({0}, {1})",
        raises=True,
        literals=(1,),
        check=_encoding_check,
        edges=tuple((b"a\xc3\xa9", e) for e in _ENCODINGS),
        names=("", "encoding"),
        defaults=("utf-8",),
    ),
    Op(
        "str.encode",
        (STR, STR),
        BYTES,
        "{0}.encode({1})",
        raises=True,
        literals=(1,),
        check=_encoding_check,
        literal_sql=lambda text, encoding: "encode({0})" if encoding in _UTF8 else None,
        edges=tuple(("aé😀", e) for e in _ENCODINGS),
        names=("", "encoding"),
        defaults=("utf-8",),
    ),
    *(
        Op(
            f"hashlib.{name}.hexdigest",
            (BYTES,),
            STR,
            f"hashlib.{name}({{0}}).hexdigest()",
            f"{name}({{0}})" if name in ("md5", "sha1", "sha256") else None,
        )
        for name in _DIGESTS
    ),
    Op(
        "featurekit.bucket",
        (STR, INT),
        INT,
        "bucket({0}, {1})",
        _BUCKET % "{0}",
        raises=True,
        edges=(("a", 10), ("a", 1), ("ß", 2**63 - 1)),
    ),
    Op(
        "featurekit.bucket",
        (INT, INT),
        INT,
        "bucket({0}, {1})",
        _BUCKET % "{0}::VARCHAR",
        raises=True,
        edges=((17850, 10), (-5, 100)),
        promote="none",
    ),
)
