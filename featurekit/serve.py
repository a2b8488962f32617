"""Turns entity rows into features, from the states in an online store.

A serving process needs a Redis URL, a project and a service's name: the compiled plan lies in
Redis beside the states, and neither the feature repo nor DuckDB is read.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import json
import struct
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from featurekit import __version__
from featurekit.compiled import Input, Service, View
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
from featurekit.online.codec import encode_keys, entity_key
from featurekit.online.lookup import Columns, Packed, ViewLookup
from featurekit.online.mget import Heads, Keys, Values, sent
from featurekit.online.result import Batch, OnlineResult, Shape
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
        # The version that was last seen to be live and its plan, always both at once: a lookup in
        # another thread or task may follow a switch while this one waits for the store.
        self._served: tuple[bytes, Plan] | None = None

    def current(self) -> Plan:
        """The plan of the version that is live. NotServed, FingerprintMismatch (R6)."""
        live = self.store.read([self.live_key])[0]
        served = self._served
        if served is not None and live == served[0]:
            return served[1]
        return run(self._load(live), self.store.read)[1]

    def get(self, rows: Sequence[Row], as_of: dt.datetime | None = None) -> OnlineResult:
        """The features of each row as of one instant, now by default (T8).

        A row brings every join key (None for an unknown entity) and request field, and nothing
        else. EntityFrameError for a row that does not, AsOfTooOld, NotServed, StoreUnavailable.
        """
        return run(self._get(rows, as_of), self.store.read)

    async def get_async(
        self, rows: Sequence[Row], as_of: dt.datetime | None = None
    ) -> OnlineResult:
        """As `get`, waiting for the store without holding up the event loop."""
        return await run_async(self._get(rows, as_of), self.store.read_async)

    def _get(self, rows: Sequence[Row], as_of: dt.datetime | None) -> Steps[OnlineResult]:
        asked = None if as_of is None else [micros(as_of)] * len(rows)
        number = None if self.log is None else self.log.wants()
        plan, entities, answers, instants = yield from self._lookup(rows, asked, number)
        shown = instant(instants[0]) if instants else (as_of or _now())
        return OnlineResult(shown, entities, answers, plan.shape)

    def lookup(
        self, rows: Sequence[Row], instants: Sequence[int] | None, number: int | None = None
    ) -> tuple[Plan, dict[str, list[Any]], list[Columns], list[int]]:
        """For each row, the outputs' values and statuses as of the row's own instant in
        microseconds; without `instants`, as of now. With a `number` the log takes them."""
        steps = self._lookup(rows, instants, number)
        plan, entities, answers, resolved = run(steps, self.store.read)
        return plan, entities, each_row(answers), resolved

    def _lookup(
        self, rows: Sequence[Row], instants: Sequence[int] | None, number: int | None
    ) -> Steps[tuple[Plan, dict[str, list[Any]], Answers, list[int]]]:
        patience: Patience | None = None
        while True:
            version, plan = self._served or (yield from self._load((yield [self.live_key])[0]))
            entities, requests = plan.check_rows(rows)
            columns: list[list[bytes | None]] = []
            keys: Sequence[bytes] | None = None
            if number is None:  # the log wants each row's keys
                keys = plan.keys_at_once(self.live_key, entities, len(rows))
            if keys is None:
                columns = plan.key_columns(entities)
                every = dict.fromkeys(itertools.chain.from_iterable(columns))
                keys = [self.live_key, *[key for key in every if key is not None]]
            values = yield keys
            live = values[0]
            if live != version:  # another version went live: no reader mixes two (F1)
                if self._served is None or live != self._served[0]:
                    yield from self._load(live)
                continue
            if type(keys) is Keys:
                return plan, entities, *plan.answered(keys.groups(values), requests, instants)
            found = dict(zip(keys[1:], values[1:], strict=True))
            try:
                answers, resolved = yield from plan.evaluating(columns, found, requests, instants)
            except Moved as moved:
                patience = patience or Patience()
                patience.spend(moved)  # a push was faster than the second read of a large state
                continue
            if number is not None and self.log is not None:
                asked = list(zip(*columns, strict=True)) or [()] * len(rows)
                own = each_row(answers)
                self.log.take(number, plan.service, entities, requests, own, resolved, asked, found)
            return plan, entities, answers, resolved

    def _load(self, live: bytes | None) -> Steps[tuple[bytes, Plan]]:
        data = None
        while live is not None:
            plan_key = project_key(self.project, "plan", self.name, live.decode())
            data, now = yield [plan_key, self.live_key]
            if data is not None or now == live:
                break
            live = now  # another version went live, and this one was removed
        if data is None or live is None:
            raise NotServed(
                f"project {self.project!r} serves no service {self.name!r}; run `featurekit apply` "
                "and `featurekit materialize` with it, or check the name and the Redis URL"
            )
        served = live, Plan(self.project, read_plan(data, on_mismatch=self.on_mismatch))
        self._served = served
        return served


Answers = list[Columns] | Batch
"""What rows are answered, row by row or many at once."""


def each_row(answers: Answers) -> list[Columns]:
    """Answers row by row."""
    return answers.rows() if isinstance(answers, Batch) else answers


_T = TypeVar("_T")

Steps = Generator[Sequence[bytes], Values, _T]
"""Work that yields keys where it needs their values: however they are read, the rest is one."""


def run(steps: Steps[_T], read: Read) -> _T:
    """Do the work, with `read` for what it needs."""
    try:
        keys = next(steps)
        while True:
            keys = steps.send(read(keys))
    except StopIteration as done:
        found: _T = done.value
        return found


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _asked_at(now: int, arrivals: Sequence[int]) -> int:
    """The one instant of a request (T8); never before an arrival that it has already seen, however
    far this machine's clock lags behind the store's."""
    return max([now, *arrivals])


def _now_of(states: Iterable[bytes | None], n: int) -> list[int]:
    """The instant of a request of `n` rows that names none, for each of them."""
    seen = [newest_arrival(blob) for blob in states if blob is not None]
    return [_asked_at(time.time_ns() // 1000, seen)] * n


async def run_async(steps: Steps[_T], read: Callable[[Sequence[bytes]], Awaitable[Values]]) -> _T:
    """Do the work, waiting for `read`."""
    try:
        keys = next(steps)
        while True:
            keys = steps.send(await read(keys))
    except StopIteration as done:
        found: _T = done.value
        return found


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
        self.batches = (
            bool(self.lookups)
            and not service.transforms
            and all(lookup.whole is not None for lookup in self.lookups)
        )
        self.first = first
        self.join_keys = service.join_keys
        self.request = {p.name: p.type for p in service.request}
        self.known = {*self.join_keys, *self.request}
        self.shape = Shape(self.join_keys, {o.name: o.type for o in service.outputs})
        self.strict = [
            (o, view.name)
            for o, output in enumerate(service.outputs)
            if output.view >= 0 and (view := service.views[output.view]).on_error == "fail"
        ]
        self._int_keys = all(t == INT and t.choices is None for t in self.join_keys.values())
        self._keyed = [tuple(p.name for p in view.join_keys) for view in service.views]
        # Of views with one join key: it, and what stands before it in the keys.
        self._heads: list[tuple[str, Heads]] | None = None
        if self.batches and all(len(names) == 1 for names in self._keyed):
            names = itertools.chain.from_iterable(self._keyed)
            self._heads = list(zip(names, map(Heads, self.prefixes), strict=True))
        self._transform = _transforms(service, first, self.functions)

    def check_rows(self, rows: Sequence[Row]) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
        """The join keys by column and the request fields by row, each of its declared type (S2)."""
        entities = self._plain_keys(rows)
        if entities is None:
            self._check_names(rows)
            entities = {
                name: [_typed(row[name], type_.or_none(), name, i) for i, row in enumerate(rows)]
                for name, type_ in self.join_keys.items()
            }
        if not self.request:
            return entities, [{}] * len(rows)
        requests = [
            {name: _typed(row[name], type_, name, i) for name, type_ in self.request.items()}
            for i, row in enumerate(rows)
        ]
        return entities, requests

    def _plain_keys(self, rows: Sequence[Row]) -> dict[str, list[Any]] | None:
        """The join keys of rows that are dicts of the right names, where all keys are ints: seen
        without a look at each row. None for others, right or wrong."""
        n = len(rows)
        if not self._int_keys or list(map(type, rows)).count(dict) != n:
            return None
        if sum(map(len, rows)) != n * len(self.known):
            return None
        entities = {}
        try:
            for name in self.request:
                for row in rows:
                    row[name]
            for name in self.join_keys:
                column = list(map(itemgetter(name), rows))
                if list(map(type, column)).count(int) != n:
                    return None
                struct.pack(f"{n}q", *column)  # an error where one leaves int64
                entities[name] = column
        except (KeyError, struct.error):
            return None
        return entities

    def _check_names(self, rows: Sequence[Row]) -> None:
        known = self.known
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise EntityFrameError(f"row {i} is {row!r}; write a dict of {_listed(known)}")
            if row.keys() != known:
                missing, extra = sorted(known - row.keys()), sorted(row.keys() - known)
                what = f"lacks {_listed(missing)}" if missing else f"has {_listed(extra)}"
                raise EntityFrameError(
                    f"row {i} {what}; service {self.service.name!r} takes exactly {_listed(known)}"
                )

    def key_columns(self, entities: dict[str, list[Any]]) -> list[list[bytes | None]]:
        """For each view, the key of each row's state; None where a join key is None."""
        tags: dict[tuple[str, ...], list[bytes | None]] = {}
        columns = []
        for prefix, names in zip(self.prefixes, self._keyed, strict=True):
            if names not in tags:
                tags[names] = self._tags([entities[name] for name in names], names)
            columns.append([tag and prefix + tag for tag in tags[names]])
        return columns

    def _tags(self, columns: list[list[Any]], names: tuple[str, ...]) -> list[bytes | None]:
        """What names each entity at the end of its keys; None where a join key is None."""
        types = [self.join_keys[name] for name in names]
        if types == [INT]:
            texts = [None if value is None else b"i%d" % value for value in columns[0]]
            return [text and b"{%d:%b}" % (len(text), text) for text in texts]
        return [
            None if None in key else state_key(b"", entity_key(list(zip(types, key, strict=True))))
            for key in zip(*columns, strict=True)
        ]

    def keys_at_once(self, live_key: bytes, entities: dict[str, list[Any]], n: int) -> Keys | None:
        """`live_key` and the keys of each view's states, row by row; None where `n` rows are not to
        be answered at once: most of them are of few entities, or a join key is None."""
        if self._heads is None or n < 2:
            return None
        ends: dict[str, list[bytes]] = {}
        parts = [sent([live_key])]
        for name, heads in self._heads:
            if name not in ends:
                column = entities[name]
                if None in column or 2 * len(set(column)) < n:
                    return None
                ends[name] = encode_keys(self.join_keys[name], column)
            parts.append(heads.sent(ends[name]))
        return Keys(b"".join(parts), 1 + n * len(self._heads), n)

    def state_keys(self, entities: dict[str, list[Any]], n: int) -> list[list[bytes | None]]:
        """For each of `n` rows, the key of each view's state; None where a join key is None."""
        columns = self.key_columns(entities)
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
        columns = [[row[v] for row in keys] for v in range(len(self.lookups))]
        answers, resolved = run(self.evaluating(columns, blobs, requests, instants), read)
        return each_row(answers), resolved

    def evaluating(
        self,
        keys: list[list[bytes | None]],
        blobs: Mapping[bytes, bytes | None],
        requests: list[dict[str, Any]],
        instants: Sequence[int] | None,
    ) -> Steps[tuple[Answers, list[int]]]:
        """As `evaluate`, of keys by view: it yields the keys of the blocks of large states."""
        n = len(requests)
        states: Mapping[bytes, bytes | Large | None] = blobs
        if self.batches and n > 1 and not any(None in column for column in keys):
            states_of = [[blobs[key] for key in column if key is not None] for column in keys]
            answered = self.at_once(states_of, instants)
            if answered is not None:
                return answered
        if instants is None:
            instants = _now_of(blobs.values(), n)
        if self.splitting:
            states = yield from self._with_blocks(keys, blobs, instants)
        given = [[None if key is None else states[key] for key in column] for column in keys]
        return self._one_by_one(given, requests, instants), list(instants)

    def answered(
        self,
        states: Sequence[Values],
        requests: list[dict[str, Any]],
        instants: Sequence[int] | None,
    ) -> tuple[Answers, list[int]]:
        """The answers to rows, of each view whose states are those of all rows; of views none of
        whose states lies in blocks."""
        found = self.at_once(states, instants)
        if found is not None:
            return found
        given = [list(blobs) for blobs in states]
        if instants is None:
            instants = _now_of(itertools.chain.from_iterable(given), len(requests))
        return self._one_by_one(given, requests, instants), list(instants)

    def _one_by_one(
        self,
        states: Sequence[Sequence[bytes | Large | None]],
        requests: list[dict[str, Any]],
        instants: Sequence[int],
    ) -> list[Columns]:
        out = []
        for i, at in enumerate(instants):
            answers = [
                lookup.answer(blobs[i], at)
                for lookup, blobs in zip(self.lookups, states, strict=True)
            ]
            out.append(self.outputs(answers, requests[i], i))
        return out

    def at_once(
        self, states: Sequence[Values], instants: Sequence[int] | None
    ) -> tuple[Batch, list[int]] | None:
        """The answers to rows whose states, of each view those of all rows, are read as columns;
        None where they are not."""
        n, packed = len(states[0]), list[Packed]()
        if instants is not None and instants.count(instants[0]) != n:
            return None
        for lookup, blobs in zip(self.lookups, states, strict=True):
            one = lookup.packed(blobs)
            if one is None:
                return None
            packed.append(one)
        if instants is None:
            now = time.time_ns() // 1000
            ahead = [view.arrived for view in packed if view.latest > now]
            instants = [_asked_at(now, ahead)] * n
        if not all(view.counts(instants[0]) for view in packed):
            return None
        # The result lasts, and has no use for the rows' instants.
        kept = [Packed(view.lookup, view.run, [], view.latest) for view in packed]
        return Batch(kept, None if self.in_order else self.places), list(instants)

    def _with_blocks(
        self,
        keys: list[list[bytes | None]],
        blobs: Mapping[bytes, bytes | None],
        instants: Sequence[int],
    ) -> Steps[Mapping[bytes, bytes | Large | None]]:
        """The states, those in blocks with the blocks that the instants need: one more round trip
        where there are any."""
        large: dict[bytes, Large] = {}
        wanted: dict[tuple[bytes, int], None] = {}
        for v in self.splitting:
            lookup = self.lookups[v]
            for at, key in zip(instants, keys[v], strict=True):
                blob = None if key is None else blobs[key]
                if key is None or not is_head(blob):
                    continue
                state = large.get(key) or large.setdefault(key, lookup.open(blob))
                wanted |= dict.fromkeys((key, k) for k in needed(state.head, at))
        if not large:
            return blobs
        names = [block_key(key, large[key].head.name(k)) for key, k in wanted]
        found = (yield names) if names else []
        for (key, k), block in zip(wanted, found, strict=True):
            large[key].take(key, k, block)
        return {**blobs, **large}

    def outputs(self, answers: list[Columns], request: dict[str, Any], row: int) -> Columns:
        """The row's outputs: features, and the transforms over them (Q1)."""
        if self.in_order and len(answers) == 1:
            values, statuses = answers[0]
        else:
            flat = [value for answer in answers for value in answer[0]]
            flat_statuses = [status for answer in answers for status in answer[1]]
            self._transform(flat, flat_statuses, request)
            values = [flat[p] for p in self.places]
            statuses = [flat_statuses[p] for p in self.places]
        for o, view in self.strict:
            if statuses[o] == ERROR_STATUS:
                raise TransformError(
                    f"feature {self.service.outputs[o].full_name!r} erred for row {row}, and view "
                    f'{view!r} says on_error="fail"'
                )
        return values, statuses


