"""A few deliveries and one question: a parity failure as a value, and how to narrow it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from featurekit.core.status import NEVER
from featurekit.core.types import INT, Type
from featurekit.define.plan import Service, View
from featurekit.parity.compare import bits


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of a source, as a push reads it: the schema's columns, `__ts` and `__created` in
    microseconds."""

    source: str
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Events in the order in which they were pushed, and one question about them.

    `row` holds the join keys and the request fields, `at` the instant in microseconds. What had
    arrived by `filled_until` comes online by a materialisation, the rest by pushes. `files` are the
    rows as they were read offline, where that is not what a push reads. `served` is the version
    that answers online, where it is another.
    """

    service: Service
    deliveries: tuple[Delivery, ...]
    row: dict[str, Any]
    at: int
    filled_until: int = NEVER
    files: tuple[Delivery, ...] | None = None
    served: Service | None = None

    @property
    def online(self) -> Service:
        """The version that answers online."""
        return self.served or self.service


def lenient(service: Service) -> Service:
    """The service with `on_error="fail"` of no view, so that errors are compared, not raised."""
    return replace(service, views=tuple(replace(v, on_error="null") for v in service.views))


def narrowed(service: Service, feature: str) -> Service:
    """The service with the one output alone, and of views and request-time transforms only what it
    reads; the service itself where nothing can be left out."""
    output = next(o for o in service.outputs if o.full_name == feature)
    used: set[tuple[int, int]] = set()
    wanted: set[int] = set()

    def need(view: int, index: int) -> None:
        if view >= 0:
            used.add((view, index))
            return
        wanted.add(index)
        for given in service.transforms[index].inputs:
            if given.kind == "feature":
                need(given.view, given.index)
            elif given.kind == "transform":
                need(-1, given.index)
            elif given.kind == "key":  # a row has it for the sake of a view
                views_of = (v for v, view in enumerate(service.views)
                            if given.name in {p.name for p in view.row_keys})  # fmt: skip
                used.add((next(views_of), 0))

    need(output.view, output.index)
    views = sorted({v for v, _ in used})
    places = {v: sorted(i for w, i in used if w == v) for v in views}
    transforms = sorted(wanted)

    def moved(view: int, index: int) -> tuple[int, int]:
        if view < 0:
            return -1, transforms.index(index)
        return views.index(view), places[view].index(index)

    made = []
    for t in transforms:
        inputs = []
        for given in service.transforms[t].inputs:
            if given.kind == "feature":
                view, index = moved(given.view, given.index)
                inputs.append(replace(given, view=view, index=index))
            elif given.kind == "transform":
                inputs.append(replace(given, index=transforms.index(given.index)))
            else:
                inputs.append(given)
        made.append(replace(service.transforms[t], inputs=tuple(inputs)))
    view, index = moved(output.view, output.index)
    requested = {g.name for t in made for g in t.inputs if g.kind == "request"}
    return replace(
        service,
        views=tuple(
            replace(service.views[v], features=tuple(service.views[v].features[i] for i in of_view))
            for v, of_view in places.items()
        ),
        transforms=tuple(made),
        outputs=(replace(output, view=view, index=index),),
        request=tuple(p for p in service.request if p.name in requested),
    )


def narrow(scenario: Scenario, feature: str) -> Scenario:
    """The scenario about one output alone, with the deliveries and fields that it reads."""
    service = narrowed(scenario.service, feature)
    served = scenario.served
    if served is not None and any(o.full_name == feature for o in served.outputs):
        served = narrowed(served, feature)
    read = {v.source.name for s in (service, served or service) for v in s.fed}
    known: set[str] = set()
    for s in (service, served or service):
        known |= {*s.join_keys, *(p.name for p in s.request)}
    files = scenario.files
    return replace(
        scenario,
        service=service,
        served=served,
        deliveries=tuple(d for d in scenario.deliveries if d.source in read),
        files=None if files is None else tuple(d for d in files if d.source in read),
        row={k: v for k, v in scenario.row.items() if k in known},
    )


def column_types(view: View) -> dict[str, Type]:
    """The columns of a row of the view's source, as a push reads it."""
    types = {p.name: p.type for p in view.source.schema}
    return types | {"__ts": INT, "__created": INT}


def by_source(deliveries: Iterable[Delivery]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each source."""
    found: dict[str, list[dict[str, Any]]] = {}
    for delivery in deliveries:
        found.setdefault(delivery.source, []).append(delivery.row)
    return found


def unite(rows: list[dict[str, Any]], more: Iterable[dict[str, Any]]) -> None:
    """Add the rows of another view of the source, but for those that are there, bit for bit."""
    known = Counter(repr(bits(row)) for row in rows)
    for row in more:
        mark = repr(bits(row))
        if known[mark] > 0:
            known[mark] -= 1
        else:
            rows.append(row)


def partners(scenario: Scenario) -> list[int | None]:
    """For each delivery the number of the file's row that it is, None where there is none: an equal
    one, or one that differs only in its instants, or, where there are as many of one as of the
    other, the one in its place. Copies of a row that was pushed again are one row."""
    files, deliveries = scenario.files, scenario.deliveries
    if files is None:
        return [None] * len(deliveries)

    def values(delivery: Delivery) -> Any:
        named = {n: v for n, v in delivery.row.items() if not n.startswith("__")}
        return delivery.source, bits(named)

    def instants(delivery: Delivery) -> Any:
        return delivery.source, delivery.row["__ts"], delivery.row["__created"]

    if len(files) == len(deliveries) and all(
        values(f) == values(d) or instants(f) == instants(d)
        for f, d in zip(files, deliveries, strict=True)
    ):
        return list(range(len(files)))
    equal: dict[Any, int] = {}
    for i, row in enumerate(files):
        equal.setdefault((values(row), instants(row)), i)
    found = [equal.get((values(d), instants(d))) for d in deliveries]
    alike: dict[Any, int] = {}
    for i in sorted(set(range(len(files))) - {*found}):
        alike.setdefault(values(files[i]), i)
    return [
        alike.get(values(d)) if i is None else i for d, i in zip(deliveries, found, strict=True)
    ]
