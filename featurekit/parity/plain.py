"""Calls the repo's plain Python functions on a sample of rows: the third opinion of R1.

Both paths compute what the parser made of a function. So where the parser reads something else than
the function is, they agree with each other; only the function itself tells.
"""

from __future__ import annotations

import builtins
import inspect
import itertools
import random
import types as pytypes
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.aggregates.base import Aggregate
from featurekit.core.coerce import returned
from featurekit.core.sql import quote
from featurekit.core.tables import Row, in_types, temp_table
from featurekit.core.timezones import zone
from featurekit.core.types import BOOL, FLOAT, INT, instant
from featurekit.core.values import ERROR
from featurekit.define.definitions import EventSource, FeatureView, Joined, Union
from featurekit.define.explode import exploded_rows
from featurekit.define.plan import RequestTransform, Service, View
from featurekit.define.repo import Repo
from featurekit.language import ir, walk
from featurekit.language.ops.listing import exact_sum
from featurekit.language.parse.helpers import of_user
from featurekit.language.python_calls import register_python_ops
from featurekit.language.results import field_of
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.language.to_python import to_python
from featurekit.language.transform import Transform
from featurekit.parity.compare import bits
from featurekit.parity.report import Difference, Report

PLAIN = "calls of plain functions"
"""What a report calls this opinion."""

Give = Callable[[RequestTransform], Iterable[Sequence[Any]]]
"""Gives arguments for a transform of a service."""

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class PlainFunction:
    """A function of the repo beside what was compiled of it. `call` takes the arguments of the
    compiled function, in their order."""

    label: str
    function: ir.Function
    call: Callable[..., Any]


def check_plain_rows(
    report: Report,
    con: Any,
    repo: Repo,
    service: Service,
    rows: Mapping[str, Sequence[Row]],
    rng: random.Random,
) -> None:
    """Compare every transform of the service's views with its plain function, over rows of the
    source that it reads. Versions of views that the repo does not define are left out."""
    for view in service.stored:
        written = repo.views.get(view.name)
        compiled = repo.compiled_views.get(view.name)
        if written is None or compiled is None or compiled.fingerprint != view.fingerprint:
            report.notes.append(f"view {view.name!r} is of another version than the repo's: its "
                                "functions were not called")  # fmt: skip
            continue
        of_view = rows.get(view.source.name, ())
        if not view.each_row_an_event:
            of_view = exploded_rows(view, of_view)
        for one in _of_slots(written, compiled):
            given = [[row[p.name] for p in one.function.params] for row in of_view]
            _compare(report, con, one, given)
        for one, inputs in _of_instants(written, compiled):
            given = []
            for row in of_view:
                at = instant(min(max(row["__ts"] + rng.randint(0, 10**11), 0), 2**57))
                values = [at if i is None else _slot(compiled, i, row) for i in inputs]
                given += [] if any(v is ERROR for v in values) else [values]
            _compare(report, con, one, given)


def check_plain_requests(
    report: Report, con: Any, repo: Repo, service: Service, give: Give
) -> None:
    """Compare every transform of the service with its plain function, over arguments that are
    given."""
    written = repo.services.get(service.name)
    compiled = repo.compiled_services.get(service.name)
    if written is None or compiled is None or compiled.fingerprint != service.fingerprint:
        return
    named = {item.name: item for item in written.features if isinstance(item, Transform)}
    for output in service.outputs:
        if output.view < 0:
            transform = service.transforms[output.index]
            plain = _called(named[output.name], transform.function)
            one = PlainFunction(f"{output.name} as plain Python", transform.function, plain)
            _compare(report, con, one, give(transform))


# --- which functions ------------------------------------------------------------------------------


