"""Turns rows that break S1 into files beside the store's state, each row with its reason."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featurekit.core.files import write_whole
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
    write_json_lines(fresh(source, state_dir, "jsonl"), lines)


def fresh(source: EventSource, state_dir: Path | None, suffix: str) -> Path:
    """The path of a new file for rows set aside; it is created empty, so that no other push takes
    its name."""
    folder = quarantine_dir(source.name, state_dir)
    for number in itertools.count(len(list(folder.glob(f"{source.name}.pushed-*")))):
        path = folder / f"{source.name}.pushed-{number}.{suffix}"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        return path
    raise AssertionError("itertools.count has no end")
