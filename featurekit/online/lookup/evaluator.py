"""Turns a compiled service and the states of entities into the answers for rows."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from operator import itemgetter
from typing import Any

from featurekit.core.calls import found as shown_value
from featurekit.core.columns import Columns
from featurekit.core.keys import clock_key, entity_tags, state_prefix
from featurekit.core.samples import row_in_python
from featurekit.core.status import DAMAGED, ERROR_STATUS
from featurekit.core.types import INT, instant
from featurekit.core.values import ERROR
from featurekit.define.lacking import may_lack
from featurekit.define.plan import Input, Service
from featurekit.define.published import broken
from featurekit.errors import (
    AsOfTooOld,
    DamagedState,
    EntityFrameError,
    FeaturekitError,
    TransformError,
)
from featurekit.language.to_python import to_python
from featurekit.language.transform import INSTANT
from featurekit.online.lookup.answer import arrival_ahead, stated
from featurekit.online.lookup.blocks import Large, UnreadLarge, needed
from featurekit.online.lookup.result import Batch, Shape
from featurekit.online.lookup.rows import EntityRow, Given, typed, typed_column
from featurekit.online.lookup.steps import Answers, Opened, Steps, each_row, run
from featurekit.online.lookup.view import Listed, Packed, RowAnswer, States, ViewLookup
from featurekit.online.state.blocks import BlocksHead, ReadKeys, block_key, is_head, splits
from featurekit.online.state.seal import (
    UNREADABLE,
    damaged,
    is_sealed,
    opened_group,
    opened_state,
)
from featurekit.online.state.state import newest_arrival
from featurekit.online.store.replies import Ends, Heads, Keys, Values, arguments


@dataclass(slots=True)
class Ahead:
    """The rows of a request with a state that holds an arrival after `clock`, which was read after
    the states (S3); each with why it is not answered.

    No such arrival is taken any more. The state may have dropped what an earlier instant needs, so
    the features of its view are erring.
    """

    clock: int
    rows: dict[int, AsOfTooOld] = field(default_factory=dict)


class Evaluator:
    """A compiled service, made ready to answer rows from states."""

    def __init__(self, project: str, service: Service) -> None:
        self.service = service
        self.prefixes = [state_prefix(project, view) for view in service.views]
        self.clock_key = clock_key(project)
        self.functions: list[Callable[..., Any]] = [
            to_python(t.function) for t in service.transforms
        ]
        self.lookups = [
            ViewLookup(view, features)
            for view, features in zip(service.views, _read(service), strict=True)
        ]
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
        self.known = {*self.join_keys, *self.request}
        self._shapes: dict[tuple[bool, bool], Shape] = {}
        self.strict = [
            (o, view.name)
            for o, output in enumerate(service.outputs)
            if output.view >= 0 and (view := service.views[output.view]).on_error == "fail"
        ]
        self._int_keys = all(t == INT and t.choices is None for t in self.join_keys.values())
        self._keyed = [tuple(p.name for p in view.row_keys) for view in service.views]
        self._read_keys = service.reads("key")
        self._heads = [Heads(prefix) for prefix in self.prefixes]
        self._plain = all(lookup.whole is not None for lookup in self.lookups)
        self._transform = _transforms(service, first, self.functions)

    def shape(self, *, full_names: bool, request: bool) -> Shape:
        """The columns of the answers, with the features' full names, or with the request fields,
        where these are asked for."""
        made = self._shapes.get((full_names, request))
        if made is None:
            outputs = self.service.outputs
            names = [o.full_name if full_names else o.name for o in outputs]
            features = {name: o.type for name, o in zip(names, outputs, strict=True)}
            shown = self.request if request else {}
            lacks = [n for n, lack in zip(names, may_lack(self.service), strict=True) if lack]
            lacks += [name for name, type_ in shown.items() if type_.optional]
            made = Shape(self.join_keys, features, shown, tuple(lacks))
            self._shapes[full_names, request] = made
        return made

    def check_rows(self, rows: Given) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
        """The join keys by column and the request fields by row, each of its declared type (S2)."""
        if isinstance(rows, Columns):
            return self._check_columns(rows)
        entities = self._plain_keys(rows)
        if entities is None:
            self._check_names(rows)
            entities = {
                name: [typed(row[name], type_.or_none(), name, i) for i, row in enumerate(rows)]
                for name, type_ in self.join_keys.items()
            }
        if not self.request and not self._read_keys:
            return entities, [{}] * len(rows)
        requests = [
            {name: typed(row[name], type_, name, i) for name, type_ in self.request.items()}
            for i, row in enumerate(rows)
        ]
        return entities, self._with_keys(requests, entities)

    def _with_keys(
        self, requests: list[dict[str, Any]], entities: Mapping[str, list[Any]]
    ) -> list[dict[str, Any]]:
        """The request fields by row, with the join keys that transforms read as they read these."""
        for name in self._read_keys:
            for request, key in zip(requests, entities[name], strict=True):
                request[name] = key
        return requests

    def _check_columns(self, columns: Columns) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
        known, found = self.known, columns.values.keys()
        if found != known:
            missing, extra = sorted(known - found), sorted(map(str, found - known))
            what = f"lack a column {_listed(missing)}" if missing else f"have {_listed(extra)}"
            raise EntityFrameError(
                f"entity rows {what}; {_takes(known, missing, extra, self.service.name)}"
                + ("" if missing else f": frame[[{', '.join(map(repr, sorted(known)))}]]")
            )
        entities = {
            name: typed_column(columns, name, type_.or_none())
            for name, type_ in self.join_keys.items()
        }
        if not self.request and not self._read_keys:
            return entities, [{}] * len(columns)
        fields = [typed_column(columns, name, type_) for name, type_ in self.request.items()]
        names, rows = list(self.request), zip(*fields, strict=True)
        requests = [dict(zip(names, row, strict=True)) for row in rows] if fields else []
        return entities, self._with_keys(requests or [{} for _ in range(len(columns))], entities)

    def _plain_keys(self, rows: Sequence[EntityRow]) -> dict[str, list[Any]] | None:
        """The join keys by column, for rows that are dicts of the right names whose keys are all
        ints; None for other rows, right or wrong. It checks whole columns, and does not look at
        each row."""
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
                struct.pack(f"{n}q", *column)  # raises where a key is outside int64
                entities[name] = column
        except (KeyError, struct.error):
            return None
        return entities

    def _check_names(self, rows: Sequence[EntityRow]) -> None:
        known = self.known
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise EntityFrameError(
                    f"row {i} (the first is 0) is {shown_value(row)}, and no dict; write "
                    f"{row_in_python({**self.join_keys, **self.request})}"
                )
            if row.keys() != known:
                missing = sorted(known - row.keys())
                extra = sorted(map(str, row.keys() - known))
                lacks = [f"lacks {_listed(missing)}"] if missing else []
                more = [f"has {_listed(extra)}"] if extra else []
                raise EntityFrameError(
                    f"row {i} {' and '.join(lacks + more)}; "
                    f"{_takes(known, missing, extra, self.service.name)}"
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
        """The part of a state's key that names the entity, for each row; None where a join key is
        None."""
        types = [self.join_keys[name] for name in names]
        if not [column for column in columns if None in column]:
            return entity_tags(types, columns)  # type: ignore[return-value]
        rows = list(zip(*columns, strict=True))
        whole = [row for row in rows if None not in row]
        found = iter(entity_tags(types, [[row[i] for row in whole] for i in range(len(types))]))
        return [None if None in row else next(found) for row in rows]

    def keys_at_once(
        self, firsts: Sequence[bytes], entities: dict[str, list[Any]], n: int
    ) -> Keys | None:
        """`firsts` and the keys of each view's states, row by row.

        None where the `n` rows should not be answered at once: a join key is None, or some repeat
        an entity whose state may be large, and is read once. A plain state is read as often as it
        is asked for, all at one instant: its few bytes cost less than to tell the rows apart.
        """
        if not self.lookups or n < 2:
            return None
        ends: dict[tuple[str, ...], Ends] = {}
        parts, groups_of = [arguments(firsts)], []
        for names, heads in zip(self._keyed, self._heads, strict=True):
            if names not in ends:
                columns = [entities[name] for name in names]
                if any(None in column for column in columns):
                    return None
                rows = columns[0] if len(names) == 1 else zip(*columns, strict=True)
                if not self._plain and len(set(rows)) < n:
                    return None
                types = [self.join_keys[name] for name in names]
                ends[names] = Ends(entity_tags(types, columns))
            parts.append(heads.sent(ends[names]))
            groups_of.append((heads.prefix, ends[names].plain))
        total = len(firsts) + n * len(self._heads)
        sent = b"".join(parts)
        return Keys(sent, total, n, groups_of, firsts=len(firsts), plain=self._plain)

    def state_keys(self, entities: dict[str, list[Any]], n: int) -> list[list[bytes | None]]:
        """The keys of all views' states, for each of `n` rows; None where a join key is None."""
        columns = self.key_columns(entities)
        return [[column[i] for column in columns] for i in range(n)]

    def evaluate(
        self,
        keys: list[list[bytes | None]],
        blobs: Mapping[bytes, bytes | None],
        requests: list[dict[str, Any]],
        instants: Sequence[int],
        read: ReadKeys,
        ahead: Ahead | None = None,
    ) -> list[RowAnswer]:
        """The outputs of each row as of its instant, as values and statuses.

        `read` reads the blocks of large states. Moved where these have changed since `blobs` was
        read. AsOfTooOld for an instant before the horizon of a state, unless that is for an arrival
        which is `ahead`.
        """
        columns = [[row[v] for row in keys] for v in range(len(self.lookups))]
        states = self.opened(columns, blobs)
        try:
            answers = run(self.evaluating(columns, states, requests, instants, ahead), read)
        except UNREADABLE as raised:
            for error in self.unreadable(columns, blobs, instants, raised).values():
                raise error from None
            raise
        return each_row(answers)

    def opened(
        self, keys: list[list[bytes | None]], values: Mapping[bytes, bytes | None]
    ) -> dict[bytes, Opened]:
        """The states that were kept under the keys, which are given by view."""
        states: dict[bytes, Opened] = {}
        for lookup, column in zip(self.lookups, keys, strict=True):
            for key in column:
                if key is None or key in states:
                    continue
                try:
                    states[key] = opened_state(lookup.view, key, values[key])
                except DamagedState as error:
                    states[key] = error
        return states

    def unreadable(
        self,
        keys: list[list[bytes | None]],
        values: Mapping[bytes, bytes | None],
        instants: Sequence[int] | None,
        raised: Exception,
    ) -> dict[bytes, DamagedState]:
        """The states without a checksum that cannot be read as they are, after an evaluation
        `raised`; the others are whole, or were shown to be by their checksum."""
        found: dict[bytes, DamagedState] = {}
        for lookup, column in zip(self.lookups, keys, strict=True):
            for key in column:
                value = None if key is None else values[key]
                if key is None or value is None or is_sealed(value):
                    continue
                try:
                    newest = newest_arrival(value)
                    if is_head(value):
                        BlocksHead(lookup.layout, value).blocks()
                        if isinstance(raised, UnreadLarge) and raised.key == key:
                            raise raised
                        continue
                    for at in instants or (newest,):
                        lookup.answer(value, at)
                except FeaturekitError:
                    continue
                except UNREADABLE as error:
                    found[key] = damaged(lookup.view, key, f"it cannot be read ({error})")
        return found

    def evaluating(
        self,
        keys: list[list[bytes | None]],
        opened: Mapping[bytes, Opened],
        requests: list[dict[str, Any]],
        instants: Sequence[int],
        ahead: Ahead | None = None,
    ) -> Steps[Answers]:
        """As `evaluate`, with the keys by view and the states `opened`; it yields the keys of
        blocks of large states."""
        given = [[None if key is None else opened[key] for key in column] for column in keys]
        states = yield from self._with_blocks(given, lambda v, i: keys[v][i] or b"", instants)
        return self._of_views(states, requests, instants, ahead)

    def answered(
        self,
        keys: Keys,
        values: Values,
        requests: list[dict[str, Any]],
        instants: Sequence[int],
        ahead: Ahead | None = None,
    ) -> Steps[Answers | None]:
        """The answers for rows, each as of its instant; None where a state is damaged. It yields
        the keys of blocks of large states.

        `keys` has a group for each view, with one key for each row.
        """
        opened: list[Values] = []
        for (prefix, ends), group in zip(keys.groups_of, keys.groups(values), strict=True):
            found = opened_group(group, prefix, ends)
            if found is None:
                return None
            opened.append(found)

        def key_of(v: int, i: int) -> bytes:
            prefix, ends = keys.groups_of[v]
            return prefix + ends[i]

        try:
            states = yield from self._with_blocks(opened, key_of, instants)
            return self._of_views(states, requests, instants, ahead)
        except UNREADABLE:
            return None

    def _of_views(
        self,
        states: Sequence[States],
        requests: list[dict[str, Any]],
        instants: Sequence[int],
        ahead: Ahead | None,
    ) -> Answers:
        """The outputs of each row. The features of a damaged state are None with the status
        DAMAGED; where no row is without one, the error is raised."""
        if len(instants) == 1:
            one = self._of_one(states, requests[0], instants[0])
            if one is not None:
                return [one]
        refused: dict[int, FeaturekitError] = {}
        views = [
            self._of_view(lookup, of_view, instants, ahead, refused)
            for lookup, of_view in zip(self.lookups, states, strict=True)
        ]
        if refused:
            raise refused[min(refused)]
        damaged: dict[int, DamagedState] = {}
        for view in views:
            if isinstance(view, Listed):
                damaged |= view.damaged
        if damaged and len(damaged) == len(instants):
            raise damaged[0]
        if len(instants) > 1 and views and not self.service.transforms:
            batch = Batch(views, None if self.in_order else self.places)
            self._check_strict(batch)
            return batch
        columns = [view.answers() for view in views]
        return [
            self.outputs([column[i] for column in columns], requests[i], i, at)
            for i, at in enumerate(instants)
        ]

    def _of_one(
        self, states: Sequence[States], request: dict[str, Any], at: int
    ) -> RowAnswer | None:
        """As `_of_views`, for one row; None where some state does not answer."""
        answers = []
        try:
            for lookup, (state,) in zip(self.lookups, states, strict=True):
                if type(state) is DamagedState:
                    return None
                answers.append(lookup.answer(state, at))  # type: ignore[arg-type]
        except (AsOfTooOld, *UNREADABLE):
            return None  # which the way of many tells in detail
        return self.outputs(answers, request, 0, at)

    def _of_view(
        self,
        lookup: ViewLookup,
        states: States,
        instants: Sequence[int],
        ahead: Ahead | None,
        refused: dict[int, FeaturekitError],
    ) -> Packed | Listed:
        """A view's answer for each row: erring where its state holds an arrival that is ahead.
        Windows of an entity that another row has asked about are computed once. The first row that
        has no answer is `refused`, with the error, unless an earlier view has refused it."""
        n = len(instants)
        if n > 1 and lookup.whole is not None and instants.count(instants[0]) == n:
            packed = lookup.packed(states)
            if packed is not None and packed.counts(instants[0]):
                # The result may live long, and it does not need the rows' instants.
                return Packed(lookup, packed.run, [], packed.latest)
        answers: list[RowAnswer] = []
        damaged: dict[int, DamagedState] = {}
        known: dict[tuple[int, int], RowAnswer] | None = None
        if lookup.view.kind == "window" and len(set(map(id, states))) < n:
            known = {}
        for i, (state, at) in enumerate(zip(states, instants, strict=True)):
            once = id(state), at
            if isinstance(state, DamagedState):
                if lookup.view.on_error == "fail":
                    refused.setdefault(i, state)
                    break
                damaged[i] = state
                answers.append(lookup.damaged)
            elif known is not None and once in known:
                answers.append(deepcopy(known[once]))  # the caller may change a list
            else:
                try:
                    answers.append(self._answer(lookup, state, at, i, ahead))
                except AsOfTooOld as error:
                    refused.setdefault(i, error)
                    break
                if known is not None:
                    known[once] = answers[-1]
        return Listed(answers, damaged)

    def _answer(
        self,
        lookup: ViewLookup,
        state: bytes | Large | None,
        at: int,
        row: int,
        ahead: Ahead | None,
    ) -> RowAnswer:
        """A view's answer for a row."""
        try:
            return lookup.answer(state, at)
        except AsOfTooOld:
            newest = lookup.newest(state)
            if ahead is None or newest <= ahead.clock:
                raise
            ahead.rows.setdefault(row, arrival_ahead(lookup.view, newest, ahead.clock))
            return lookup.erring
        except UNREADABLE as error:
            if isinstance(state, Large):
                raise UnreadLarge(state.key, error) from error
            raise

    def _check_strict(self, batch: Batch) -> None:
        """TransformError where an output of a view with on_error="fail" errs."""
        asked = [
            (self.service.outputs[o].index, view.answers(), o, name)
            for o, name in self.strict
            if isinstance(view := batch.views[self.service.outputs[o].view], Listed)
        ]
        for row in range(len(batch) if asked else 0):
            for index, answers, o, name in asked:
                if answers[row][1][index] == ERROR_STATUS:
                    raise self._erred(o, name, row)

    def _erred(self, output: int, view: str, row: int) -> TransformError:
        return TransformError(
            f"feature {self.service.outputs[output].full_name!r} erred for row {row}, and view "
            f'{view!r} says on_error="fail"'
        )

    def _with_blocks(
        self,
        states: Sequence[States],
        key_of: Callable[[int, int], bytes],
        instants: Sequence[int],
    ) -> Steps[Sequence[States]]:
        """The states of each view's rows. A state in blocks comes with the blocks that the instants
        need, which take one more round trip. `key_of` gives the key of a view's row."""
        large: dict[bytes, Large] = {}
        wanted: dict[tuple[bytes, int], None] = {}
        found = list(states)
        for v in self.splitting:
            lookup, column = self.lookups[v], list(states[v])
            asked = lookup.asked.features
            for i, blob in enumerate(column):
                if not isinstance(blob, bytes) or not is_head(blob):
                    continue
                key = key_of(v, i)
                state = large.get(key) or large.setdefault(key, lookup.open(key, blob))
                wanted |= dict.fromkeys((key, k) for k in needed(state.head, instants[i], asked))
                column[i] = state
            found[v] = column
        if wanted:
            names = [block_key(key, large[key].head.name(k)) for key, k in wanted]
            blocks = yield names
            for (key, k), block in zip(wanted, blocks, strict=True):
                large[key].take(k, block)
        return found

    def outputs(
        self, answers: list[RowAnswer], request: dict[str, Any], row: int, at: int
    ) -> RowAnswer:
        """The row's outputs as of `at`: its features, and the transforms over them (Q1).
        TransformError where one erred in a view with on_error="fail"."""
        values: Sequence[Any]
        statuses: Sequence[str]
        if len(answers) == 1 and self.in_order:
            values, statuses = answers[0]
        else:
            # A list of its own for each row: transforms append to it.
            values = list(chain.from_iterable([of_view[0] for of_view in answers]))
            statuses = list(chain.from_iterable([of_view[1] for of_view in answers]))
            if self.service.transforms:
                try:
                    self._transform(values, statuses, request, at)
                except Exception as error:
                    raise broken(f"service {self.service.name!r}", error) from error
            if not self.in_order:
                values = [values[p] for p in self.places]
                statuses = [statuses[p] for p in self.places]
        for o, view in self.strict:
            if statuses[o] == ERROR_STATUS:
                raise self._erred(o, view, row)
        return values, statuses


