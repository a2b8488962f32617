"""Holds a service to parity in a test: literal events, some questions, and both paths' answers,
which the test can then hold to what it expects.

The events go the two ways that events of a source go: through a Parquet file that DuckDB reads, and
through the checks of a push. Nothing else is read, and no Redis is needed.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.arrays import array_of
from featurekit.core.calls import near
from featurekit.core.timezones import to_utc_us, zone
from featurekit.core.types import DATETIME, EPOCH, INT, MICROSECOND, micros
from featurekit.define.arrivals import LATEST_US, delay_us
from featurekit.define.compile_service import compile_service
from featurekit.define.contracts.rules import Ready
from featurekit.define.definitions import EventSource, FeatureService
from featurekit.define.plan import Service, Source
from featurekit.errors import DefinitionError, EntityFrameError

if TYPE_CHECKING:
    from featurekit.parity.bench import Bench
    from featurekit.parity.compare import Stated
    from featurekit.parity.scenario import Delivery, Scenario

ARRIVAL = "__created"
"""The key under which a row of a source without a created_timestamp_column may bring the instant of
its arrival, as a live push is stamped (T3)."""

_ARRIVAL, _PLACE = "arrival_of_the_row", "place_of_the_row"


class ParityError(AssertionError):
    """Both paths were asked, and do not agree; `diagnosis` says where and why."""

    def __init__(self, message: str, diagnosis: Any) -> None:
        super().__init__(message)
        self.diagnosis = diagnosis


class Values(list[dict[str, Any]]):
    """What both paths answer: a dict for each entity row, of each feature's value by its name.

    `statuses` has a dict for each row as well: PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE or
    ERROR.
    """

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[dict[str, str]] = []


def values(
    service: FeatureService | Service | str,
    events: Mapping[str, Iterable[Mapping[str, Any]]],
    entity_rows: Sequence[Mapping[str, Any]],
    *,
    features: Sequence[str] | None = None,
    repo: str | Path | None = None,
) -> Values:
    """The features of each of `entity_rows` after `events`, computed on both paths and compared.

    `values(my_service, {"orders": [{…}]}, [{"customer_id": 1, "event_timestamp": T}])` is a list
    with a dict for each row: `[0]["spend_7d"]` is what a window holds. A value is an int, a float,
    a str and so on, None where there is none, and a NaN is a value. Arguments and errors are those
    of `assert_parity`.
    """
    return assert_parity(service, events, entity_rows, features=features, repo=repo)


def assert_parity(
    service: FeatureService | Service | str,
    events: Mapping[str, Iterable[Mapping[str, Any]]],
    entity_rows: Sequence[Mapping[str, Any]],
    *,
    features: Sequence[str] | None = None,
    repo: str | Path | None = None,
) -> Values:
    """Hold every feature of the service to the same type, bits and status on both paths; the
    values, which both agree on.

    `events` has the rows of each source by its name, in the order in which they are pushed: the
    columns of its schema, and its timestamps, datetimes. Sources that are not named have none.
    Where rows take features from other views, all rows are pushed twice: in the order of their
    arrival, and those that take behind all others.
    Each of `entity_rows` brings the join keys, `event_timestamp` and the request fields.
    `features`, names or view__name, asks about those alone; then the request fields that they do
    not read may be left out. `service` is a FeatureService, a compiled one, or the name of one that
    the feature repo in `repo` defines (default: the folder, or its feature_repo).

    A feature has the name by which it was asked for, by default its short one.

    ParityError, an AssertionError, with the diagnosis of the first value that differs. The errors
    of bad rows are those of a push (S1) and of an entity frame (S2). The same input always gives
    the same result.
    """
    from featurekit.parity.bench import bench, differing
    from featurekit.parity.diagnose.diagnose import diagnose
    from featurekit.parity.taken import in_turns

    compiled = compiled_service(service, repo)
    chosen = _outputs(compiled, features)
    made = Values()
    with bench() as opened:
        pushed, files = _read(opened, compiled, events)
        failing: list[tuple[Scenario, str]] = []
        asked = 0
        for number, row in enumerate(entity_rows):
            stated: dict[str, Stated] = {}
            for scenario, names in _scenarios(compiled, [*chosen], pushed, files, row, number):
                for pushed_so in in_turns(scenario):
                    opinions = opened.both(pushed_so)
                    failing += [(pushed_so, n) for n in differing(opinions) if n in names]
                stated |= {name: opinions[name][1] for name in names}
                asked += len(names)
            made.append({shown: stated[name][0] for name, shown in chosen.items()})
            made.statuses.append({shown: stated[name][1] for name, shown in chosen.items()})
    if not asked:
        raise EntityFrameError("entity_rows is empty, so nothing would be compared; write a row")
    if failing:
        diagnosis = diagnose(*failing[0])
        more = "" if len(failing) == 1 else f" ({len(failing)} of {asked} values differ)"
        raise ParityError(f"{diagnosis.text()}{more}", diagnosis)
    return made


def compiled_service(service: FeatureService | Service | str, repo: str | Path | None) -> Service:
    """The compiled service; of a name, the one that a feature repo defines."""
    if isinstance(service, FeatureService):
        return compile_service(service)
    if isinstance(service, Service):
        return service
    from featurekit.define.repo import load_repo
    from featurekit.project.config import FILE, load_config

    folder = Path(repo) if repo is not None else Path()
    if repo is None and not (folder / "feature_store.yaml").is_file():
        folder = folder / "feature_repo"
    if not folder.is_dir():
        raise DefinitionError(
            f"there is no feature repo {folder} in {Path.cwd()} to look for service {service!r} "
            "in; name one with repo=…, for the fixture as featurekit_repo in the ini file, or hand "
            "over the FeatureService itself"
        )
    settings = folder / FILE
    ignore = load_config(folder).featurekit.ignore if settings.is_file() else ()
    services = load_repo(folder, ignore).compiled_services
    if service not in services:
        known = near(service, services, listed="there are:")
        raise DefinitionError(f"{folder} defines no service {service!r}; {known}")
    return services[service]


def _outputs(service: Service, features: Sequence[str] | None) -> dict[str, str]:
    """The full names of the outputs that are meant, each with the name that is shown."""
    if features is None:
        return {o.full_name: o.name for o in service.outputs}
    by_name = {o.name: o.full_name for o in service.outputs}
    by_name |= {o.full_name: o.full_name for o in service.outputs}
    unknown = [f for f in features if f not in by_name]
    if unknown:
        raise DefinitionError(
            f"service {service.name!r} has no feature {unknown[0]!r}; it has "
            f"{', '.join(o.full_name for o in service.outputs)}"
        )
    return {by_name[f]: f for f in features}


def _scenarios(
    service: Service,
    names: list[str],
    pushed: tuple[Delivery, ...],
    files: tuple[Delivery, ...] | None,
    row: Mapping[str, Any],
    number: int,
) -> list[tuple[Scenario, list[str]]]:
    """The questions that a row asks: one about the service, or where it leaves request fields out,
    one about each feature."""
    from featurekit.parity.scenario import Scenario, narrow

    if "event_timestamp" not in row:
        raise EntityFrameError(f"entity row {number} lacks event_timestamp, a datetime")
    at = row["event_timestamp"]
    if not isinstance(at, dt.datetime):
        raise EntityFrameError(f"entity row {number}: event_timestamp is {at!r}, and no datetime")
    given = {n: v for n, v in row.items() if n != "event_timestamp"}
    scenario = Scenario(service, pushed, given, micros(at), files=files)
    known = {*service.join_keys, *(p.name for p in service.request)}
    extra = sorted(given.keys() - known)
    if extra:
        raise EntityFrameError(
            f"entity row {number} has {', '.join(extra)}; service {service.name!r} takes "
            f"{', '.join(sorted(known))}"
        )
    if given.keys() == known:
        return [(scenario, names)]
    made = []
    for name in names:
        one = narrow(scenario, name)
        wanted = {*one.service.join_keys, *(p.name for p in one.service.request)}
        missing = sorted(wanted - given.keys())
        if missing:
            raise EntityFrameError(
                f"entity row {number} lacks {', '.join(missing)}, which {name} reads"
            )
        made.append((one, [name]))
    return made


# --- the events, read both ways -------------------------------------------------------------------


def _read(
    bench: Bench, service: Service, events: Mapping[str, Iterable[Mapping[str, Any]]]
) -> tuple[tuple[Delivery, ...], tuple[Delivery, ...] | None]:
    """The rows as a push reads them, and as DuckDB reads them from a file; None where both are the
    same."""
    from featurekit.define.union import bare_rows, taken_sql
    from featurekit.offline.enriched import unenriched_sql
    from featurekit.parity.compare import bits
    from featurekit.parity.scenario import Delivery
    from featurekit.sources.rows import as_pushed

    read = {v.source.name: v.source for v in service.fed}
    sources = {one.name: one for source in read.values() for one in source.sources}
    unknown = sorted(events.keys() - sources.keys())
    if unknown:
        raise DefinitionError(
            f"service {service.name!r} reads no source {unknown[0]!r}; it reads "
            f"{', '.join(sources)}"
        )
    pushed: list[Delivery] = []
    files: list[Delivery] = []
    with tempfile.TemporaryDirectory(prefix="featurekit-") as folder:
        for name, rows in events.items():
            source = _definition(sources[name], Path(folder) / f"{name}.parquet")
            delay = delay_us(sources[name].arrives) or 0
            local = _written(source, [dict(row) for row in rows], delay)
            if local:
                given = as_pushed(source, local)
                relation = _relation(bench.con, source, local)
                for of in read.values():
                    if name in {one.name for one in of.sources}:
                        mine = bare_rows(of, name, given)
                        pushed += [Delivery(of.name, dict(row)) for row in mine]
                        part = next((p for p in of.parts or () if p.source.name == name), None)
                        bare = relation if part is None else unenriched_sql(part, relation)
                        found = _as_read(bench.con, of, taken_sql(of, name, bare, [_PLACE]))
                        files += [Delivery(of.name, row) for row in found]
    same = [bits(d.row) for d in pushed] == [bits(d.row) for d in files]
    return tuple(pushed), None if same else tuple(files)


def _definition(source: Any, path: Path) -> EventSource:
    """The EventSource of a compiled one, at another path."""
    return EventSource(
        source.name,
        path=str(path),
        schema={p.name: p.type for p in source.schema},
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column or _ARRIVAL,
        timezone=source.timezone,
        event_id=source.event_id,
        op=source.op,
        expect=[
            Ready(check, severity="quarantine", name=f"rule_{number}")
            for number, check in enumerate(source.aside or ())
        ],
    )


def _written(source: EventSource, rows: list[dict[str, Any]], delay: int) -> list[dict[str, Any]]:
    """The rows with an arrival, by default `delay` microseconds after they happened; their
    timestamps as local times of the source where all of them can be told from one another so, as
    files have them; else as instants."""
    fields = [source.timestamp_field, source.created_timestamp_column or _ARRIVAL]
    named = zone(source.timezone)
    local = True
    for number, row in enumerate(rows):
        if fields[1] == _ARRIVAL:
            row[_ARRIVAL] = row.pop(ARRIVAL, _after(row.get(fields[0]), source.timezone, delay))
        for name in fields:
            at = row.get(name)
            if not isinstance(at, dt.datetime):
                raise EntityFrameError(
                    f"event {number} of {source.name}: {name} is {at!r}, and no datetime"
                )
            if at.tzinfo is not None:
                naive = at.astimezone(named).replace(tzinfo=None, fold=0)
                local = local and to_utc_us(naive, source.timezone) == micros(at)
    for row in rows:
        for name in fields:
            at = row[name]
            if local and at.tzinfo is not None:
                row[name] = at.astimezone(named).replace(tzinfo=None, fold=0)
            elif not local and at.tzinfo is None:
                row[name] = EPOCH + to_utc_us(at, source.timezone) * MICROSECOND
    return rows


def _after(at: Any, timezone: str, delay: int) -> Any:
    """The instant so many microseconds after another one, which may be of local time."""
    if not delay or not isinstance(at, dt.datetime):
        return at
    us = to_utc_us(at, timezone) if at.tzinfo is None else micros(at)
    return EPOCH + min(us + delay, LATEST_US) * MICROSECOND


def _relation(con: Any, source: EventSource, rows: list[dict[str, Any]]) -> str:
    """The rows as a training set reads them from a Parquet file, with their places."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from featurekit.sources import read_events

    instants = (source.timestamp_field, source.created_timestamp_column or _ARRIVAL)
    types = dict(source.schema) | dict.fromkeys(instants, DATETIME)
    columns = {}
    for name, type_ in types.items():
        values = [row.get(name) for row in rows]
        naive = any(isinstance(v, dt.datetime) and v.tzinfo is None for v in values)
        arrow = pa.timestamp("us") if naive and type_.base == DATETIME else type_.arrow
        columns[name] = array_of(values, arrow)
    columns[_PLACE] = pa.array(range(len(rows)), type=pa.int64())
    pq.write_table(pa.table(columns), source.path)
    numbered = replace(source, schema={**source.schema, _PLACE: INT})
    aside = Path(source.path).parent if source.expect else None
    return read_events(con, numbered, base=Path(), state_dir=aside).relation


def _as_read(con: Any, source: Source, relation: str) -> list[dict[str, Any]]:
    """The rows of a relation that has their places, in this order."""
    from featurekit.core import tables

    shown = {p.name: p.type for p in source.schema} | {"__ts": INT, "__created": INT}
    return tables.rows(con, relation, shown, then=f"ORDER BY {_PLACE}")
