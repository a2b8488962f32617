"""Turns the times at which files and objects were modified into the arrival of their rows (T3).

A file may come to its folder later than it was written, as by a move or by an upload in parts. So
no file arrives before the last reading that did not find it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from featurekit.core.files import write_whole
from featurekit.core.openness import make_folder
from featurekit.define.arrivals import Modified
from featurekit.define.definitions import EventSource
from featurekit.sources.folders import folder_texts
from featurekit.sources.identity import Identity
from featurekit.sources.kept_arrivals import (
    arrival_fault,
    arrivals_file,
    damaged_arrivals,
    keep_arrivals,
    kept_arrivals,
)
from featurekit.sources.protocol import ARRIVED, FileInfo

_FILES = "files"
_INSTEAD = 'name a column with created_timestamp_column=, or write arrives=Delay("6h")'


def with_times(
    source: EventSource,
    files: Sequence[tuple[FileInfo, int | None]],
    state_dir: Path | None,
    *,
    keep: bool,
) -> tuple[FileInfo, ...]:
    """The files, each given with the time of its last modification in microseconds UTC, with their
    arrival beside them where the source says `arrives=Modified()`. With `keep`, it is kept in the
    state folder. SourceError where a file has another content than it was kept with, and where
    nobody tells a time."""
    if not isinstance(source.arrives, Modified):
        return tuple(file for file, _ in files)
    if not keep or state_dir is None:
        return tuple(_arrived(source, file, at) for file, at in files)
    begun, earliest = time.time_ns() // 1000, _read_before(source, state_dir)
    known = kept_arrivals(source, _FILES, state_dir)
    held = Identity.of_all([Path(file.path) for file, _ in files], state_dir)
    fresh: dict[str, Any] = {}
    for (file, at), identity in zip(files, held, strict=True):
        kept = known.get(file.shown)
        if kept is None:
            fresh[file.shown] = _about(file, max(_told(source, file, at), earliest), identity)
        elif not _same(kept, _about(file, _kept(source, kept, state_dir), identity)):
            raise _rewritten(source, file, state_dir)
    if fresh:
        known = keep_arrivals(source, _FILES, fresh, state_dir)
    _note_read(source, state_dir, begun)
    return tuple(
        _arrived(source, file, _kept(source, known[file.shown], state_dir)) for file, _ in files
    )


def keep_rewritten(source: EventSource, file: FileInfo, state_dir: Path | None) -> None:
    """Let a file of which rows were taken out have the arrival that it had."""
    if state_dir is None or not isinstance(source.arrives, Modified):
        return
    assert file.arrived is not None
    about = _about(file, file.arrived, Identity.of(Path(file.path), state_dir))
    keep_arrivals(source, _FILES, {file.shown: about}, state_dir, over=True)


def _about(file: FileInfo, at: int, identity: Identity) -> dict[str, Any]:
    """What is kept of a file. The hash of an object is that of the columns which were fetched; what
    the store tells of its content is the same for all of them."""
    etag = (file.origin or {}).get("etag")
    return {"arrived": at, "sha256": identity.digest} | ({} if etag is None else {"etag": etag})


def _same(kept: Any, now: Mapping[str, Any]) -> bool:
    """Whether a file has the content that it was kept with."""
    told = kept if isinstance(kept, Mapping) else {}
    return any(told.get(name) == now[name] for name in ("etag", "sha256") if name in now)


def _told(source: EventSource, file: FileInfo, at: int | None) -> int:
    if at is None:
        text = f"the store does not tell when {file.shown} was last modified; {_INSTEAD}"
        raise arrival_fault(source, text)
    return at


def _arrived(source: EventSource, file: FileInfo, at: int | None) -> FileInfo:
    folders = folder_texts(file.path) if file.folders is None else file.folders
    return replace(file, folders={**folders, ARRIVED: str(_told(source, file, at))})


def _kept(source: EventSource, about: Any, state_dir: Path) -> int:
    """The arrival that was kept of a file."""
    try:
        return int(about["arrived"])
    except (ValueError, KeyError, TypeError):
        raise damaged_arrivals(source, state_dir) from None


def _rewritten(source: EventSource, file: FileInfo, state_dir: Path) -> Exception:
    return arrival_fault(
        source,
        f"{file.shown} has another content than when it was first read, so its time does not tell "
        f"when its older rows became known; write new rows to new files, or {_INSTEAD}. If none of "
        "its rows was known before, take it out of "
        f"{arrivals_file(source, state_dir)}",
    )


# --- when the source was read last ----------------------------------------------------------------


def _note(source: EventSource, state_dir: Path) -> Path:
    return arrivals_file(source, state_dir).with_suffix(".read")


def _read_before(source: EventSource, state_dir: Path) -> int:
    """The instant of the last reading; the beginning of time where there was none."""
    with suppress(FileNotFoundError):
        try:
            return int(_note(source, state_dir).read_bytes())
        except ValueError:
            raise damaged_arrivals(source, state_dir) from None
    return -(2**63)


def _note_read(source: EventSource, state_dir: Path, at: int) -> None:
    note = _note(source, state_dir)
    make_folder(note.parent)
    write_whole(note, str(at).encode())