def _of_slots(written: FeatureView, compiled: View) -> Iterator[PlainFunction]:
    seen: set[int] = set()
    for feature in compiled.features:
        value = written.features[feature.name]
        pairs: list[tuple[Any, int | None]] = [(value, feature.slot)]
        if isinstance(value, Aggregate):
            input = None if value.paired else value.input
            pairs = [(input, feature.slot), (value.where, feature.where), (value.by, feature.by)]
        for one, slot in pairs:
            if isinstance(one, Transform) and slot is not None and slot not in seen:
                seen.add(slot)
                function = compiled.slots[slot].transform
                assert function is not None
                label = f"{written.name}: {one.name} as plain Python"
                yield PlainFunction(label, function, _over_row(written.source, one, function))


def _of_instants(
    written: FeatureView, compiled: View
) -> Iterator[tuple[PlainFunction, tuple[int | None, ...]]]:
    """The transforms of the latest row that take the instant, with the slots of their inputs."""
    for feature in compiled.features:
        value = written.features[feature.name]
        if feature.asked is not None and isinstance(value, Transform):
            function = feature.asked.function
            label = f"{written.name}: {value.name} as plain Python"
            plain = PlainFunction(label, function, _called(value, function))
            yield plain, feature.asked.inputs


def _slot(view: View, slot: int, row: Row) -> Any:
    made = view.slots[slot]
    if made.transform is None:
        return row[made.column or ""]
    return to_python(made.transform)(*[row[p.name] for p in made.transform.params])


def _over_row(
    source: EventSource | Joined | Union | FeatureView, transform: Transform, function: ir.Function
) -> Callable[..., Any]:
    """The transform over the columns of the EventSource or union, through any views between."""
    value = _column_of(source, transform)
    names = [p.name for p in function.params]
    return lambda *given: value(dict(zip(names, given, strict=True)))


def _column_of(
    source: EventSource | Joined | Union | FeatureView, of: str | Transform
) -> Callable[[Mapping[str, Any]], Any]:
    """What a view computes of a row: a column of its source, or a transform of such columns."""
    if isinstance(of, Transform):
        names = [n for n in of.parameters if n not in of.defaults]
        columns = [_column_of(source, name) for name in names]
        plain = _plain_call(of, names)
        return lambda row: plain(*[column(row) for column in columns])
    if not isinstance(source, FeatureView) or of not in source.features:
        return lambda row: row[of]
    inner = source.features[of]
    assert isinstance(inner, (str, Transform))
    return _column_of(source.source, inner)


def _called(transform: Transform, function: ir.Function) -> Callable[..., Any]:
    """The transform, called with the arguments of the compiled function."""
    return _plain_call(transform, [p.name for p in function.params])


def _plain_call(transform: Transform, names: Sequence[str]) -> Callable[..., Any]:
    compiled = transform.on_unsupported != "python"
    plain = rebuilt(transform.function) if compiled else transform.function
    parameters = inspect.signature(plain).parameters
    named = [n for n in names if parameters[n].kind is inspect.Parameter.KEYWORD_ONLY]

    def called(*given: Any) -> Any:
        values = dict(zip(names, given, strict=True))
        others = {name: values.pop(name) for name in named}
        first = [values[n] for n in parameters if n in values]
        found = plain(*first, **others)
        return found if transform.field is None else field_of(found, transform.field)

    return called


def rebuilt(function: Any) -> Any:
    """The function with the two names that the rules define otherwise than Python: `sum` of floats,
    which is exact, and time zones, which are those of the pinned package (T2)."""
    return _rebuilt(function, {})


