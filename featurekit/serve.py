"""Turns entity rows into features, from the states in an online store.

A serving process needs a Redis URL, a project and a service's name: the compiled plan lies in
Redis beside the states, and neither the feature repo nor DuckDB is read.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurekit import __version__
from featurekit.compiled import Service, View
from featurekit.errors import (
    EntityFrameError,
    FingerprintMismatch,
    NotServed,
    OnlineError,
    TransformError,
)
from featurekit.ir import from_json, to_json
from featurekit.numerics import numeric_fingerprint
from featurekit.online.block_lookup import Large, needed
from featurekit.online.blocks import Moved, Patience, Read, block_key, is_head, splits
from featurekit.online.codec import entity_key
from featurekit.online.lookup import Columns, ViewLookup
from featurekit.online.state import ERROR_STATUS, newest_arrival, stated
from featurekit.online.store import OnlineStore
from featurekit.to_python import ERROR, to_python
from featurekit.types import (
    FLOAT,
    INT,
    INT_MAX,
    INT_MIN,
    Type,
    as_float32,
    instant,
    micros,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from featurekit.serving_log.log import ServingLog

Row = Mapping[str, Any]


# --- keys -----------------------------------------------------------------------------------------


def project_key(project: str, *parts: str) -> bytes:
    """A key of the project that belongs to no entity."""
    return ":".join(("fk", project, *parts)).encode()


def state_prefix(project: str, view: View) -> bytes:
    """What the keys of every state of a view's version begin with."""
    return project_key(project, "state", view.name, view.fingerprint) + b":"


def state_key(prefix: bytes, entity: bytes) -> bytes:
    """The key of an entity's state; the hash tag puts all its states on one cluster slot."""
    return prefix + b"{" + entity + b"}"


def ids_prefix(project: str, view: View) -> bytes:
    """What the keys of all that a view's version remembers of ids begin with (T7)."""
    return project_key(project, "ids", view.name, view.fingerprint) + b":"


def floor_key(project: str, view: View) -> bytes:
    """The key of the instant before whose arrivals a view's version has let go of ids."""
    return project_key(project, "floor", view.name, view.fingerprint)


# --- plans ----------------------------------------------------------------------------------------


def plan_bytes(service: Service) -> bytes:
    """What a serving process needs of a service, with the numeric fingerprint (R6)."""
    plan = {
        "format": 1,
        "featurekit": __version__,
        "service": to_json(service),
        "numerics": numeric_fingerprint(service),
    }
    return json.dumps(plan, separators=(",", ":")).encode()


def numerics_of(plan: bytes) -> Any:
    """The numeric fingerprint that a plan was published with (R6)."""
    return json.loads(plan)["numerics"]


def read_plan(data: bytes, *, on_mismatch: str = "refuse") -> Service:
    """The service of `plan_bytes`; FingerprintMismatch where this platform's floats differ (R6),
    unless `on_mismatch` is "warn"."""
    service, _ = _decoded(data)
    others = differing(data)
    if others:
        message = (
            f"service {service.name!r} was published on a platform that differs in "
            f"{', '.join(others)}; values here would not be the same bits: use the same "
            "libraries here, or publish from here (`featurekit apply`, `featurekit materialize`)"
        )
        if on_mismatch != "warn":
            raise FingerprintMismatch(message)
        import warnings

        warnings.warn(message, stacklevel=2)
    return service


def differing(data: bytes) -> list[str]:
    """What the platform where a plan was published computes otherwise than this one (R6)."""
    service, there = _decoded(data)
    here = numeric_fingerprint(service)
    return sorted(k for k in {*here, *there} if here.get(k) != there.get(k))


@functools.lru_cache(maxsize=64)
def _decoded(data: bytes) -> tuple[Service, Mapping[str, str]]:
    """The service of a plan, and the numeric fingerprint of where it was published; every push
    reads the plans that are fed."""
    plan = json.loads(data)
    if plan.get("format") != 1:
        raise OnlineError(f"a plan of format {plan.get('format')!r}; this featurekit reads 1")
    service = from_json(plan["service"])
    assert isinstance(service, Service)
    return service, plan["numerics"]


