"""Turns what a manifest says of a source into the files that it was, or into what has changed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featurekit.core.types import micros
from featurekit.define.arrivals import Modified
from featurekit.define.definitions import EventSource
from featurekit.define.object_stores import store_of
from featurekit.define.origins import Database, LakeTable
from featurekit.errors import SourceError
from featurekit.sources import objects
from featurekit.sources.identity import Identity
from featurekit.sources.key_buckets import agree, differing
from featurekit.sources.kinds import kind_of
from featurekit.sources.modified import with_times
from featurekit.sources.origins.copies import pinned, where_of
from featurekit.sources.protocol import FileInfo

_NAMED = 5


def files_again(
    source: EventSource, files: Sequence[Mapping[str, Any]], base: Path, state_dir: Path
) -> tuple[FileInfo, ...]:
    """The files of a source that a manifest tells of, with the content that they had. SourceError
    says which have changed, or are not there any more."""
    try:
        match source.origin:
            case Database():
                return (_copy(source, files[0], base, state_dir),)
            case LakeTable():
                return _of_table(source, files, base, state_dir)
        if source.frame is not None:
            return _of_frame(source, files, base, state_dir)
        if store_of(source.path) is not None:
            return _arrived(source, _of_objects(source, files, state_dir), files)
        return _arrived(source, _as_they_were(source, map(_info, files), files), files)
    except (KeyError, IndexError, TypeError):
        raise _changed(
            source, ["it was no source of this kind when the manifest was made"]
        ) from None


def _arrived(
    source: EventSource, found: Iterable[FileInfo], files: Sequence[Mapping[str, Any]]
) -> tuple[FileInfo, ...]:
    """The files with the arrivals that they had, where these are of files."""
    if not isinstance(source.arrives, Modified):
        return tuple(found)
    told = [micros(dt.datetime.fromisoformat(file["arrived"])) for file in files]
    return with_times(source, [*zip(found, told, strict=True)], None, keep=False)


def _copy(source: EventSource, about: Mapping[str, Any], base: Path, state_dir: Path) -> FileInfo:
    """The kept copy of a database's rows, or a new one of the same content."""
    assert source.origin is not None
    was = {name: about.get(name) for name in source.origin.about}
    if was != source.origin.about:
        raise _changed(source, [f"its rows were those of {', '.join(map(str, was.values()))}"])
    kept = pinned(source, about, state_dir)
    if kept is not None:
        return kept
    (now,) = kind_of(source).snapshot(source, base, state_dir)
    assert now.origin is not None
    # A database may give the same rows in another order, of which no value is made (T6).
    same = "buckets" in about and agree(about["buckets"], now.path)
    if now.origin["sha256"] != about["sha256"] and not same:
        rows = f"{now.origin['rows']:,} rows, and {about['rows']:,} then"
        where = differing(about["buckets"], now.path) if "buckets" in about else ""
        what = [f"its copy is not kept any more, and its rows are others ({rows})", where]
        raise _changed(source, [*filter(None, what)])
    return now


def _of_table(
    source: EventSource, files: Sequence[Mapping[str, Any]], base: Path, state_dir: Path
) -> tuple[FileInfo, ...]:
    """The files of the version of a table, or its copy, which has the same rows in some order."""
    origin = source.origin
    assert isinstance(origin, LakeTable)
    if {file[origin.kind] for file in files} - {origin.about[origin.kind]}:
        raise _changed(source, [f"its table was {files[0][origin.kind]}"])
    if not files:
        return ()
    then = replace(source, origin=origin.then(files[0]), format=None)
    found = kind_of(then).snapshot(then, base, state_dir)
    if "sha256" in files[0] and "path" not in files[0]:
        return found
    known = {file.path: file for file in found}
    lost = [f"{file['path']} is no file of it" for file in files if file["path"] not in known]
    if lost:
        raise _changed(source, lost)
    return _as_they_were(source, [known[file["path"]] for file in files], files)


def _of_frame(
    source: EventSource, files: Sequence[Mapping[str, Any]], base: Path, state_dir: Path
) -> tuple[FileInfo, ...]:
    found = kind_of(source).snapshot(source, base, state_dir)
    if [file.digest for file in found] != [file["frame"] for file in files]:
        raise _changed(source, ["its frame is another one"])
    return found


def _of_objects(
    source: EventSource, files: Sequence[Mapping[str, Any]], state_dir: Path
) -> tuple[FileInfo, ...]:
    found = [objects.again(source, file, state_dir) for file in files]
    changed = [one for one in found if isinstance(one, str)]
    if changed:
        raise _changed(source, changed)
    return tuple(one for one in found if isinstance(one, FileInfo))


def _info(about: Mapping[str, Any]) -> FileInfo | str:
    """The file at a path, or why it is not there."""
    path = Path(about["path"])
    try:
        stat = path.stat()
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return FileInfo(str(path), stat.st_size, stat.st_mtime_ns)


def _as_they_were(
    source: EventSource, found: Iterable[FileInfo | str], files: Sequence[Mapping[str, Any]]
) -> tuple[FileInfo, ...]:
    """The files, whose contents are those of the manifest."""
    same: list[FileInfo] = []
    changed: list[str] = []
    for file, about in zip(found, files, strict=True):
        if isinstance(file, str):
            changed.append(file)
        elif Identity.of(Path(file.path), None).digest == about["sha256"]:
            same.append(file)
        else:
            sizes = f"{file.size:,} bytes, and {about['bytes']:,} then"
            changed.append(f"{file.path} has another content ({sizes})")
    if changed:
        raise _changed(source, changed)
    return tuple(same)


def _changed(source: EventSource, what: Sequence[str]) -> SourceError:
    more = f"; and {len(what) - _NAMED} more" if len(what) > _NAMED else ""
    where = f"EventSource {source.name!r}" if source.origin is None else where_of(source)
    return SourceError(f"{where}: {'; '.join(what[:_NAMED])}{more}")