def _read(service: Service) -> list[set[int]]:
    """The numbers of the features that the outputs and the transforms read, for each view."""
    found: list[set[int]] = [set() for _ in service.views]
    for output in service.outputs:
        if output.view >= 0:
            found[output.view].add(output.index)
    for transform in service.transforms:
        for given in transform.inputs:
            if given.kind == "feature":
                found[given.view].add(given.index)
    return found


def _transforms(
    service: Service, first: Sequence[int], functions: Sequence[Callable[..., Any]]
) -> Callable[[list[Any], list[str], Mapping[str, Any], int], None]:
    """A function that appends the transforms' values and statuses to those of a row's features
    (Q1).

    The features of a row stand side by side; those of view v begin at `first[v]`. One function is
    written for all transforms: to look each one up for every row would cost more than most
    transforms do.
    """
    lines = ["def add(values, statuses, request, at):"]
    if service.reads("instant"):
        lines.append("    as_of = instant(at)")
    ready: set[str] = set()

    def argument(given: Input) -> str:
        if given.kind in ("request", "key"):
            return f"request[{given.name!r}]"
        if given.kind == "instant":
            return INSTANT
        if given.kind == "transform":
            return f"m{given.index}"
        at = first[given.view] + given.index
        if f"a{at}" not in ready:
            ready.add(f"a{at}")
            lines.append(f"    a{at} = ERROR if statuses[{at}] in FAILED else values[{at}]")
        return f"a{at}"

    for i, transform in enumerate(service.transforms):
        arguments = [argument(given) for given in transform.inputs]
        given = zip(arguments, transform.inputs, strict=True)
        # Reading an erring feature errs (R3).
        of_features = ("feature", "transform")
        read = list(dict.fromkeys(text for text, of in given if of.kind in of_features))
        erring = " or ".join(f"{text} is ERROR" for text in read)
        call = f"f{i}({', '.join(arguments)})"
        lines += [
            f"    m{i} = {f'ERROR if {erring} else {call}' if erring else call}",
            f"    value, status = stated(m{i})",
            "    values.append(value)",
            "    statuses.append(status)",
        ]
    lines.append("    return None")
    names = {
        "ERROR": ERROR,
        "FAILED": (ERROR_STATUS, DAMAGED),
        "stated": stated,
        "instant": instant,
    }
    namespace: dict[str, Any] = names | {f"f{i}": f for i, f in enumerate(functions)}
    exec(compile("\n".join(lines), f"<transforms of {service.name}>", "exec"), namespace)
    add: Callable[[list[Any], list[str], Mapping[str, Any], int], None] = namespace["add"]
    return add


def _takes(known: Iterable[str], missing: Sequence[str], extra: Sequence[str], name: str) -> str:
    """What rows of the service hold, after the names that others of a row probably stand for."""
    close = {one: get_close_matches(one, extra, n=1, cutoff=0.5) for one in missing}
    asked = [f"{one!r} by {found[0]!r}" for one, found in close.items() if found]
    said = f"ervice {name!r} takes exactly {_listed(known)}"
    return f"did you mean {', and '.join(asked)}? S{said}" if asked else f"s{said}"


def _listed(names: Any) -> str:
    return ", ".join(sorted(map(str, names)))
