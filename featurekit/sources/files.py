"""Turns the path of a source into the files that it names at this moment."""

from __future__ import annotations

from pathlib import Path

from featurekit.core.missing import no_file, no_match
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.define.object_stores import store_of
from featurekit.errors import SourceError
from featurekit.sources import objects
from featurekit.sources.folders import folder_texts
from featurekit.sources.modified import with_times
from featurekit.sources.protocol import FileInfo


def snapshot(
    source: EventSource, base: Path, state_dir: Path | None = None, *, most: int | None = None
) -> tuple[FileInfo, ...]:
    """The files that the path names, sorted; `SourceError` if it names none."""
    if store_of(source.path) is not None:
        return objects.snapshot(source, state_dir, most=most)
    where, path = f"EventSource {source.name!r}", Path(base) / source.path
    if path.is_dir():
        raise SourceError(
            f'{where}: {path} is a folder; write a glob, as in "{source.path}/*.{source.format}"'
        )
    if path.exists():
        return with_times(source, [_info(where, path.absolute())], state_dir, keep=most is None)
    if not any(sign in source.path for sign in "*?["):
        raise placed(SourceError(f"{where}: {no_file(source.path, base)}"), source.place)
    found = sorted(p.absolute() for p in _matches(Path(base), source.path) if p.is_file())
    if not found:
        raise placed(SourceError(f"{where}: {no_match(source.path, base)}"), source.place)
    return with_times(source, [_info(where, p) for p in found], state_dir, keep=most is None)


def absent(source: EventSource, base: Path) -> bool:
    """Whether the path names nothing yet: the source has what is pushed to it, and no file. Of
    objects of a store elsewhere this is not asked: that none is there is an error."""
    if store_of(source.path) is not None:
        return False
    path = Path(base) / source.path
    if path.exists():
        return False
    return not any(sign in source.path for sign in "*?[") or not _matches(Path(base), source.path)


def _matches(base: Path, pattern: str) -> list[Path]:
    """The files that a glob matches, without hidden ones; only the special characters of the
    pattern itself count."""
    if Path(pattern).is_absolute():
        base = Path(Path(pattern).anchor)
        pattern = str(Path(pattern).relative_to(base))
    return [path for path in base.glob(pattern) if not path.name.startswith(".")]


def partitions(file: FileInfo) -> dict[str, str | None]:
    """The columns that the names of a file's folders say, as `region=eu/day=2024-01-01` does, with
    their texts; null is written `__HIVE_DEFAULT_PARTITION__`. Of an origin's file, those that the
    origin keeps beside it."""
    if file.origin is None and file.folders is None:
        return folder_texts(file.path)
    return dict(file.folders or {})


def _info(where: str, path: Path) -> tuple[FileInfo, int]:
    """A file as it is now, and when it was last modified, in microseconds UTC."""
    try:
        stat = path.stat()
        with path.open("rb"):
            pass
    except OSError as error:
        raise SourceError(f"{where}: {path} cannot be opened ({error.strerror})") from None
    if stat.st_size == 0:
        raise SourceError(
            f"{where}: {path} is empty, 0 bytes; a file without rows still has a header or footer"
        )
    return FileInfo(str(path), stat.st_size, stat.st_mtime_ns), stat.st_mtime_ns // 1000
