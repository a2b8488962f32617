"""Asks both paths of a Feast repo: `get_historical_features` and `get_online_features`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from redis.exceptions import RedisError

from featurekit.core.types import instant
from featurekit.errors import StoreUnavailable
from featurekit.plugins.feast.parity.questions import Question
from featurekit.plugins.feast.parity.targets import Target
from featurekit.plugins.feast.parity.values import column_values

NUMBER = "featurekit_row"
"""A column of the entity frame, by which its rows are found again in what Feast returns."""
_CHUNK = 500
_CONNECTIONS = (OSError, RedisError)


@dataclass(slots=True)
class Raised:
    """A path raised instead of an answer."""

    error: Exception

    @property
    def told(self) -> str:
        """The class of the error, and its first line."""
        lines = str(self.error).strip().splitlines() or [""]
        return f"raised {type(self.error).__name__}: {lines[0][:200]}".removesuffix(": ")

    def __repr__(self) -> str:
        return f"raised {type(self.error).__name__}"


@dataclass(slots=True)
class Column:
    """A feature's answers: its values, for each row whether the path gave one at all, and online
    the status and the instant of the row that it came of, in microseconds."""

    values: list[Any]
    given: list[bool]
    statuses: list[str] = field(default_factory=list)
    happened: list[int | None] = field(default_factory=list)
    type: Any = None


Answers = dict[str, Column]


def offline(store: Any, target: Target, questions: Sequence[Question], at: int) -> Answers | Raised:
    """What offline says of each question as of an instant in microseconds."""
    frame = pd.DataFrame(questions, index=range(len(questions)))
    frame["event_timestamp"] = pd.to_datetime([instant(at)] * len(questions), utc=True)
    frame[NUMBER] = range(len(questions))
    try:
        with _quiet():
            job = store.get_historical_features(frame, target.asked, full_feature_names=target.full)
            table = job.to_arrow()
    except _CONNECTIONS as error:
        if isinstance(error, FileNotFoundError):
            return Raised(error)
        raise StoreUnavailable(f"offline store: {error}; see offline_store: in its file") from None
    except Exception as error:  # the functions of a repo raise what they like
        return Raised(error)
    places = [int(number) for number in table[NUMBER].to_pylist()]
    return {
        one.column: _aligned(table[one.column], places, len(questions))
        for one in target.features
        if one.column in table.column_names
    }


def _aligned(column: Any, places: Sequence[int], rows: int) -> Column:
    """The column in the order of the questions, which no store of Feast's has to keep."""
    made = Column([None] * rows, [False] * rows, type=column.type)
    for place, value in zip(places, column_values(column), strict=True):
        made.values[place], made.given[place] = value, True
    return made


def online(
    store: Any,
    target: Target,
    questions: Sequence[Question],
    progress: Callable[[int], None] | None = None,
) -> Answers | Raised:
    """What online says of each question now."""
    made: Answers = {one.column: Column([], []) for one in target.features}
    for first in range(0, len(questions), _CHUNK):
        # Feast counts the rows by their columns, of which views without entities have none.
        some = [one or {NUMBER: 0} for one in questions[first : first + _CHUNK]]
        try:
            with _quiet():
                answer = store.get_online_features(
                    target.asked, some, full_feature_names=target.full
                )
                found, proto = answer.to_dict(), answer.proto
        except _CONNECTIONS as error:
            raise StoreUnavailable(
                f"online store {store.config.online_store.type}: {error}; start it, or correct "
                "online_store: in feature_store.yaml"
            ) from None
        except Exception as error:  # the functions of a repo raise what they like
            return Raised(error)
        vectors = dict(zip(proto.metadata.feature_names.val, proto.results, strict=True))
        for name, column in made.items():
            if name in found:
                _extend(column, found[name], vectors[name], len(some))
        if progress is not None:
            progress(first + len(some))
    return {name: column for name, column in made.items() if column.values}


def _extend(column: Column, values: list[Any], vector: Any, rows: int) -> None:
    """Add an answer; where it has fewer values than rows, the rest was not given."""
    missing = rows - len(values)
    column.values += [*values, *[None] * missing][:rows]
    column.given += [*[True] * len(values), *[False] * missing][:rows]
    statuses = [FieldStatus.Name(one) for one in vector.statuses]
    column.statuses += [*statuses, *["NOT_FOUND"] * (rows - len(statuses))][:rows]
    happened = [_us(one) for one in vector.event_timestamps]
    column.happened += [*happened, *[None] * (rows - len(happened))][:rows]


def _us(stamp: Any) -> int | None:
    """The instant of a proto; None for the epoch, which Feast has for no instant."""
    us = int(stamp.seconds) * 1_000_000 + int(stamp.nanos) // 1_000
    return us or None


@contextmanager
def _quiet() -> Any:
    """What Feast and pandas warn of is no result of a check."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