# --- lookups --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OnlineResult:
    """The features of some entity rows as of one instant, in the order of the rows.

    `columns[name]` and `status[name]` are lists with one entry a row. A value is None where its
    status is NULL_VALUE, OUTSIDE_MAX_AGE or ERROR; a NOT_FOUND entity has its empty windows.
    """

    as_of: dt.datetime
    entities: dict[str, list[Any]]
    columns: dict[str, list[Any]]
    status: dict[str, list[str]]
    types: dict[str, Type]

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns of join keys and features."""
        return {**self.entities, **self.columns}

    def to_pylist(self) -> list[dict[str, Any]]:
        """One dict a row: join keys and features."""
        everything = self.to_dict()
        return [
            dict(zip(everything, row, strict=True))
            for row in zip(*everything.values(), strict=True)
        ]

    def statuses(self) -> list[dict[str, str]]:
        """One dict a row: each feature's PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE, ERROR."""
        return [
            dict(zip(self.status, row, strict=True))
            for row in zip(*self.status.values(), strict=True)
        ]

    @property
    def statistics(self) -> dict[str, dict[str, int]]:
        """For each feature that erred in some row: how many rows, and the first of them (R3)."""
        erring = {
            n: [i for i, s in enumerate(v) if s == ERROR_STATUS] for n, v in self.status.items()
        }
        return {n: {"rows": len(v), "first_row": v[0]} for n, v in erring.items() if v}

    def to_arrow(self) -> pa.Table:
        """The join keys and features as an Arrow table with their declared types (A3)."""
        import pyarrow as pa

        return pa.table(
            {n: pa.array(v, type=self.types[n].arrow) for n, v in self.to_dict().items()}
        )

    def to_numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """A masked-free array a feature: float64, int64 and bool where no value is None (a None
        float is NaN), object arrays otherwise."""
        import numpy as np

        dtypes = {"float": np.float64, "int": np.int64, "bool": np.bool_}
        out = {}
        for name, values in self.columns.items():
            dtype: Any = dtypes.get(self.types[name].name, object)
            if dtype is np.float64:
                values = [np.nan if v is None else v for v in values]
            elif None in values:
                dtype = object
            array = np.empty(len(values), dtype=dtype)
            if dtype is object:
                for i, value in enumerate(values):
                    array[i] = value  # all at once, lists of one length would be a matrix
            else:
                array[:] = values
            out[name] = array
        return out


