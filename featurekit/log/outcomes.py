"""Keeps what became of served rows: files of outcomes, which are added and never changed, but for
who is forgotten.

An outcome is named by a request's id and the row's place in it, or by an entity's join keys and an
instant. Of several with one name the one that was known last is in force. So the order in which
they come leaves no trace.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.core.files import held_folder, sync_folder, write_whole
from featurekit.core.types import Type
from featurekit.errors import DataError
from featurekit.language.wire import from_json, to_json

FORMAT = 1
_HEAD = b"featurekit.outcomes"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row. Instants are in microseconds.

    `keys` are the join keys by name, none where only `request` and `row` name it. `value` and
    `prediction` are JSON: true or false, a number as a float, or a text. `known_at` is when it was
    known, `recorded_at` when it was pushed.
    """

    request: str | None
    row: int
    keys: tuple[tuple[str, Any], ...]
    at: int | None
    value: str
    prediction: str | None
    known_at: int
    recorded_at: int

    @property
    def name(self) -> tuple[Any, ...]:
        """What it is the outcome of."""
        if self.request is not None:
            return self.request, self.row
        return self.keys, self.at

    @property
    def said(self) -> tuple[str, str]:
        """What it says, beside when that was known."""
        return self.value, self.prediction or ""


@dataclass(frozen=True, slots=True)
class OutcomeHead:
    """What the outcomes of a file share: the service, its version in the repo when they were
    pushed, and the types of its join keys."""

    service: str
    fingerprint: str
    keys: dict[str, Type]

    def to_json(self) -> str:
        """The head as text."""
        named = {n: to_json(getattr(self, n)) for n in self.__dataclass_fields__}
        return json.dumps({"format": FORMAT, **named}, separators=(",", ":"))

    @staticmethod
    def from_json(text: bytes) -> OutcomeHead:
        """The head that `to_json` wrote. DataError for another format."""
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise DataError(f"outcomes of another format; this featurekit reads {FORMAT}")
        keys = {name: from_json(type_, Type) for name, type_ in found["keys"]["m"]}
        return OutcomeHead(found["service"], found["fingerprint"], keys)


@dataclass(frozen=True, slots=True)
class OutcomeFile:
    """A file of outcomes."""

    path: Path
    head: OutcomeHead
    outcomes: Sequence[Outcome]

    @property
    def keys(self) -> list[list[Any]]:
        """A column of each join key, None where an outcome has it not."""
        rows = [dict(one.keys) for one in self.outcomes]
        return [[row.get(name) for row in rows] for name in self.head.keys]

    @property
    def served_at(self) -> list[int]:
        """When each was pushed."""
        return [one.recorded_at for one in self.outcomes]

    @property
    def arrivals(self) -> list[list[int | None]]:
        """Outcomes come from no state."""
        return []


def outcomes_folder(state_dir: Path) -> Path:
    """Where outcomes are."""
    return state_dir / "outcomes"


def held(state_dir: Path) -> AbstractContextManager[Path]:
    """The folder of outcomes, while no other process adds any or takes any out."""
    return held_folder(outcomes_folder(state_dir))


def add(folder: Path, head: OutcomeHead, outcomes: Sequence[Outcome]) -> None:
    """Write a file of outcomes into the folder, which is `held`. It is there whole and for good
    when this returns."""
    first = outcomes[0].recorded_at
    path = folder / f"{first:020d}-{head.service}-{uuid.uuid4().hex}.parquet"
    write_whole(path, _written(head, outcomes), durable=True)
    sync_folder(str(folder))


def _written(head: OutcomeHead, outcomes: Sequence[Outcome]) -> memoryview:
    import pyarrow as pa
    import pyarrow.parquet as pq

    instant = pa.timestamp("us", "UTC")
    columns = {
        "request_id": pa.array([one.request for one in outcomes], pa.string()),
        "row": pa.array([one.row for one in outcomes], pa.int64()),
        **{
            f"key.{name}": pa.array([dict(one.keys).get(name) for one in outcomes], type_.arrow)
            for name, type_ in head.keys.items()
        },
        "at": pa.array([one.at for one in outcomes], instant),
        "outcome": pa.array([one.value for one in outcomes], pa.string()),
        "prediction": pa.array([one.prediction for one in outcomes], pa.string()),
        "known_at": pa.array([one.known_at for one in outcomes], instant),
        "recorded_at": pa.array([one.recorded_at for one in outcomes], instant),
    }
    table = pa.table(columns).replace_schema_metadata({_HEAD: head.to_json().encode()})
    made = pa.BufferOutputStream()
    pq.write_table(table, made)
    return memoryview(made.getvalue())


def read_outcomes(state_dir: Path, service: str | None = None) -> Iterator[OutcomeFile]:
    """Every file of outcomes, or those of a service, in the order of their names. DataError for one
    that cannot be read."""
    for path in sorted(outcomes_folder(state_dir).glob("*.parquet")):
        found = _read(path)
        if service is None or found.head.service == service:
            yield found


def _read(path: Path) -> OutcomeFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}; put it back from a copy") from None
    metadata = table.schema.metadata or {}
    if _HEAD not in metadata:
        raise DataError(f"{path} is no file of outcomes; move it out of the folder")
    head = OutcomeHead.from_json(metadata[_HEAD])
    for name in ("at", "known_at", "recorded_at"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(pa.int64()))
    return OutcomeFile(path, head, [_outcome(head, row) for row in table.to_pylist()])


def _outcome(head: OutcomeHead, row: Mapping[str, Any]) -> Outcome:
    pairs = tuple((name, row[f"key.{name}"]) for name in sorted(head.keys))
    return Outcome(
        row["request_id"],
        row["row"],
        () if any(value is None for _, value in pairs) else pairs,
        *(row[n] for n in ("at", "outcome", "prediction", "known_at", "recorded_at")),
    )


def in_force(outcomes: Iterable[Outcome]) -> dict[tuple[Any, ...], Outcome]:
    """Of each name the outcome that was known last. Where two were known at once and say different
    things, it is the one whose text comes last, whatever came first."""
    found: dict[tuple[Any, ...], Outcome] = {}
    for one in outcomes:
        before = found.get(one.name)
        if before is None or (before.known_at, before.said) < (one.known_at, one.said):
            found[one.name] = one
    return found


Gone = Callable[[OutcomeFile], Collection[int]]
"""Gives the places of the outcomes in a file that are to go."""


def strip_outcomes(state_dir: Path, gone: Gone) -> int:
    """Take outcomes out of the files, each of which is written anew, or removed where none is left;
    how many."""
    if not outcomes_folder(state_dir).exists():
        return 0
    count = 0
    with held(state_dir) as folder:
        for file in read_outcomes(state_dir):
            places = gone(file)
            if not places:
                continue
            count += len(places)
            left = [one for i, one in enumerate(file.outcomes) if i not in places]
            if left:
                write_whole(file.path, _written(file.head, left), durable=True)
            else:
                file.path.unlink()
            sync_folder(str(folder))
    return count
