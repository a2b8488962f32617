"""Turns rows that break S1 into files beside the store's state, each row with its reason."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featurekit.core.files import unwritten, write_whole
from featurekit.core.openness import make_folder
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError


def quarantine_dir(name: str, state_dir: Path | None) -> Path:
    """The folder of rows set aside; `SourceError` if there is no state folder to keep them in
    (S1)."""
    if state_dir is None:
        raise SourceError(
            f"EventSource {name!r}: rows are to be set aside, but there is no state_dir to keep "
            'them; pass one, or write on_bad_row="error"'
        )
    folder = Path(state_dir) / "quarantine"
    make_folder(folder)
    return folder


def write_json_lines(target: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Replace the file by these lines; a value that JSON lacks is written as Python shows it."""
    text = "".join(json.dumps(line, default=repr) + "\n" for line in lines)
    write_whole(target, text.encode())


def set_aside(
    source: EventSource, state_dir: Path | None, lines: Sequence[Mapping[str, Any]]
) -> None:
    """Keep rows that could not be decoded, as JSON lines beside the other rows that were set
    aside."""
    with fresh(source, state_dir, "jsonl") as path:
        write_json_lines(path, lines)


@contextmanager
def fresh(source: EventSource, state_dir: Path | None, suffix: str) -> Iterator[Path]:
    """The path of a new file for rows set aside; it is created empty, so that no other push takes
    its name. It is removed where the block, which writes it, raises."""
    path = _fresh(quarantine_dir(source.name, state_dir), source.name, suffix)
    try:
        yield path
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritten(path, error) from error
        raise


def _fresh(folder: Path, name: str, suffix: str) -> Path:
    for number in itertools.count(len(list(folder.glob(f"{name}.pushed-*")))):
        path = folder / f"{name}.pushed-{number}.{suffix}"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        return path
    raise AssertionError("itertools.count has no end")


def rows_aside(name: str, state_dir: Path) -> int:
    """The number of rows of a source that are kept as set aside, of its files and of pushes."""
    import pyarrow.parquet as pq

    rows = 0
    for path in (Path(state_dir) / "quarantine").glob(f"{name}.*"):
        if path.suffix == ".jsonl":
            rows += path.read_bytes().count(b"\n")
        elif path.suffix == ".parquet" and not path.name.endswith(".readable.parquet"):
            rows += pq.read_metadata(path).num_rows if path.stat().st_size else 0
    return rows
