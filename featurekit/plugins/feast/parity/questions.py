"""Turns a seed, or a file of entities, into the rows that both paths are asked about."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from feast.value_type import ValueType

from featurekit.core.calls import near
from featurekit.core.missing import no_folder
from featurekit.errors import EntityFrameError
from featurekit.plugins.feast.parity.source import Rows
from featurekit.plugins.feast.parity.targets import Part, Target

Question = dict[str, Any]
"""The join keys and request fields of a row, by their columns."""


def drawn(
    target: Target, rows: Mapping[str, Rows], *, most: int, seed: int, until: int, unknown: bool
) -> list[Question]:
    """Questions about entities of the views' sources. With `unknown` the last one is about an
    entity that none of them has. Request fields are drawn too."""
    by_part = [(part, rows[part.title].some_keys(most, seed, until)) for part in target.parts]
    number = max((len(keys) for _, keys in by_part), default=0)
    rng = random.Random(f"{seed}:{target.name}")
    found = []
    for i in range(number):
        question: Question = {}
        for part, keys in by_part:
            if keys:
                question |= _by_column(part, keys[i % len(keys)], question)
        found.append(question)
    found = [one for one in found if one.keys() == {*target.keys}]
    if unknown and found and target.keys:
        found.append({name: _unknown([one[name] for one in found]) for name in target.keys})
    return [one | _fields(target, rng) for one in found]


def _by_column(part: Part, key: Sequence[Any], taken: Question) -> Question:
    """The key by the columns of the request; a column that another view has filled stays."""
    named = zip(part.columns.values(), key, strict=True)
    return {name: taken.get(name, value) for name, value in named}


def _unknown(known: Sequence[Any]) -> Any:
    """A key of the same type that is none of these."""
    if all(isinstance(one, int) for one in known):
        free = max(known) + 1
        return free if free < 2**31 or max(known) >= 2**31 else min(known) - 1
    if all(isinstance(one, str) for one in known):
        return max(known, key=len) + "~"
    return known[0]


_VALUES: dict[ValueType, Any] = {
    ValueType.INT32: lambda rng: rng.randint(-1000, 1000),
    ValueType.INT64: lambda rng: rng.randint(-1000, 1000),
    ValueType.FLOAT: lambda rng: rng.randint(-8000, 8000) / 8,
    ValueType.DOUBLE: lambda rng: rng.randint(-8000, 8000) / 8,
    ValueType.BOOL: lambda rng: rng.random() < 0.5,
    ValueType.STRING: lambda rng: rng.choice(("a", "b", "north")),
    ValueType.UNIX_TIMESTAMP: lambda rng: dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    + dt.timedelta(seconds=rng.randrange(10**7)),
}  # fmt: skip


def _fields(target: Target, rng: random.Random) -> Question:
    """Request fields, drawn by their types. EntityFrameError for a type that none is drawn of."""
    made = {}
    for name, type_ in target.fields.items():
        if type_ not in _VALUES:
            raise EntityFrameError(
                f"{target.name}: the request field {name!r} is {type_.name}, of which no value is "
                "drawn; give rows with --entities"
            )
        made[name] = _VALUES[type_](rng)
    return made


def of_file(path: Path) -> pd.DataFrame:
    """The rows of a file of entities: CSV, Parquet or JSON, with `event_timestamp` or without.
    EntityFrameError where it cannot be read."""
    if not path.is_file():
        raise EntityFrameError(f"--entities: there is no file {path}; {_beside(path)}")
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": pd.read_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise EntityFrameError(
            f"--entities: {path} is none of {', '.join(readers)}; write the rows as one of these"
        )
    try:
        found = reader(path)
    except (ValueError, OSError) as error:
        raise EntityFrameError(f"--entities: {path} cannot be read ({error})") from None
    if not len(found):
        raise EntityFrameError(f"--entities: {path} has no rows; give at least one")
    return found


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return no_folder(path.parent)
    there = [one.name for one in path.parent.iterdir() if one.is_file()]
    return near(path.name, there, listed="there are") if there else "its folder is empty"


def asked_of(target: Target, frame: pd.DataFrame) -> list[Question]:
    """The questions of a file's rows. EntityFrameError where one of the columns is absent."""
    wanted = [*target.keys, *target.fields]
    for name in wanted:
        if name not in frame.columns:
            raise EntityFrameError(
                f"--entities: {target.name} takes the column {name!r}, and the file has "
                f"{', '.join(map(str, frame.columns))}"
            )
    columns = {name: frame[name].tolist() for name in wanted}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
