"""What databases that are one file share: where it is, and what tells that it is as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from featurekit.core.missing import no_file
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.define.origins import DuckDB, SQLite
from featurekit.errors import SourceError
from featurekit.sources.identity import Identity


@dataclass(frozen=True, slots=True)
class FileSnapshot:
    """A database that is open to be read, at one snapshot; see `copies.Opened`."""

    con: Any
    source: EventSource
    path: Path

    beside: ClassVar[tuple[str, ...]] = ()
    """The endings of files beside it that are a part of it while they have bytes."""

    @property
    def identity(self) -> Any:
        """The contents of its files."""
        return [Identity.of(file, None).digest for file in self._files()]

    @property
    def about(self) -> Mapping[str, Any]:
        """The origin; the content is that of the copy."""
        assert self.source.origin is not None
        return self.source.origin.about

    def _files(self) -> Iterator[Path]:
        yield self.path
        for ending in self.beside:
            file = self.path.with_name(f"{self.path.name}{ending}")
            if file.is_file() and file.stat().st_size:
                yield file


def file_of(source: EventSource, base: Path) -> Path:
    """The file of the database that a source reads. SourceError if it is not there."""
    origin = source.origin
    assert isinstance(origin, (SQLite, DuckDB))
    path = (Path(base) / origin.path).absolute()
    if not path.is_file():
        what = f"EventSource {source.name!r}: {no_file(origin.path, base)}"
        raise placed(SourceError(what), source.place)
    return path