def _transforms(
    service: Service, first: Sequence[int], functions: Sequence[Callable[..., Any]]
) -> Callable[[list[Any], list[str], Mapping[str, Any]], None]:
    """What adds the values and statuses of the transforms to those of the features that stand side
    by side, each view's from its place in `first` on (Q1).

    One function is written for all, since what is looked up by name and asked again for each row
    would cost more than most transforms do.
    """
    lines = ["def add(values, statuses, request):"]
    ready: set[str] = set()

    def argument(given: Input) -> str:
        if given.kind == "request":
            return f"request[{given.name!r}]"
        if given.kind == "transform":
            return f"m{given.index}"
        at = first[given.view] + given.index
        if f"a{at}" not in ready:
            ready.add(f"a{at}")
            lines.append(f"    a{at} = ERROR if statuses[{at}] == ERROR_STATUS else values[{at}]")
        return f"a{at}"

    for i, transform in enumerate(service.transforms):
        arguments = [argument(given) for given in transform.inputs]
        given = zip(arguments, transform.inputs, strict=True)
        # Reading an erring feature errs (R3).
        read = list(dict.fromkeys(text for text, of in given if of.kind != "request"))
        erring = " or ".join(f"{text} is ERROR" for text in read)
        call = f"f{i}({', '.join(arguments)})"
        lines += [
            f"    m{i} = {f'ERROR if {erring} else {call}' if erring else call}",
            f"    value, status = stated(m{i})",
            "    values.append(value)",
            "    statuses.append(status)",
        ]
    lines.append("    return None")
    names = {"ERROR": ERROR, "ERROR_STATUS": ERROR_STATUS, "stated": stated}
    namespace: dict[str, Any] = names | {f"f{i}": f for i, f in enumerate(functions)}
    exec(compile("\n".join(lines), f"<transforms of {service.name}>", "exec"), namespace)
    add: Callable[[list[Any], list[str], Mapping[str, Any]], None] = namespace["add"]
    return add


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
