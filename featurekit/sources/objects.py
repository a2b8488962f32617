"""Turns objects of a store elsewhere into files beside the store's state, once for each content.

An object is fetched whole, or, where it is Parquet and no bad row of it is to be kept, without the
pages of columns that nobody declared: the file has the same size and holes in their place. Each of
its other bytes stands where it stood, so it is read like any other file. A note beside it says
which version of the object it is. As long as the store tells the same version, nothing is fetched.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from featurekit.core.files import scratch_folder, write_whole
from featurekit.core.openness import make_folder
from featurekit.define.definitions import EventSource
from featurekit.define.object_stores import scheme_of, store_of
from featurekit.errors import SourceError
from featurekit.sources.folders import folder_texts
from featurekit.sources.identity import Identity, drop_kept, path_hash
from featurekit.sources.modified import with_times
from featurekit.sources.object_store import Store, StoredObject, folder_of, opened
from featurekit.sources.protocol import FileInfo

_FORMAT = 1
"""The version of the files and of their notes."""
_MOST = 2
"""So many versions of an object are kept: a reader may be at work on the one before."""
_AT_ONCE = 8
_NEW = ".new"


def snapshot(
    source: EventSource, state_dir: Path | None, *, most: int | None = None
) -> tuple[FileInfo, ...]:
    """The objects that the path of a source names, each as a file of this machine. With `most`, of
    the rows, only the first and the last object are fetched, and for as long as the process lives;
    the path of any other is its URL. SourceError if there are none, or if they cannot be read."""
    store = opened(source)
    listed = store.listed()
    chosen = listed if most is None else [listed[0], *listed[1:][-1:]]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        made = pool.map(partial(_file_of, store, state_dir if most is None else None), chosen)
        files = {one.url: file for one, file in zip(chosen, made, strict=True)}
    found = [(files.get(one.url) or _elsewhere(one), one.modified_us) for one in listed]
    return with_times(source, found, state_dir, keep=most is None)


def _elsewhere(one: StoredObject) -> FileInfo:
    """An object that is not fetched."""
    size = one.size or 0
    return FileInfo(one.url, size, 0, origin={"object": one.url, "bytes": size, **one.version})


def again(source: EventSource, about: Mapping[str, Any], state_dir: Path) -> FileInfo | str:
    """The object that a manifest tells of, with the content that it had, or why it is not there."""
    url, version = about["object"], about.get("version_id")
    for _, found in _kept(state_dir, url):
        if _same(found, about, state_dir):
            return found
    versions = version is not None and scheme_of(url) == "s3"
    try:
        store = opened(source, versions=versions)
        one = store.at(f"{url}?versionId={version}" if versions else url)
        file = _file_of(store, state_dir, one, url=url)
    except SourceError as error:
        return str(error)
    if _same(file, about, state_dir):
        return file
    sizes = f"{file.about['bytes']:,} bytes, and {about['bytes']:,} then"
    return f"{url} has another content ({sizes})"


def _same(file: FileInfo, about: Mapping[str, Any], state_dir: Path) -> bool:
    """Whether a file is the object that a manifest tells of."""
    assert file.origin is not None
    if file.origin.get("columns") != about.get("columns"):  # the source has declared others since
        told = ("bytes", "etag")
        return "etag" in about and all(file.origin.get(n) == about[n] for n in told)
    with suppress(SourceError):
        return bool(Identity.of(Path(file.path), state_dir).digest == about["sha256"])
    return False


def _file_of(
    store: Store, state_dir: Path | None, one: StoredObject, *, url: str | None = None
) -> FileInfo:
    """The file of an object, which is fetched where it is not there yet."""
    folder, url, source = _made(state_dir), url or one.url, store.source
    # A row that is set aside is kept with all of its values.
    whole = source.format != "parquet" or source.on_bad_row != "error"
    only = None if whole else sorted({*source.schema, *source.instants})
    told = _hash(json.dumps([one.size, one.identity, only]))
    if one.identity is not None:
        found = _noted(_note(folder, url, told), state_dir)
        if found is not None:
            return found
    fresh = folder / f"{path_hash(url)}-{os.urandom(8).hex()}{_NEW}"
    then, columns = store.fetch(one, fresh, only=only)
    with fresh.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if one.identity is None:
        told = _hash(digest)
    note = _note(folder, url, told)
    target = fresh.replace(note.with_suffix(f".{source.format}"))
    about = {"object": url, "bytes": target.stat().st_size, **then.version}
    about |= {} if columns is None else {"columns": columns}
    kept = {"format": _FORMAT, "file": target.name, "sha256": digest, "about": about}
    write_whole(note, json.dumps(kept).encode())
    _drop_old(folder, url, state_dir, most=_MOST)
    return _info(target, about)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _note(folder: Path, url: str, told: str) -> Path:
    return folder / f"{path_hash(url)}-{told}.json"


def _noted(note: Path, state_dir: Path | None) -> FileInfo | None:
    """The file that a note tells of, if both are whole."""
    with suppress(OSError, ValueError, KeyError, TypeError, SourceError):
        kept = json.loads(note.read_bytes())
        file = note.with_name(kept["file"]).absolute()
        if kept["format"] == _FORMAT and Identity.of(file, state_dir).digest == kept["sha256"]:
            os.utime(note)
            return _info(file, kept["about"])
    return None


def _info(file: Path, about: Mapping[str, Any]) -> FileInfo:
    stat, folders = file.stat(), folder_texts(about["object"])
    path = str(file.absolute())
    return FileInfo(path, stat.st_size, stat.st_mtime_ns, origin=about, folders=folders)


# --- what is kept ---------------------------------------------------------------------------------


@cache
def _scratch() -> Path:
    return scratch_folder(objects_in)


def objects_in(state_dir: Path) -> Path:
    """The folder of objects in a state folder."""
    return Path(state_dir) / "objects"


def _made(state_dir: Path | None) -> Path:
    folder = _scratch() if state_dir is None else objects_in(state_dir)
    make_folder(folder)
    return folder


def _drop_old(folder: Path, url: str, state_dir: Path | None, *, most: int) -> None:
    """Remove all versions of an object but the last ones, and what is kept of them."""
    for note in _notes(folder, url)[most:]:
        for path in folder.glob(f"{note.stem}.*"):
            path.unlink(missing_ok=True)
            drop_kept(str(path.absolute()), state_dir)


def _notes(folder: Path, url: str | None = None) -> list[Path]:
    """The notes of an object, or of all, the one that was used last first."""
    times = {}
    for note in folder.glob("*.json" if url is None else f"{path_hash(url)}-*.json"):
        with suppress(FileNotFoundError):
            times[note] = note.stat().st_mtime_ns
    return sorted(times, key=times.__getitem__, reverse=True)


def _kept(state_dir: Path, url: str | None = None) -> Iterator[tuple[Path, FileInfo]]:
    """The notes that are kept, the one that was used last first, with their files."""
    for note in _notes(objects_in(state_dir), url):
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(note.read_bytes())
            yield note, _info(note.with_name(kept["file"]), kept["about"])


def kept_files(source: EventSource, state_dir: Path) -> tuple[FileInfo, ...]:
    """The files of the objects that the path of a source may name, each at the version that was
    used last; no store is asked."""
    found: dict[str, FileInfo] = {}
    for _, file in _kept(state_dir) if store_of(source.path) is not None else ():
        if file.shown.startswith(folder_of(source.path)):
            found.setdefault(file.shown, file)
    return tuple(found.values())


def drop_older_objects(source: EventSource, state_dir: Path) -> None:
    """Remove all versions of a source's objects but the last one, as where somebody is
    forgotten."""
    for file in kept_files(source, state_dir):
        _drop_old(objects_in(state_dir), file.shown, state_dir, most=1)


def objects_left(sources: Iterable[EventSource], state_dir: Path) -> Iterator[Path]:
    """The files of the folder of objects that none of the sources needs: of each object that a
    path may name, the version that was used last is needed."""
    folder = objects_in(state_dir)
    needed = {Path(file.path).stem for one in sources for file in kept_files(one, state_dir)}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.name.startswith(".") and path.suffix != _NEW and path.stem not in needed:
            yield path