def _rebuilt(function: Any, spaces: dict[int, dict[str, Any]]) -> Any:
    if not isinstance(function, pytypes.FunctionType):
        return function  # a decorator's: it is called as it is
    own = function.__globals__
    space = spaces.get(id(own))
    if space is None:
        space = spaces[id(own)] = dict(own)
        space["__builtins__"] = {**vars(builtins), "sum": _sum}
        for name, value in own.items():
            if isinstance(value, Transform):
                space[name] = _Called(_rebuilt(value.function, spaces))
            elif isinstance(value, pytypes.FunctionType) and of_user(value):
                space[name] = _rebuilt(value, spaces)
            elif value is zoneinfo.ZoneInfo:
                space[name] = zone
    made = pytypes.FunctionType(
        function.__code__, space, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    return made


@dataclass(frozen=True, slots=True)
class _Called:
    """A transform that another function calls."""

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def _sum(values: Iterable[Any], /, start: Any = 0) -> Any:
    items = list(values)
    if any(isinstance(v, float) for v in (*items, start)):
        return exact_sum([start, *items]) if items or start != 0 else start
    return sum(items, start)


# --- what they say --------------------------------------------------------------------------------


def _compare(report: Report, con: Any, one: PlainFunction, given: Iterable[Sequence[Any]]) -> None:
    rows = [list(arguments) for arguments in given]
    if not rows:
        return
    evaluate, unsure = to_python(one.function), _unsure(one.function)
    compared = differing = 0
    for arguments, offline in zip(rows, _offline(con, one.function, rows), strict=True):
        online, plain = evaluate(*arguments), _plain(one, arguments)
        if unsure and plain is not ERROR and (offline is ERROR or online is ERROR):
            continue  # it may have left int64 on the way, which plain Python does not notice
        compared += 1
        said = next((v for v in (offline, online) if bits(v) != bits(plain)), plain)
        if said is not plain:
            differing += 1
            row = {p.name: v for p, v in zip(one.function.params, arguments, strict=True)}
            pair = (_shown(said), "COMPILED"), (_shown(plain), "CALLED")
            report.keep(Difference(one.label, row, "", *pair))
    report.opinions[PLAIN] += compared
    if differing:
        report.count(one.label, compared=compared, differing=differing)


def _shown(value: Any) -> Any:
    return None if value is ERROR else value


def _unsure(function: ir.Function) -> bool:
    """Whether what was compiled may err where plain Python goes on: an int outside int64, an
    instant without a zone."""
    if any(isinstance(statement, ir.Verbatim) for statement in function.body):
        return False
    types = {p.type.name for p in function.params} | {function.returns.name}
    types |= {getattr(getattr(n, "type", None), "name", "") for n in walk.nodes(function.body)}
    return bool(types & {"int", "timedelta", "datetime"})


def _plain(one: PlainFunction, arguments: Sequence[Any]) -> Any:
    """What the plain function gives, in its declared type; ERROR where it raises (R3)."""
    own = [list(v) if isinstance(v, (list, tuple)) else v for v in arguments]
    try:
        return returned(one.call(*own), one.function.returns)
    except Exception:  # the author's code may raise anything: it errs (R3)
        return ERROR


def _offline(con: Any, function: ir.Function, rows: Sequence[Sequence[Any]]) -> list[Any]:
    """What DuckDB makes of calls with these arguments; ERROR where one errs."""
    types = {"__row": INT} | {p.name: p.type for p in function.params}
    numbered = [[i, *arguments] for i, arguments in enumerate(rows)]
    table = temp_table(con, f"__plain_{next(_numbers)}", types, numbered)
    lowering = Lowering()
    value = lower(lowering, function, [Value(Sql(quote(p.name))) for p in function.params])
    register_python_ops(con, lowering.python_ops)
    error = "FALSE" if value.error is None else value.error.text
    text = value.sql.text
    if function.returns.base == FLOAT:  # one NaN, whatever payload the arithmetic left (S1)
        text = f"CASE WHEN isnan({text}) THEN 'nan'::DOUBLE ELSE {text} END"
    made = con.sql(
        f"SELECT {text} AS v, {error} AS e FROM {lowering.wrap(table)} ORDER BY __row"
    ).to_arrow_table()
    con.execute(f"DROP TABLE {table}")
    made = in_types(made, {"v": function.returns, "e": BOOL})
    values = made.column("v").to_pylist(maps_as_pydicts="strict")
    errs = made.column("e").to_pylist()
    optional = function.returns.optional
    return [
        ERROR if err or (v is None and not optional) else v
        for v, err in zip(values, errs, strict=True)
    ]
