"""Turns requests for pages of a catalogue into the files of its folder, and into nothing else.

It is loaded when a page is first asked for.
"""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from featurekit.errors import RequestRefused

ROUTE = "/catalog"
_KINDS = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
}
"""The files that are served; others of the folder are not there."""
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SMALL = 1400
"""So few bytes are not worth compressing."""
_MOST = 64 * 1024 * 1024
Headers = list[tuple[bytes, bytes]]


class Files:
    """The pages in a folder. `private` says that they are for one caller, so that no cache between
    may keep them."""

    def __init__(self, folder: str, *, private: bool) -> None:
        self.folder = Path(folder)
        self.cache = b"private, no-cache" if private else b"no-cache"

    def answer(self, path: str, headers: Mapping[bytes, bytes]) -> tuple[int, Headers, bytes]:
        """The status, headers and body for a path that begins with ROUTE. RequestRefused: 404 where
        no page is there."""
        if path == ROUTE:
            # Relative, since a proxy may have put something in front.
            return 308, [(b"location", b"catalog/")], b""
        name = path.removeprefix(f"{ROUTE}/") or "index.html"
        kind = _KINDS.get(os.path.splitext(name)[1])  # noqa: PTH122 - a Path would read "a/.." as one
        parts = name.split("/")
        if kind is None or "\\" in name or "\0" in name or any(_is_hidden(p) for p in parts):
            raise _absent(path)
        tag, body = self._read(parts, path)
        packed = len(body) > _SMALL and b"gzip" in headers.get(b"accept-encoding", b"")
        if packed:
            tag += b"-gz"
        shared = [
            (b"etag", b'"%b"' % tag),
            (b"cache-control", self.cache),
            (b"vary", b"accept-encoding, authorization"),
        ]
        if b'"%b"' % tag in headers.get(b"if-none-match", b""):
            return 304, shared, b""
        if packed:
            body = gzip.compress(body, 6, mtime=0)
            shared.append((b"content-encoding", b"gzip"))
        safe = [
            (b"content-type", kind),
            (b"content-security-policy", _POLICY),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        ]
        return 200, [*shared, *safe], body

    def _read(self, parts: list[str], path: str) -> tuple[bytes, bytes]:
        """The tag and the bytes of a file in the folder, be its name or one above it a link."""
        try:
            root = self.folder.resolve(strict=True)
            file = root.joinpath(*parts).resolve(strict=True)
            if not file.is_relative_to(root):
                raise _absent(path)
            with file.open("rb") as opened:
                found = os.fstat(opened.fileno())
                if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST:
                    raise _absent(path)
                return b"%x-%x" % (found.st_mtime_ns, found.st_size), opened.read()
        except (OSError, ValueError, RuntimeError):  # not there, too long a name, a link to itself
            raise _absent(path) from None


def _is_hidden(part: str) -> bool:
    """Whether a part of a path is none, or hidden, or leads upwards."""
    return not part or part.startswith(".")


def _absent(path: str) -> RequestRefused:
    return RequestRefused(
        f"there is no {path[:200]}; {ROUTE}/ has the catalogue", status=404, where="route"
    )