class OnlineService:
    """A service in an online store; follows it when another version goes live (F1).

    `log` takes what `get` answers; see `featurekit.serving_log.open.open_log`.
    """

    def __init__(
        self,
        store: OnlineStore,
        project: str,
        name: str,
        *,
        on_mismatch: str = "refuse",
        log: ServingLog | None = None,
    ) -> None:
        self.store, self.project, self.name = store, project, name
        self.on_mismatch, self.log = on_mismatch, log
        self.live_key = project_key(project, "live", name)
        self.live: bytes | None = None
        self.plan: Plan | None = None

    def current(self) -> Plan:
        """The plan of the version that is live. NotServed, FingerprintMismatch (R6)."""
        live = self.store.read([self.live_key])[0]
        return self.plan if self.plan is not None and live == self.live else self._load(live)

    def get(self, rows: Sequence[Row], as_of: dt.datetime | None = None) -> OnlineResult:
        """The features of each row as of one instant, now by default (T8).

        A row brings every join key (None for an unknown entity) and request field, and nothing
        else. EntityFrameError for a row that does not, AsOfTooOld, NotServed, StoreUnavailable.
        """
        asked = None if as_of is None else [micros(as_of)] * len(rows)
        number = None if self.log is None else self.log.wants()
        plan, entities, values, instants = self.lookup(rows, asked, number)
        shown = instant(instants[0]) if instants else (as_of or _now())
        return plan.result(entities, values, shown)

    def lookup(
        self, rows: Sequence[Row], instants: Sequence[int] | None, number: int | None = None
    ) -> tuple[Plan, dict[str, list[Any]], list[Columns], list[int]]:
        """For each row, the outputs' values and statuses as of the row's own instant in
        microseconds; without `instants`, as of now. With a `number` the log takes them."""
        patience = Patience()
        while True:
            plan = self.plan or self._load(self.store.read([self.live_key])[0])
            entities, requests = plan.check_rows(rows)
            keys = plan.state_keys(entities, len(rows))
            distinct = list(dict.fromkeys(k for row in keys for k in row if k is not None))
            live, *blobs = self.store.read([self.live_key, *distinct])
            if live != self.live:
                self._load(live)  # another version went live: no reader mixes two (F1)
                continue
            found = dict(zip(distinct, blobs, strict=True))
            try:
                answers, resolved = plan.evaluate(keys, found, requests, instants, self.store.read)
            except Moved as moved:
                patience.spend(moved)  # a push was faster than the second read of a large state
                continue
            if number is not None and self.log is not None:
                self.log.take(
                    number, plan.service, entities, requests, answers, resolved, keys, found
                )
            return plan, entities, answers, resolved

    def _load(self, live: bytes | None) -> Plan:
        data = None
        while live is not None:
            plan_key = project_key(self.project, "plan", self.name, live.decode())
            data, now = self.store.read([plan_key, self.live_key])
            if data is not None or now == live:
                break
            live = now  # another version went live, and this one was removed
        if data is None:
            raise NotServed(
                f"project {self.project!r} serves no service {self.name!r}; run `featurekit apply` "
                "and `featurekit materialize` with it, or check the name and the Redis URL"
            )
        self.plan = Plan(self.project, read_plan(data, on_mismatch=self.on_mismatch))
        self.live = live
        return self.plan


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Plan:
    """A compiled service, made ready to evaluate."""

    def __init__(self, project: str, service: Service) -> None:
        self.service = service
        self.prefixes = [state_prefix(project, view) for view in service.views]
        self.functions: list[Callable[..., Any]] = [
            to_python(t.function) for t in service.transforms
        ]
        self.lookups = [ViewLookup(view) for view in service.views]
        self.splitting = [v for v, view in enumerate(service.views) if splits(view)]
        # A row's features stand side by side, view after view, then the transforms.
        first = [0]
        for view in service.views:
            first.append(first[-1] + len(view.features))
        self.places = [
            first[o.view] + o.index if o.view >= 0 else first[-1] + o.index for o in service.outputs
        ]
        self.in_order = self.places == list(range(first[-1]))
        self.first = first
        self.join_keys = service.join_keys
        self.request = {p.name: p.type for p in service.request}
        self.types = {**self.join_keys, **{o.name: o.type for o in service.outputs}}
        self.strict = [
            (o, view.name)
            for o, output in enumerate(service.outputs)
            if output.view >= 0 and (view := service.views[output.view]).on_error == "fail"
        ]

    def check_rows(self, rows: Sequence[Row]) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
        """The join keys by column and the request fields by row, each of its declared type (S2)."""
        known = {*self.join_keys, *self.request}
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise EntityFrameError(f"row {i} is {row!r}; write a dict of {_listed(known)}")
            if row.keys() != known:
                missing, extra = sorted(known - row.keys()), sorted(row.keys() - known)
                what = f"lacks {_listed(missing)}" if missing else f"has {_listed(extra)}"
                raise EntityFrameError(
                    f"row {i} {what}; service {self.service.name!r} takes exactly {_listed(known)}"
                )
        entities = {
            name: [_typed(row[name], type_.or_none(), name, i) for i, row in enumerate(rows)]
            for name, type_ in self.join_keys.items()
        }
        requests = [
            {name: _typed(row[name], type_, name, i) for name, type_ in self.request.items()}
            for i, row in enumerate(rows)
        ]
        return entities, requests

    def state_keys(self, entities: dict[str, list[Any]], n: int) -> list[list[bytes | None]]:
        """For each row, the key of each view's state; None where a join key is None."""
        columns = []
        for prefix, view in zip(self.prefixes, self.service.views, strict=True):
            types = [p.type for p in view.join_keys]
            values = zip(*(entities[p.name] for p in view.join_keys), strict=True)
            columns.append(
                [
                    None
                    if None in key
                    else state_key(prefix, entity_key(list(zip(types, key, strict=True))))
                    for key in values
                ]
            )
        return [[column[i] for column in columns] for i in range(n)]

    def evaluate(
        self,
        keys: list[list[bytes | None]],
        blobs: Mapping[bytes, bytes | None],
        requests: list[dict[str, Any]],
        instants: Sequence[int] | None,
        read: Read,
    ) -> tuple[list[Columns], list[int]]:
        """Each row's outputs, values and statuses, and the instants they are as of.

        `read` reads the blocks of large states; Moved where they have changed since `blobs`.
        """
        if instants is None:
            # One instant a request (T8); never before an arrival that it has already seen, however
            # far this machine's clock lags behind the store's.
            seen = [newest_arrival(b) for b in blobs.values() if b is not None]
            instants = [max([time.time_ns() // 1000, *seen])] * len(keys)
        states: Mapping[bytes, bytes | Large | None] = blobs
        if self.splitting:
            states = self._with_blocks(keys, blobs, instants, read)
        out = []
        for i, row_keys in enumerate(keys):
            at = instants[i]
            answers = [
                lookup.answer(None if key is None else states[key], at)
                for lookup, key in zip(self.lookups, row_keys, strict=True)
            ]
            out.append(self.outputs(answers, requests[i], i))
        return out, list(instants)

    def _with_blocks(
        self,
        keys: list[list[bytes | None]],
        blobs: Mapping[bytes, bytes | None],
        instants: Sequence[int],
        read: Read,
    ) -> Mapping[bytes, bytes | Large | None]:
        """The states, those in blocks with the blocks that the instants need: one more round trip
        where there are any."""
        large: dict[bytes, Large] = {}
        wanted: dict[tuple[bytes, int], None] = {}
        for v in self.splitting:
            lookup = self.lookups[v]
            for at, row_keys in zip(instants, keys, strict=True):
                key = row_keys[v]
                blob = None if key is None else blobs[key]
                if key is None or not is_head(blob):
                    continue
                state = large.get(key) or large.setdefault(key, lookup.open(blob))
                wanted |= dict.fromkeys((key, k) for k in needed(state.head, at))
        if not large:
            return blobs
        names = [block_key(key, large[key].head.name(k)) for key, k in wanted]
        for (key, k), block in zip(wanted, read(names) if names else [], strict=True):
            large[key].take(key, k, block)
        return {**blobs, **large}

    def outputs(self, answers: list[Columns], request: dict[str, Any], row: int) -> Columns:
        """The row's outputs: features, and the transforms over them (Q1)."""
        if self.in_order and len(answers) == 1:
            values, statuses = answers[0]
        else:
            flat = [value for answer in answers for value in answer[0]]
            flat_statuses = [status for answer in answers for status in answer[1]]
            self._add_transforms(flat, flat_statuses, request)
            values = [flat[p] for p in self.places]
            statuses = [flat_statuses[p] for p in self.places]
        for o, view in self.strict:
            if statuses[o] == ERROR_STATUS:
                raise TransformError(
                    f"feature {self.service.outputs[o].full_name!r} erred for row {row}, and view "
                    f'{view!r} says on_error="fail"'
                )
        return values, statuses

    def _add_transforms(
        self, flat: list[Any], statuses: list[str], request: dict[str, Any]
    ) -> None:
        made: list[Any] = []
        for transform, function in zip(self.service.transforms, self.functions, strict=True):
            arguments = []
            for given in transform.inputs:
                if given.kind == "request":
                    arguments.append(request[given.name])
                elif given.kind == "transform":
                    arguments.append(made[given.index])
                else:
                    at = self.first[given.view] + given.index
                    arguments.append(ERROR if statuses[at] == ERROR_STATUS else flat[at])
            erring = any(a is ERROR for a in arguments)  # reading an erring feature errs (R3)
            result = ERROR if erring else function(*arguments)
            made.append(result)
            value, status = stated(result)
            flat.append(value)
            statuses.append(status)

    def result(
        self, entities: dict[str, list[Any]], rows: list[Columns], as_of: dt.datetime
    ) -> OnlineResult:
        """The rows' outputs by column."""
        names = [o.name for o in self.service.outputs]
        values = zip(*(v for v, _ in rows), strict=True) if rows else ([] for _ in names)
        statuses = zip(*(s for _, s in rows), strict=True) if rows else ([] for _ in names)
        columns = {n: list(column) for n, column in zip(names, values, strict=True)}
        status = {n: list(column) for n, column in zip(names, statuses, strict=True)}
        return OnlineResult(as_of, entities, columns, status, self.types)


def _listed(names: Any) -> str:
    return ", ".join(sorted(map(str, names)))


_PLAIN: dict[str, type] = {"int": int, "float": float, "bool": bool}


def _typed(value: Any, type_: Type, name: str, row: int) -> Any:
    """`value` if it is of `type_`; a NumPy scalar or array as the Python value it holds (S2)."""
    if type_.choices is not None or type_.item is not None:
        return _narrow(value, type_, name, row)
    plain = _PLAIN.get(type_.name)
    if type(value) is plain and (not isinstance(value, int) or INT_MIN <= value <= INT_MAX):
        return value
    if value is None and type_.optional:
        return None
    found: Any = value
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        found = value.item() if value.ndim == 0 else value
    wanted = type_.base
    if wanted == INT and type(found) is int and INT_MIN <= found <= INT_MAX:
        return found
    if wanted == FLOAT and type(found) is int and abs(found) <= 2**53:
        return float(found)
    kinds: dict[str, type] = {"float": float, "str": str, "bool": bool, "bytes": bytes}
    kinds |= {"datetime": dt.datetime, "date": dt.date, "timedelta": dt.timedelta}
    if wanted != INT and type(found) is kinds[wanted.name]:
        if isinstance(found, dt.datetime):
            return instant(micros(found))
        if isinstance(found, str):
            try:
                found.encode()
            except UnicodeEncodeError:
                raise EntityFrameError(
                    f"row {row}, {name!r}: a lone surrogate in {found!r}"
                ) from None
        return found
    raise _mistyped(value, type_, name, row)


def _narrow(value: Any, type_: Type, name: str, row: int) -> Any:
    """A value of a type with choices, a list or a vector."""
    if value is None and type_.optional:
        return None
    if type_.item is None:
        made = _typed(value, type_.plain, name, row)
        if made in (type_.choices or ()):
            return made
        raise _mistyped(value, type_, name, row)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list) or (type_.size is not None and len(value) != type_.size):
        raise _mistyped(value, type_, name, row)
    items = [_typed(item, type_.item, name, row) for item in value]
    if type_.size is None:
        return items
    try:
        return [as_float32(item) for item in items]
    except OverflowError:
        raise _mistyped(value, type_, name, row) from None


def _mistyped(value: Any, type_: Type, name: str, row: int) -> EntityFrameError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}…"
    found = f"{shown} ({type(value).__name__})"
    return EntityFrameError(f"row {row}, {name!r}: expected {type_}, found {found}")
