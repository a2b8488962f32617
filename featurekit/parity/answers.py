"""Compares whole columns of values bit for bit; looks at single ones only where columns part."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featurekit.compiled import Service
from featurekit.parity.bits import bits
from featurekit.types import Type

if TYPE_CHECKING:
    from featurekit.store import FeatureStore

_CLASSES: dict[str, type] = {
    "int": int, "bool": bool, "str": str, "bytes": bytes,
    "datetime": dt.datetime, "date": dt.date, "timedelta": dt.timedelta,
}  # fmt: skip


@dataclass(slots=True)
class Answers:
    """What one path answers to some rows: for each output of a service a column of values and one
    of statuses."""

    values: list[Sequence[Any]]
    statuses: list[Sequence[str]]


@dataclass(slots=True)
class Asked:
    """Rows: join keys and request fields by column, and each row's instant in microseconds."""

    columns: dict[str, Sequence[Any]]
    at: Sequence[int]

    def some(self, rows: Sequence[int]) -> Asked:
        """The rows of these numbers."""
        return Asked(
            {name: [column[i] for i in rows] for name, column in self.columns.items()},
            [self.at[i] for i in rows],
        )

    def row(self, i: int) -> dict[str, Any]:
        """One row."""
        return {name: column[i] for name, column in self.columns.items()}

    def frame(self, service: Service) -> Any:
        """The rows as an entity frame."""
        import pyarrow as pa

        types = {**service.join_keys, **{p.name: p.type for p in service.request}}
        made = {n: pa.array(self.columns[n], type=type_.arrow) for n, type_ in types.items()}
        made["event_timestamp"] = pa.array(self.at, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
        return pa.table(made)


def offline_answers(store: FeatureStore, service: Service, asked: Asked) -> Answers:
    """What offline says of the rows, each as of its own instant."""
    return answers_of(service, store.training_set(service, asked.frame(service)).to_arrow())


def answers_of(service: Service, table: Any) -> Answers:
    """The outputs of a training set with statuses and full names."""
    names = [o.full_name for o in service.outputs]
    return Answers(
        [table[n].to_pylist(maps_as_pydicts="strict") for n in names],
        [table[f"{n}__status"].to_pylist() for n in names],
    )


def lenient(service: Service) -> Service:
    """The service with `on_error="fail"` of no view, so that errors are compared, not raised."""
    return replace(service, views=tuple(replace(v, on_error="null") for v in service.views))


def parting(service: Service, left: Answers, right: Answers) -> list[list[int]]:
    """For each output, the numbers of the rows whose bits or status differ."""
    found = []
    for o, output in enumerate(service.outputs):
        differing = unequal(output.type, left.values[o], right.values[o])
        if list(left.statuses[o]) != list(right.statuses[o]):
            pairs = enumerate(zip(left.statuses[o], right.statuses[o], strict=True))
            differing = sorted({*differing, *(i for i, (a, b) in pairs if a != b)})
        found.append(differing)
    return found


def unequal(type_: Type, left: Sequence[Any], right: Sequence[Any]) -> list[int]:
    """Where two columns differ in type or bits; every NaN is one."""
    if type_.name == "float":
        same = _floats(left) == _floats(right) is not None
    else:
        class_ = _CLASSES.get(type_.name)
        known = {class_, type(None)}
        same = (
            class_ is not None
            and {*map(type, left)} <= known >= {*map(type, right)}
            and list(left) == list(right)
        )
    if same:
        return []
    pairs = enumerate(zip(left, right, strict=True))
    return [i for i, (a, b) in pairs if a is not b and bits(a) != bits(b)]


def _floats(values: Sequence[Any]) -> tuple[bytes, bytes] | None:
    """The bits of floats, and which of them are None; None where some value is neither."""
    absent = b""
    if None in values:
        absent = bytes(v is None for v in values)
        values = [0.0 if v is None else v for v in values]
    if {*map(type, values)} - {float}:
        return None
    return struct.pack(f"<{len(values)}d", *values), absent
